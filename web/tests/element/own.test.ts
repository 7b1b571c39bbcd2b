import { describe, expect, test } from 'vitest';

import { entryOf, slotAt } from '../../src/core/slots.js';
import { bookingsOf } from '../../src/element/own.js';

const at = (time: string) => `2027-03-01T${time}:00Z`;
const NOW = Date.parse(at('06:00'));

/** An own booking of an hour that can be cancelled until an hour before its start. */
const booked = (number: number, more: object = {}) => {
  const hour = (offset: number) => at(String(8 + number + offset).padStart(2, '0') + ':00');
  const wire = { id_slot: number, orario: '', status: 'booked', mine: true, startsAt: hour(0), endsAt: hour(1), cancelUntil: hour(-1) } as const;
  return slotAt(entryOf({ ...wire, ...more }), NOW);
};
const groups = (slots: Parameters<typeof bookingsOf>[0], now = NOW) =>
  bookingsOf(slots, now).map(({ slots: group }) => group.map(({ number }) => number));

describe('own bookings', () => {
  test('of neighbours are one, though each slot has a deadline of its own', () => {
    expect(groups([booked(1), booked(2), booked(3), booked(5)])).toEqual([[1, 2, 3], [5]]);
  });

  test('are told apart where one can be cancelled and the other cannot', () => {
    const slots = [booked(1), booked(2), booked(3, { cancelUntil: null }), booked(4, { cancelUntil: null })];
    expect(groups(slots)).toEqual([[1, 2], [3, 4]]);
    // The first one's time to cancel is over.
    expect(groups(slots, Date.parse(at('08:30')))).toEqual([[1], [2], [3, 4]]);
  });
});
