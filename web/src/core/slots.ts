/** Makes the present state of a slot from what the server told of it. */

import { PROTOCOL_KEYS, type Position, type Status, type WireEntry } from './protocol.js';
import type { Entry, Slot } from './state.js';

/** How long before its end an own hold is said to be ending, in ms. */
export const ENDING_MS = 60_000;

const UNPLACED: Position = { epoch: '', version: 0 };

/** Reads an entry of a board or a snapshot of that position. */
export function entryOf(wire: WireEntry, at = UNPLACED): Entry {
  const mine = wire.mine === true;
  return {
    at,
    number: wire.id_slot,
    orario: wire.orario,
    startsAt: instant(wire.startsAt),
    endsAt: instant(wire.endsAt),
    status: wire.status,
    mine: wire.mine === undefined ? null : mine,
    heldUntil: instant(wire.held_until),
    holdToken: mine && typeof wire.holdToken === 'string' ? wire.holdToken : null,
    heldAt: mine ? instant(wire.heldAt) : null,
    extendableUntil: mine ? instant(wire.extendableUntil) : null,
    cancelUntil: mine ? instant(wire.cancelUntil) : null,
    user: wire.id_utente === undefined ? null : String(wire.id_utente),
    data: Object.fromEntries(Object.entries(wire).filter(([key]) => !PROTOCOL_KEYS.has(key))),
  };
}

/** The entry after an update, which replaces everything but the times. An update does not tell the times. */
export function updatedEntry(before: Entry | undefined, wire: WireEntry, at: Position): Entry {
  const after = entryOf(wire, at);
  return {
    ...after,
    orario: before?.orario ?? after.orario,
    startsAt: before?.startsAt ?? after.startsAt,
    endsAt: before?.endsAt ?? after.endsAt,
  };
}

/** The slot of an entry at an instant. A slot whose hold has ended is free, and a free slot that has started is past. */
export function slotAt(entry: Entry, now: number): Slot {
  const status = statusAt(entry, now);
  const isHeld = status === 'occupied';
  const isTaken = isHeld || status === 'booked';
  const mine = isTaken && entry.mine === true;
  return {
    number: entry.number,
    orario: entry.orario,
    startsAt: entry.startsAt,
    endsAt: entry.endsAt,
    status,
    mine,
    heldUntil: isHeld ? entry.heldUntil : null,
    holdToken: isHeld && mine ? entry.holdToken : null,
    heldAt: isHeld && mine ? entry.heldAt : null,
    extendableUntil: isHeld && mine ? entry.extendableUntil : null,
    cancelUntil: status === 'booked' && mine ? entry.cancelUntil : null,
    isEnding: isHeld && mine && entry.heldUntil !== null && entry.heldUntil - now <= ENDING_MS,
    user: isTaken ? entry.user : null,
    data: entry.data,
  };
}

/** The next instant after `now` at which the slot changes without an event; `null` for never. */
export function nextChangeAfter(entry: Entry, now: number): number | null {
  const instants: number[] = [];
  if (entry.status === 'occupied' && entry.heldUntil !== null) {
    instants.push(entry.heldUntil);
    if (entry.mine) instants.push(entry.heldUntil - ENDING_MS);
  }
  if (entry.startsAt !== null && (entry.status === 'available' || entry.status === 'occupied')) {
    instants.push(entry.startsAt);
  }
  const later = instants.filter((instant) => instant > now);
  return later.length === 0 ? null : Math.min(...later);
}

function statusAt(entry: Entry, now: number): Status {
  const hasEnded = entry.status === 'occupied' && entry.heldUntil !== null && entry.heldUntil <= now;
  const status = hasEnded ? 'available' : entry.status;
  const hasStarted = entry.startsAt !== null && entry.startsAt <= now;
  return status === 'available' && hasStarted ? 'past' : status;
}

function instant(text: unknown): number | null {
  if (typeof text !== 'string') return null;
  const millis = Date.parse(text);
  return Number.isNaN(millis) ? null : millis;
}
