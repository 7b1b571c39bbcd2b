// What time does to a state, however the clock goes: two days, holds that end, starts that pass, a device whose clock is wrong.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { DayDate, WireEntry } from '../../src/core/protocol.js';
import { nextClock, reduce, type Event } from '../../src/core/reduce.js';
import { slotAt } from '../../src/core/slots.js';
import { initialState, type SpaceState } from '../../src/core/state.js';

const PLACE = { sedeId: 1, spazioId: 1 };
const NOW = Date.parse('2027-03-01T06:00:00Z');
const DAYS: readonly DayDate[] = ['2027-03-01', '2027-03-02'];
const iso = (instant: number) => new Date(instant).toISOString();
const after = (events: readonly Event[], state: SpaceState) => events.reduce(reduce, state);

const entry = (number: number, startsAt: number, more: Partial<WireEntry> = {}): WireEntry => ({
  id_slot: number,
  orario: '',
  status: 'available',
  startsAt: iso(startsAt),
  endsAt: iso(startsAt + 3_600_000),
  ...more,
});
const snapshot = (date: DayDate, slotsStatus: readonly WireEntry[], now: number, version = 1): Event => ({
  kind: 'snapshot',
  snapshot: { epoch: 'e', version, ...PLACE, date, timestamp: iso(now), slotsStatus },
  now,
});
const update = (date: DayDate, version: number, wire: WireEntry, now: number, timestamp = now): Event => ({
  kind: 'update',
  update: { epoch: 'e', version, slotId: wire.id_slot, status: wire.status, timestamp: iso(timestamp), data: { ...wire, ...PLACE, date } },
  now,
});
const watched = DAYS.map((date): Event => ({ kind: 'watched', date }));
const joined: Event = { kind: 'joined', joined: { epoch: 'e', version: 1, ...PLACE, recovered: false, timestamp: iso(NOW) } };

const start = (days: readonly (readonly WireEntry[])[], at = NOW) =>
  after([{ kind: 'connected' }, ...watched, joined, ...days.map((entries, index) => snapshot(DAYS[index] ?? '', entries, NOW))], initialState(PLACE, at));
const slotOf = (state: SpaceState, day: number, number: number) =>
  state.days.get(DAYS[day] ?? '')?.slots.find((slot) => slot.number === number);

/** All that is shown is what it is at the state's time, and what changes later is looked at in time. */
function expectTimely(state: SpaceState, now: number): void {
  for (const day of state.days.values()) {
    const due = [...day.entries.values()].map((one) => slotAt(one, now).status);
    const shown = day.slots.map(({ status }) => status);
    const next = nextClock(state);
    expect(`${shown}` === `${due}` || (next !== null && next <= now)).toBe(true);
  }
}

describe('time', () => {
  const free = entry(1, NOW + 7_200_000);
  const own = (until: number, number = 1) => entry(number, NOW + 7_200_000, { status: 'occupied', mine: true, held_until: iso(until) });

  test('an event of one day does not hide that a hold of another day has ended', () => {
    const state = start([[free], [own(NOW + 1_000)]]);
    const later = after([update(DAYS[0] ?? '', 2, { ...free, status: 'booked' }, NOW + 1_001)], state);
    expect(slotOf(later, 1, 1)).toMatchObject({ status: 'available', mine: false });
    expect(later.ended).toMatchObject([{ date: DAYS[1], slots: [1] }]);
  });

  test('the end of an own hold is told, though the event that is heard first is from before it', () => {
    const state = start([[own(NOW + 1_000), entry(2, NOW + 10_800_000)], []]);
    const other = { ...entry(2, NOW + 10_800_000), status: 'booked' } as const;
    const late = after([update(DAYS[0] ?? '', 2, other, NOW + 1_001, NOW + 900)], state);
    expect(late.ended).toMatchObject([{ slots: [1] }]);
    const shown = after([snapshot(DAYS[0] ?? '', [free], NOW + 1_001, 2)], state);
    expect(shown.ended).toMatchObject([{ slots: [1] }]);
  });

  test('a device whose clock is ahead shows nothing as past once the server has told its time', () => {
    const last = entry(1, NOW + 1_800_000);
    const state = start([[last], []], NOW + 7_200_000);
    expect(slotOf(state, 0, 1)?.status).toBe('available');
    const later = after([update(DAYS[0] ?? '', 2, { ...last, status: 'available' }, NOW + 5)], state);
    expect(slotOf(later, 0, 1)?.status).toBe('available');
    expect(nextClock(later)).toBe(NOW + 1_800_000);
  });

  test('a clock that was corrected tells an end once, and the next one of the same slot again', () => {
    const ends = (state: SpaceState, ...times: number[]) => after(times.map((now) => ({ kind: 'clock', now }) as const), state);
    const state = ends(start([[own(NOW + 1_000)], []]), NOW + 1_001, NOW + 990, NOW + 1_002);
    expect(state.ended).toHaveLength(1);
    const again = ends(after([update(DAYS[0] ?? '', 2, own(NOW + 9_000), NOW + 2_000)], state), NOW + 9_001);
    expect(again.ended.map(({ slots }) => slots)).toEqual([[1], [1]]);
  });

  const hold = fc.record({ ends: fc.integer({ min: 1, max: 60 }), starts: fc.integer({ min: 1, max: 120 }), isOwn: fc.boolean(), isHeld: fc.boolean() });
  const moment = fc.record({
    // Mostly on, sometimes back: another device's clock, or a better estimate.
    by: fc.oneof({ weight: 5, arbitrary: fc.nat(20) }, { weight: 1, arbitrary: fc.integer({ min: -90, max: -1 }) }),
    what: fc.constantFrom('clock', 'update', 'snapshot'),
    day: fc.nat(1),
  });

  test('whatever happens, and wherever the clock jumps, each slot is what it is at that time', () => {
    fc.assert(
      fc.property(fc.tuple(fc.array(hold, { minLength: 1, maxLength: 4 }), fc.array(hold, { maxLength: 4 })), fc.array(moment, { maxLength: 30 }), fc.nat(200), (holds, moments, wrong) => {
        const entries = holds.map((some) =>
          some.map(({ ends, starts, isOwn, isHeld }, index) =>
            entry(index + 1, NOW + starts * 1_000, isHeld ? { status: 'occupied', held_until: iso(NOW + ends * 1_000), ...(isOwn && { mine: true }) } : {}),
          ),
        );
        let state = start(entries, NOW + wrong * 1_000);
        expectTimely(state, NOW);
        let [now, version] = [NOW, 1];
        for (const { by, what, day } of moments) {
          now += by * 1_000;
          const date = DAYS[day] ?? '';
          const [first] = entries[day] ?? [];
          if (what === 'snapshot') state = reduce(state, snapshot(date, entries[day] ?? [], now, version));
          else if (what === 'update' && first) state = reduce(state, update(date, (version += 1), first, now));
          else state = reduce(state, { kind: 'clock', now });
          expectTimely(state, now);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
