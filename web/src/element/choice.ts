/**
 * A person's choice: a span of time of one space and day. It is kept as instants, which mean the same when slots get other
 * numbers. For any other space or day it is empty. All of it is pure: a recorded list of taps replays.
 */

import type { DayDate, SpaceId } from '../core/protocol.js';
import type { Slot } from '../core/state.js';

/** The most slots that one act may name. */
export const MOST_SLOTS = 32;

/** Which slots may be chosen: the free ones, and by staff all that are not past. */
export type Rule = (slot: Slot) => boolean;

/** The slots that everybody but staff may choose. */
export const isFree: Rule = ({ status }) => status === 'available';

/** A chosen span. */
export interface Choice extends SpaceId {
  readonly date: DayDate;
  /** The start of the first slot and the end of the last one, in ms. */
  readonly from: number;
  readonly to: number;
  /** The start of the slot that was chosen first: a range goes from it to the one chosen second. */
  readonly anchor: number;
  /** Whether both ends were chosen: the next tap begins anew. */
  readonly isComplete: boolean;
}

/** A space on a day. */
export interface Place extends SpaceId {
  readonly date: DayDate;
}

/** What has become of a choice. */
export interface Looked {
  /** The slots of the span that the person may still choose. */
  readonly free: readonly Slot[];
  /** The slots that somebody else has taken since the choice. */
  readonly lost: readonly Slot[];
}

/** Where a range had to stop, and at which slot. */
export interface Ranged {
  readonly choice: Choice;
  readonly stoppedAt: Slot | null;
  /** Whether it stopped because an act names no more slots. */
  readonly isFull: boolean;
}

/** The first tap on a free slot sets both ends, the second makes a range, and the third begins anew. */
export function tap(choice: Choice | null, at: Place, slots: readonly Slot[], slot: Slot, rule = isFree): Ranged | null {
  const present = choiceAt(choice, at, at.date);
  if (present === null || present.isComplete) return begin(at, slot, rule);
  if (isOnlyOne(present, slot)) return { choice: present, stoppedAt: null, isFull: false };
  return extendTo(present, slots, slot, true, rule);
}

/** The range from where the choice began to a slot: by a drag, by Shift, or by a handle. It stops at what is not free. */
export function extendTo(
  choice: Choice,
  slots: readonly Slot[],
  slot: Slot,
  isComplete: boolean,
  rule = isFree,
): Ranged | null {
  const target = slot.startsAt;
  const inOrder = slots.filter((one) => one.startsAt !== null);
  const anchorIndex = inOrder.findIndex((one) => one.startsAt === choice.anchor);
  const targetIndex = inOrder.findIndex((one) => one.startsAt === target);
  if (target === null || anchorIndex < 0 || targetIndex < 0) return null;
  const step = targetIndex < anchorIndex ? -1 : 1;
  let last = anchorIndex;
  let stoppedAt: Slot | null = null;
  let isFull = false;
  for (let index = anchorIndex + step; index !== targetIndex + step; index += step) {
    const one = inOrder[index];
    if (one === undefined) break;
    isFull = Math.abs(index - anchorIndex) >= MOST_SLOTS;
    if (!rule(one)) stoppedAt = one;
    if (isFull || stoppedAt !== null) break;
    last = index;
  }
  const [first, end] = last < anchorIndex ? [inOrder[last], inOrder[anchorIndex]] : [inOrder[anchorIndex], inOrder[last]];
  if (first?.startsAt == null || end?.endsAt == null) return null;
  return { choice: { ...choice, from: first.startsAt, to: end.endsAt, isComplete }, stoppedAt, isFull };
}

/** The choice, if it belongs to this space and day; else an empty choice. */
export function choiceAt(choice: Choice | null, { sedeId, spazioId }: SpaceId, date: DayDate): Choice | null {
  const isHere = choice?.sedeId === sedeId && choice.spazioId === spazioId && choice.date === date;
  return isHere ? choice : null;
}

/** Which slots of a choice are still free, and which are not. */
export function look(choice: Choice, slots: readonly Slot[], rule = isFree): Looked {
  const chosen = slots.filter((slot) => isIn(choice, slot));
  // A slot that has become the user's own is not lost.
  return { free: chosen.filter(rule), lost: chosen.filter((slot) => !rule(slot) && !slot.mine) };
}

/** The longest part of a choice that is still free. Of two equal parts it is the earlier one. `null` if no slot is free. */
export function restOf(choice: Choice, slots: readonly Slot[]): Choice | null {
  let best: Slot[] = [];
  let run: Slot[] = [];
  for (const slot of slots.filter((one) => isIn(choice, one))) {
    run = slot.status === 'available' ? [...run, slot] : [];
    if (run.length > best.length) best = run;
  }
  const [first] = best;
  const last = best.at(-1);
  if (first?.startsAt == null || last?.endsAt == null) return null;
  return { ...choice, from: first.startsAt, to: last.endsAt, anchor: first.startsAt, isComplete: true };
}

/** Whether a slot is in the span. */
export function isIn(choice: Choice, slot: Slot): boolean {
  return slot.startsAt !== null && slot.startsAt >= choice.from && slot.startsAt < choice.to;
}

function begin({ sedeId, spazioId, date }: Place, slot: Slot, rule: Rule): Ranged | null {
  if (!rule(slot) || slot.startsAt === null || slot.endsAt === null) return null;
  const { startsAt: from, endsAt: to } = slot;
  return { choice: { sedeId, spazioId, date, from, to, anchor: from, isComplete: false }, stoppedAt: null, isFull: false };
}

function isOnlyOne(choice: Choice, slot: Slot): boolean {
  return choice.from === slot.startsAt && choice.to === slot.endsAt;
}

