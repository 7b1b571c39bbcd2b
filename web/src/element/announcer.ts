/** Tells changes of other people to screen readers, politely and gathered: at most one sentence in five seconds. */

import type { Slot } from '../core/state.js';
import type { Texts } from '../texts/index.js';

/** The shortest time between two announcements, in ms. */
const EVERY_MS = 5_000;

/** Gathers changes and tells them in words. */
export class Announcer {
  readonly #tell: (sentence: string) => void;
  #taken = 0;
  #freed = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(tell: (sentence: string) => void) {
    this.#tell = tell;
  }

  /** Notes the differences between two states of one day, without own slots. */
  note(before: readonly Slot[], after: readonly Slot[], texts: Texts): void {
    const known = new Map(before.map((slot) => [slot.number, slot]));
    for (const slot of after) {
      const was = known.get(slot.number);
      if (was === undefined || was.mine || slot.mine) continue;
      if (was.status === 'available' && isTaken(slot)) this.#taken += 1;
      if (isTaken(was) && slot.status === 'available') this.#freed += 1;
    }
    if (this.#taken + this.#freed === 0 || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#tell(texts.changes(this.#taken, this.#freed));
      this.#taken = 0;
      this.#freed = 0;
    }, EVERY_MS);
  }

  /** Tells nothing more. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#taken = 0;
    this.#freed = 0;
  }
}

function isTaken({ status }: Slot): boolean {
  return status === 'occupied' || status === 'booked' || status === 'blocked';
}
