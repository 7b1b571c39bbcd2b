/** Neighbours in one state and of one owner draw as one block. */

import type { Slot } from '../core/state.js';
import { neighbours } from './times.js';

/** Where a slot stands in its block. */
export type Place = 'only' | 'first' | 'middle' | 'last';

/** The slots in blocks, in order. */
export function blocksOf(slots: readonly Slot[]): Slot[][] {
  const blocks: Slot[][] = [];
  for (const run of neighbours(slots)) {
    let block: Slot[] = [];
    for (const slot of run) {
      const [first] = block;
      if (first !== undefined && isOneBlock(first, slot)) block.push(slot);
      else {
        block = [slot];
        blocks.push(block);
      }
    }
  }
  return blocks;
}

/** Where each slot stands, by its number. */
export function placesOf(blocks: readonly (readonly Slot[])[]): ReadonlyMap<number, Place> {
  const places = new Map<number, Place>();
  for (const block of blocks) {
    block.forEach((slot, index) => {
      const isLast = index === block.length - 1;
      places.set(slot.number, block.length === 1 ? 'only' : index === 0 ? 'first' : isLast ? 'last' : 'middle');
    });
  }
  return places;
}

function isOneBlock(a: Slot, b: Slot): boolean {
  // Free slots form no block: each has a line of its own.
  if (a.status !== b.status || a.status === 'available' || a.status === 'past') return false;
  if (a.mine !== b.mine || a.holdToken !== b.holdToken || a.user !== b.user) return false;
  return a.heldUntil === b.heldUntil && noteOf(a) === noteOf(b);
}

/** The text that staff wrote for everybody. */
export function noteOf(slot: Slot): string {
  return Object.values(slot.data)
    .filter((value) => typeof value === 'string')
    .join(', ');
}
