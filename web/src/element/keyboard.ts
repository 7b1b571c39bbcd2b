/** The keys of the list of slots, and the slots that they lead to. */

import type { Slot } from '../core/state.js';
import type { Model } from './model.js';

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

/** The first slot that starts in the typed hour, or in the next hour with a slot. */
export function slotOfHour(slots: readonly Slot[], hour: number, hourOf: (slot: Slot) => number): number | null {
  const index = slots.findIndex((slot) => hourOf(slot) >= hour);
  return index < 0 ? null : index;
}

/** The first slot of the next hour. Backwards it is the first slot of this hour, and then of the hour before. */
function fullHour(slots: readonly Slot[], from: number, step: 1 | -1, hourOf: (slot: Slot) => number): number {
  const isFirstOfHour = (index: number) => {
    const [slot, before] = [slots[index], slots[index - 1]];
    return slot !== undefined && (before === undefined || hourOf(before) !== hourOf(slot));
  };
  let index = from + step;
  while (index > 0 && index < slots.length - 1 && !isFirstOfHour(index)) index += step;
  return Math.min(Math.max(index, 0), slots.length - 1);
}

/** How long the first digit of an hour waits for the second one, in ms. */
const DIGITS_MS = 800;

/** The keys of the list of slots. */
export class Keyboard {
  readonly #model: Model;
  readonly #focus: (index: number) => void;
  readonly #open: (slot: Slot) => void;
  #digits = '';
  #digitsAt = 0;

  /** `focus` moves the focus to a slot, `open` to the card of an own one. */
  constructor(model: Model, focus: (index: number) => void, open: (slot: Slot) => void) {
    this.#model = model;
    this.#focus = focus;
    this.#open = open;
  }

  pressed(event: KeyboardEvent): void {
    const slot = this.#model.slots[this.#model.focused];
    if (!slot || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === 'Escape') this.#model.clear();
    else if (event.key === ' ') this.#select(slot);
    else if (event.key === 'Enter') this.#entered(slot);
    else if (/^[0-9]$/.test(event.key)) this.#typed(event.key);
    else if (!this.#moved(event)) return;
    event.preventDefault();
  }

  #select(slot: Slot): void {
    if (this.#model.mayChoose(slot)) this.#model.tap(slot);
    else if (slot.mine) this.#open(slot);
  }

  /** Holds the chosen slots, or moves the focus to the acts of an own slot. */
  #entered(slot: Slot): void {
    if (slot.mine) this.#open(slot);
    else if (this.#model.choice) void this.#model.hold();
    else this.#select(slot);
  }

  #moved({ key, shiftKey }: KeyboardEvent): boolean {
    const { slots, focused } = this.#model;
    const target = targetOf(key, slots, focused, hourOf);
    if (target === null) return false;
    const slot = slots[focused] as Slot;
    const start = shiftKey ? (this.#model.choice ?? this.#model.begun(slot)) : null;
    if (start === null) {
      this.#focus(target);
      return true;
    }
    // Page keys move the end of the choice to the full hour: the last slot before it.
    const isPage = key === 'PageDown' || key === 'PageUp';
    const last = isPage ? endAtFullHour(slots, focused, target, hourOf) : target;
    this.#model.extend(slots[last] as Slot, start);
    this.#focus(last);
    return true;
  }

  /** Digits jump to an hour: `1` and `4` to 14:00. */
  #typed(digit: string): void {
    const now = Date.now();
    this.#digits = now - this.#digitsAt < DIGITS_MS ? `${this.#digits}${digit}`.slice(-2) : digit;
    this.#digitsAt = now;
    const target = slotOfHour(this.#model.slots, Number(this.#digits), hourOf);
    if (target !== null) this.#focus(target);
  }
}

function hourOf(slot: Slot): number {
  return Number.parseInt(slot.orario, 10);
}

/** From the last slot of an hour, Page Down leads to the last one of the next. */
function endAtFullHour(slots: readonly Slot[], from: number, target: number, hour: (slot: Slot) => number): number {
  if (target <= from) return target;
  const isLastOfHour = target === from + 1;
  if (!isLastOfHour) return target - 1;
  let last = target;
  while (last + 1 < slots.length && hour(slots[last + 1] as Slot) === hour(slots[target] as Slot)) last += 1;
  return last;
}
