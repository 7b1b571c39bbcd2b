// Random choices that a seed repeats.

import { createHash } from 'node:crypto';

/** A source of numbers from 0 to below 1: always the same ones for a seed, which is any text. */
export function seeded(seed) {
  let state = createHash('sha256').update(String(seed)).digest().readUInt32LE(0);
  return () => {
    // Mulberry32 is short, and good enough to choose acts.
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Choices from a source of numbers as `Math.random` is one. */
export class Dice {
  constructor(next = Math.random) {
    this.next = next;
  }

  pick(list) {
    return list[Math.floor(this.next() * list.length)];
  }

  chance(probability) {
    return this.next() < probability;
  }

  /** A number from `least` to below `end`. */
  between(least, end) {
    return least + this.next() * (end - least);
  }
}
