/**
 * All sentences that a person reads, one function or text a sentence, so that a language is complete or does not compile.
 * A host may replace any of them: `{ ...italian, hold: 'Tieni' }`.
 */

import type { Status } from '../core/protocol.js';

/** The codes for which there is a sentence of their own; any other code has {@link Texts.refusals.other}. */
export type RefusalCode =
  | 'slot_unavailable'
  | 'past'
  | 'too_many_holds'
  | 'not_held'
  | 'hold_expired'
  | 'hold_limit'
  | 'too_late'
  | 'rate_limited'
  | 'unavailable'
  | 'unauthorized'
  | 'forbidden'
  | 'space_not_found'
  | 'bad_date'
  | 'timeout'
  | 'offline'
  | 'closed'
  | 'other';

/** One language. Spans are ready text such as `10:00-12:00`. */
export interface Texts {
  readonly language: string;
  readonly status: Readonly<Record<Status, string>>;
  readonly yours: string;
  /** An own hold, by one word. */
  readonly ownHold: string;
  readonly hold: string;
  readonly book: string;
  readonly release: string;
  readonly extend: string;
  readonly cancel: string;
  readonly close: string;
  readonly previousDay: string;
  readonly nextDay: string;
  readonly today: string;
  readonly earlier: string;
  readonly later: string;
  readonly startOfChoice: string;
  readonly endOfChoice: string;
  readonly clear: string;
  readonly chooseHint: string;
  readonly staffHint: string;
  readonly free: string;
  readonly markBooked: string;
  readonly closeSlots: string;
  readonly changed: (span: string) => string;
  readonly atMost: (count: number) => string;
  readonly userIs: (user: string) => string;
  readonly refusedLink: string;
  readonly closedLink: string;
  readonly actsOnHold: (span: string) => string;
  readonly spaceName: (space: number, site: number) => string;
  readonly slotsOf: (space: string, day: string) => string;
  readonly until: (time: string) => string;
  readonly span: (from: string, to: string) => string;
  readonly chosen: (span: string, duration: string) => string;
  readonly stoppedAt: (span: string, status: string) => string;
  readonly lost: (span: string) => string;
  readonly offerRest: (span: string) => string;
  readonly nothingLeft: (span: string) => string;
  readonly heldByYou: (span: string, left: string) => string;
  readonly heldByOther: (atMost: string) => string;
  readonly ending: (span: string, left: string) => string;
  readonly ended: (span: string) => string;
  readonly holdAgain: string;
  readonly asking: string;
  readonly stillAsking: string;
  readonly doubt: string;
  readonly tryAgain: string;
  readonly held: (span: string) => string;
  readonly booked: (span: string) => string;
  readonly released: (span: string) => string;
  readonly extended: (span: string) => string;
  readonly cancelled: (span: string) => string;
  readonly yourBookings: string;
  readonly cancelUntil: (time: string) => string;
  readonly notCancellable: string;
  readonly live: string;
  readonly catchingUp: string;
  readonly connecting: string;
  readonly offlineSince: (time: string) => string;
  readonly signIn: string;
  readonly signInHint: string;
  readonly closedDay: string;
  readonly zone: (name: string) => string;
  readonly alsoForYou: (span: string) => string;
  readonly minutes: (count: number) => string;
  readonly hours: (count: number) => string;
  readonly changes: (taken: number, freed: number) => string;
  readonly refusals: Readonly<Record<RefusalCode, (detail: RefusalDetail) => string>>;
}

/** What a refusal's sentence may name. */
export interface RefusalDetail {
  /** The spans that stood in the way, ready text; may be empty. */
  readonly conflicts: string;
  /** What is still free of what was asked for; may be empty. */
  readonly rest: string;
  readonly code: string;
}

/** What to say of a refusal: a node that is leaving is one that cannot answer now. */
export function sayRefusal({ refusals }: Texts, detail: RefusalDetail): string {
  const code = detail.code === 'draining' ? 'unavailable' : detail.code;
  return (refusals[code as RefusalCode] ?? refusals.other)(detail);
}

/** The form of a word for a count, by the language's own rules. */
export function plural(language: string, count: number, one: string, other: string): string {
  return new Intl.PluralRules(language).select(count) === 'one' ? one : other;
}
