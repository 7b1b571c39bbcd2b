// A node of the built program for these tests, by the helpers of the end-to-end tests.

// @ts-expect-error: JavaScript without types.
import * as slotcast from '../../../tests/e2e/lib/slotcast.mjs';
// @ts-expect-error: JavaScript without types.
import * as tokens from '../../../tests/e2e/lib/tokens.mjs';

/** What these tests use of a node. */
export interface LiveNode {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
}

export const startNode = slotcast.startSlotcast as (options?: object) => Promise<LiveNode>;
export const userToken = tokens.userToken as (user: number | string, claims?: object) => string;
export const staffToken = tokens.staffToken as (claims?: object) => string;

/** Asks again until the answer is truthy, and gives it. */
export async function eventually<T>(ask: () => T | Promise<T>, what: string, deadline = 30_000): Promise<NonNullable<T>> {
  const end = Date.now() + deadline;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`${what}: not within ${deadline} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** `YYYY-MM-DD` in Rome, some days from now, counted on the calendar. */
export function day(offset: number): string {
  const date = new Date(new Intl.DateTimeFormat('en-CA', { timeZone: 'Europe/Rome' }).format());
  date.setUTCDate(date.getUTCDate() + offset);
  return date.toISOString().slice(0, 10);
}
