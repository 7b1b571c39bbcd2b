/** The user's own holds and bookings of a day, each of neighbouring slots. */

import type { Slot } from '../core/state.js';
import { neighbours } from './times.js';

/** An own hold or booking. */
export interface OwnGroup {
  /** The same text for as long as it is the same hold. */
  readonly key: string;
  readonly slots: readonly Slot[];
}

/** The own holds of a day: the slots of one token together. */
export function holdsOf(slots: readonly Slot[]): OwnGroup[] {
  const byKey = new Map<string, Slot[]>();
  for (const slot of slots) {
    if (!slot.mine || slot.status !== 'occupied') continue;
    const key = slot.holdToken ?? `until ${slot.heldUntil}`;
    byKey.set(key, [...(byKey.get(key) ?? []), slot]);
  }
  return [...byKey.values()].map((group) => ({ key: `hold ${group[0]?.number}`, slots: group }));
}

/** The own bookings of a day: neighbours together that can be cancelled, and neighbours together that cannot. */
export function bookingsOf(slots: readonly Slot[], now: number): OwnGroup[] {
  const own = slots.filter((slot) => slot.mine && slot.status === 'booked');
  const groups: Slot[][] = [];
  for (const run of neighbours(own)) {
    for (const slot of run) {
      const group = groups.at(-1);
      const isSame = group !== undefined && run.includes(group[0] as Slot) && mayCancel(group[0] as Slot, now) === mayCancel(slot, now);
      if (isSame) group.push(slot);
      else groups.push([slot]);
    }
  }
  return groups.map((group) => ({ key: `booking ${group[0]?.number}`, slots: group }));
}

/** Whether an own booking can be cancelled now. */
export function mayCancel({ cancelUntil }: Slot, now: number): boolean {
  return cancelUntil !== null && cancelUntil > now;
}

/** Whether the end of an own hold can still be moved. */
export function mayExtend({ extendableUntil, heldUntil }: Slot): boolean {
  return extendableUntil === null || heldUntil === null || extendableUntil > heldUntil;
}
