/** Where a key leads in a list of slots. Pure. */

import type { Slot } from '../core/state.js';

/** The index of the slot that a key leads to from another one; `null` for any other key. */
export function targetOf(key: string, slots: readonly Slot[], from: number, hourOf: (slot: Slot) => number): number | null {
  const last = slots.length - 1;
  switch (key) {
    case 'ArrowDown':
    case 'ArrowRight':
      return Math.min(from + 1, last);
    case 'ArrowUp':
    case 'ArrowLeft':
      return Math.max(from - 1, 0);
    case 'Home':
      return 0;
    case 'End':
      return last;
    case 'PageDown':
      return fullHour(slots, from, 1, hourOf);
    case 'PageUp':
      return fullHour(slots, from, -1, hourOf);
    default:
      return null;
  }
}

/** The first slot that starts in an hour, for typed digits; the next hour that there is. */
export function slotOfHour(slots: readonly Slot[], hour: number, hourOf: (slot: Slot) => number): number | null {
  const index = slots.findIndex((slot) => hourOf(slot) >= hour);
  return index < 0 ? null : index;
}

/** The first slot of the next hour, or of this hour and then of the one before. */
function fullHour(slots: readonly Slot[], from: number, step: 1 | -1, hourOf: (slot: Slot) => number): number {
  const isFirstOfHour = (index: number) => {
    const [slot, before] = [slots[index], slots[index - 1]];
    return slot !== undefined && (before === undefined || hourOf(before) !== hourOf(slot));
  };
  let index = from + step;
  while (index > 0 && index < slots.length - 1 && !isFirstOfHour(index)) index += step;
  return Math.min(Math.max(index, 0), slots.length - 1);
}
