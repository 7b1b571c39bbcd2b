/** How a call ends without what was asked for. */

/**
 * A no from the server, or from here when there was no answer.
 *
 * `code` is a code of the contract; or `offline`: nothing was sent; `timeout`: it was sent, and whether it was done is
 * unknown (repeating it is safe); `closed`: the client was closed. `conflicts` lists the slots that stood in the way.
 */
export class Refusal extends Error {
  readonly code: string;
  readonly conflicts: readonly number[];

  constructor(code: string, message: string, conflicts: readonly number[] = []) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
    this.conflicts = conflicts;
  }

  /** Whether the same call may be answered otherwise in a moment. */
  get isPassing(): boolean {
    return PASSING.has(this.code);
  }
}

const PASSING: ReadonlySet<string> = new Set(['offline', 'timeout', 'unavailable', 'draining']);
