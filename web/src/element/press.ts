/** For a second after a press, what has come to stand at its place cannot be pressed. */

/** How long, in ms. */
export const GUARD_MS = 1_000;

/** How near counts as the same place, in CSS pixels: the size of a finger. */
const NEAR_PX = 44;

interface Press {
  readonly what: string;
  readonly x: number;
  readonly y: number;
  readonly at: number;
}

/** Remembers the last press, and says which of the next ones count. */
export class PressGuard {
  #last: Press | undefined;

  /** Whether a press counts. `what` names the control; one by the keyboard has no place, and always counts. */
  admits(what: string, event: MouseEvent, now: number): boolean {
    if (event.detail === 0) return true;
    const press = { what, x: event.clientX, y: event.clientY, at: now };
    const last = this.#last;
    const isNear = last !== undefined && Math.hypot(last.x - press.x, last.y - press.y) < NEAR_PX;
    const isIntruder = isNear && last.what !== what && now - last.at < GUARD_MS;
    if (!isIntruder) this.#last = press;
    return !isIntruder;
  }
}
