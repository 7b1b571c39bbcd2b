/**
 * What the server sends and takes, as the wire contract has it. Names on the wire are Italian where the origin's are.
 */

/** A status of a slot. */
export type Status = 'available' | 'occupied' | 'booked' | 'blocked' | 'past';

/** `YYYY-MM-DD` in the space's own time zone. */
export type DayDate = string;

/** Names a space. */
export interface SpaceId {
  readonly sedeId: number;
  readonly spazioId: number;
}

/** The position of a space: every change takes the next version in an epoch. */
export interface Position {
  readonly epoch: string;
  readonly version: number;
}

/** The fields of a slot that only its user or staff are told. */
export interface WireOwn {
  readonly mine?: boolean;
  readonly holdToken?: string;
  readonly heldAt?: string;
  readonly extendableUntil?: string;
  readonly bookedAt?: string;
  readonly cancelUntil?: string | null;
  readonly id_utente?: number | string;
}

/** One slot in a board or a snapshot; every other key is staff's own data. */
export interface WireEntry extends WireOwn {
  readonly id_slot: number;
  readonly orario: string;
  readonly status: Status;
  readonly startsAt?: string;
  readonly endsAt?: string;
  readonly held_until?: string;
  readonly [key: string]: unknown;
}

/** `slot_update`. */
export interface WireUpdate extends Position {
  readonly slotId: number;
  readonly status: Status;
  readonly timestamp: string;
  readonly data: WireEntry & SpaceId & { readonly date: DayDate };
}

/** `slots_status_update`. */
export interface WireSnapshot extends Position, SpaceId {
  readonly date: DayDate;
  readonly timeZone?: string;
  readonly timestamp: string;
  readonly slotsStatus: readonly WireEntry[];
}

/** `data` of `GET /api/slots/{idSpazio}/{date}`. */
export interface WireBoard extends Position {
  readonly idSpazio: number;
  readonly sedeId: number;
  readonly date: DayDate;
  readonly timeZone?: string;
  readonly timestamp?: string;
  readonly slots: readonly WireEntry[];
}

/** What `GET /api/spaces/{sedeId}/{idSpazio}` tells of a space. */
export interface WireDescription {
  readonly name?: string | null;
  readonly timezone: string;
}

/** `joined_space`. */
export interface WireJoined extends Position, SpaceId {
  readonly recovered: boolean;
  readonly timestamp: string;
}

/** `slot_taken`: staff took these slots from the user. May come twice, with the same `id`. */
export interface SlotTaken extends Position, SpaceId {
  readonly id: string;
  readonly date: DayDate;
  readonly slots: readonly number[];
  readonly status: Status;
}

/** The fields of the answer to an act. */
export interface WireAnswer extends Position {
  readonly heldUntil?: string;
  readonly holdToken?: string;
}

/** The protocol's own keys in an entry or an update. Every other key is staff's own data. */
export const PROTOCOL_KEYS: ReadonlySet<string> = new Set([
  'id',
  'id_slot',
  'spazioId',
  'sedeId',
  'date',
  'orario',
  'status',
  'title',
  'startsAt',
  'endsAt',
  'held_until',
  'expires_at',
  'minutes_remaining',
  'mine',
  'holdToken',
  'heldAt',
  'extendableUntil',
  'bookedAt',
  'cancelUntil',
  'id_utente',
]);
