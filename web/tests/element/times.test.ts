// How the times of a day are told: as the server tells them, and both hours of a long night apart.

import { describe, expect, test } from 'vitest';

import { entryOf, slotAt } from '../../src/core/slots.js';
import type { Slot } from '../../src/core/state.js';
import { Times } from '../../src/element/times.js';
import { english } from '../../src/texts/index.js';

/** Slots of an hour in Rome from an instant on. */
function hours(first: string, starts: readonly string[]): Slot[] {
  return starts.map((orario, index) => {
    const startsAt = Date.parse(first) + index * 3_600_000;
    const [from, to] = [startsAt, startsAt + 3_600_000].map((instant) => new Date(instant).toISOString()) as [string, string];
    return slotAt(entryOf({ id_slot: index + 1, orario, status: 'available', startsAt: from, endsAt: to }), 0);
  });
}

const told = (slots: readonly Slot[]) => {
  const times = new Times(english, 'Europe/Rome', slots);
  return slots.map((slot) => `${times.start(slot)} to ${times.end(slot)}`);
};

describe('the times of a day', () => {
  test('are the local ones, the end of the last slot included', () => {
    expect(told(hours('2027-03-01T08:00:00Z', ['09:00', '10:00']))).toEqual(['09:00 to 10:00', '10:00 to 11:00']);
  });

  test('name the zone where an hour comes twice, and only there', () => {
    const night = hours('2027-10-30T23:00:00Z', ['01:00', '02:00', '02:00', '03:00']);
    const [first, second, third, fourth] = told(night).map((text) => text.split(' to '));
    expect([first?.[0], fourth]).toEqual(['01:00', ['03:00', '04:00']]);
    // What the zone is called in each half depends on the runtime's own names.
    expect(first?.[1]).toMatch(/^02:00 \(.+\)$/);
    expect(first?.[1]).toBe(second?.[0]);
    expect(second?.[0]).not.toBe(third?.[0]);
    expect([second?.[1], third?.[1]]).toEqual([third?.[0], '03:00']);
  });

  test('skip the hour that a short night does not have', () => {
    expect(told(hours('2027-03-28T00:00:00Z', ['01:00', '03:00']))).toEqual(['01:00 to 03:00', '03:00 to 04:00']);
  });
});
