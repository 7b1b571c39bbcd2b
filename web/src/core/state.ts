/**
 * What is known of one space: one immutable value, the same object until something changes.
 *
 * The server tells one version a space and entries a day. Everything else (`past`, the end of a hold, what is about to
 * end) follows from these and the time, which is told by events like any other.
 */

import type { DayDate, Position, SpaceId, Status } from './protocol.js';

/** One slot as it is at {@link SpaceState.now}. Instants are milliseconds since 1970 UTC by the server's clock. */
export interface Slot {
  readonly number: number;
  /** Local start, `HH:MM`, in the space's zone. */
  readonly orario: string;
  readonly startsAt: number | null;
  readonly endsAt: number | null;
  readonly status: Status;
  /** Whether this user holds or has booked it. */
  readonly mine: boolean;
  readonly heldUntil: number | null;
  readonly holdToken: string | null;
  readonly heldAt: number | null;
  readonly extendableUntil: number | null;
  /** Until when an own booking can be cancelled; `null` where it cannot, or where it is not known. */
  readonly cancelUntil: number | null;
  /** An own hold that ends within a minute. */
  readonly isEnding: boolean;
  /** The user who has it. Only staff are told. */
  readonly user: string | null;
  /** Staff's own fields. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** The name of an act. */
export type Act = 'hold' | 'book' | 'release' | 'extend';

/** An act that was sent and whose effect is not seen yet. */
export interface Pending {
  readonly id: number;
  readonly act: Act;
  readonly date: DayDate;
  readonly slots: readonly number[];
  /** When it was sent. */
  readonly since: number;
  /** Whether the answer is so late that the connection may be gone. */
  readonly isDoubtful: boolean;
  /** The position of its effect; `null` until the answer. */
  readonly at: Position | null;
  /** When it was answered. */
  readonly answeredAt: number | null;
}

/** An own hold that has ended, which the board tells for a while. */
export interface Ended {
  readonly date: DayDate;
  readonly slots: readonly number[];
  readonly at: number;
}

/** One day of a space. */
export interface DayState {
  readonly date: DayDate;
  /** Whether `slots` is what the server has at {@link SpaceState.position}. */
  readonly inSync: boolean;
  /** Whether anything was ever known of the day: what is shown while `inSync` is false may be old. */
  readonly isKnown: boolean;
  readonly slots: readonly Slot[];
  /** The entries that `slots` are made of, without the effects of time. */
  readonly entries: ReadonlyMap<number, Entry>;
}

/** A slot as the server told it. */
export interface Entry {
  /** Where the space stood when it was told. */
  readonly at: Position;
  readonly number: number;
  readonly orario: string;
  readonly startsAt: number | null;
  readonly endsAt: number | null;
  readonly status: Status;
  /** `null` where it was not told: a server of 0.2 tells it of this user's slots only. */
  readonly mine: boolean | null;
  readonly heldUntil: number | null;
  readonly holdToken: string | null;
  readonly heldAt: number | null;
  readonly extendableUntil: number | null;
  readonly cancelUntil: number | null;
  readonly user: string | null;
  readonly data: Readonly<Record<string, unknown>>;
}

/** How the connection is. */
export type Link = 'connecting' | 'online' | 'offline';

/** One space. */
export interface SpaceState extends SpaceId {
  readonly link: Link;
  /** Since when it is offline. */
  readonly offlineSince: number | null;
  /** Whether the server sends this space's events. */
  readonly isJoined: boolean;
  /** The last version that was applied; `null` before the first. */
  readonly position: Position | null;
  /** The furthest position of an event that could not be applied; `null` if every event was applied. */
  readonly ahead: Position | null;
  /** The last epochs that seem to be over. A message of one of them means that the present epoch is unknown. */
  readonly pastEpochs: readonly string[];
  readonly timeZone: string | null;
  /** What the space is called; `null` where it has no name, and until the server has told it. */
  readonly name: string | null;
  readonly days: ReadonlyMap<DayDate, DayState>;
  readonly pending: readonly Pending[];
  readonly ended: readonly Ended[];
  /** The server's time as of the last event that told it. */
  readonly now: number;
  /** Why the space cannot be followed; `null` while it can. */
  readonly refusal: { readonly code: string; readonly message: string } | null;
}

/** A space before the first event. */
export function initialState(space: SpaceId, now: number): SpaceState {
  return {
    sedeId: space.sedeId,
    spazioId: space.spazioId,
    link: 'connecting',
    offlineSince: null,
    isJoined: false,
    position: null,
    ahead: null,
    pastEpochs: [],
    timeZone: null,
    name: null,
    days: new Map(),
    pending: [],
    ended: [],
    now,
    refusal: null,
  };
}
