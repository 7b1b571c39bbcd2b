import { describe, expect, test } from 'vitest';

import type { Status } from '../../src/core/protocol.js';
import { entryOf, slotAt } from '../../src/core/slots.js';
import type { Slot } from '../../src/core/state.js';
import { choiceAt, extendTo, isIn, look, restOf, tap, type Choice } from '../../src/element/choice.js';

const PLACE = { sedeId: 1, spazioId: 2 };
const DATE = '2027-03-01';
const AT = { ...PLACE, date: DATE };
const at = (hour: number) => `2027-03-01T${String(hour).padStart(2, '0')}:00:00Z`;

/** Slots of an hour from 09:00 on, one a letter: `f`ree, `b`ooked, `h`eld. */
function day(states: string): Slot[] {
  const status: Record<string, Status> = { f: 'available', b: 'booked', h: 'occupied' };
  return [...states].map((letter, index) => {
    const [startsAt, endsAt] = [at(9 + index), at(10 + index)];
    const wire = { id_slot: index + 1, orario: '', status: status[letter] ?? 'available', startsAt, endsAt };
    return slotAt(entryOf(wire), 0);
  });
}

/** Taps the slots with these numbers, one after the other. */
function taps(slots: Slot[], ...numbers: number[]) {
  let choice: Choice | null = null;
  let stoppedAt: Slot | null = null;
  for (const number of numbers) {
    const ranged = tap(choice, AT, slots, slots[number - 1] as Slot);
    if (ranged !== null) ({ choice, stoppedAt } = ranged);
  }
  return { numbers: choice === null ? [] : slots.filter((slot) => isIn(choice, slot)).map(({ number }) => number), choice, stoppedAt };
}

describe('a choice', () => {
  const free = day('ffffff');

  test('begins with a tap, becomes a range with the second, and begins anew with the third', () => {
    expect(taps(free, 2).numbers).toEqual([2]);
    expect(taps(free, 2, 4).numbers).toEqual([2, 3, 4]);
    expect(taps(free, 4, 2).numbers).toEqual([2, 3, 4]);
    expect(taps(free, 2, 4, 6).numbers).toEqual([6]);
  });

  test('is not changed by a second tap on the only chosen slot', () => {
    expect(taps(free, 3, 3).numbers).toEqual([3]);
    expect(taps(free, 3, 3, 5).numbers).toEqual([3, 4, 5]);
  });

  test('stops at what is not free, and says at what', () => {
    const slots = day('ffbff');
    const { numbers, stoppedAt } = taps(slots, 1, 5);
    expect([numbers, stoppedAt?.number]).toEqual([[1, 2], 3]);
    expect(taps(slots, 3).numbers).toEqual([]);
    expect(taps(slots, 5, 1).numbers).toEqual([4, 5]);
  });

  test('belongs to its space and day', () => {
    const { choice } = taps(free, 2);
    expect(choiceAt(choice, PLACE, DATE)).toBe(choice);
    expect(choiceAt(choice, PLACE, '2027-03-02')).toBeNull();
    expect(choiceAt(choice, { ...PLACE, spazioId: 3 }, DATE)).toBeNull();
    const elsewhere = tap(choice, { ...AT, spazioId: 3 }, free, free[4] as Slot);
    expect(elsewhere?.choice.from).toBe(Date.parse(at(13)));
  });

  test('tells what it lost, and offers the longest rest', () => {
    const { choice } = taps(free, 1, 6);
    const later = day('fbfffb');
    const { free: left, lost } = look(choice as Choice, later);
    expect([left.map(({ number }) => number), lost.map(({ number }) => number)]).toEqual([[1, 3, 4, 5], [2, 6]]);
    const rest = restOf(choice as Choice, later) as Choice;
    expect(later.filter((slot) => isIn(rest, slot)).map(({ number }) => number)).toEqual([3, 4, 5]);
    expect(restOf(choice as Choice, day('bbbbbb'))).toBeNull();
  });

  test('is extended from where it began, to either side', () => {
    const { choice } = taps(free, 3);
    const down = extendTo(choice as Choice, free, free[4] as Slot, false)?.choice as Choice;
    const up = extendTo(down, free, free[0] as Slot, false)?.choice as Choice;
    expect(free.filter((slot) => isIn(up, slot)).map(({ number }) => number)).toEqual([1, 2, 3]);
  });
});
