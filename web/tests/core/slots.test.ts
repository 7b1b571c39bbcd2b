import { describe, expect, test } from 'vitest';

import type { WireEntry } from '../../src/core/protocol.js';
import { BEHIND_MS, daysToAsk, nextClock, reduce, type Event } from '../../src/core/reduce.js';
import { entryOf, slotAt } from '../../src/core/slots.js';
import { initialState, type SpaceState } from '../../src/core/state.js';

const DATE = '2027-03-01';
const NOW = Date.parse('2027-02-01T00:00:00Z');
const UNTIL = '2027-02-01T00:10:00.000Z';
const place = { sedeId: 1, spazioId: 1 };

const entry = (number: number, more: Partial<WireEntry> = {}): WireEntry => {
  return { id_slot: number, orario: `0${8 + number}:00`.slice(-5), status: 'available', ...more };
};

function after(events: readonly Event[], state: SpaceState = initialState(place, NOW)): SpaceState {
  return events.reduce(reduce, state);
}

/** Joined at version 4, with a day of three slots. */
function joined(entries: readonly WireEntry[]): SpaceState {
  const at = { epoch: 'e', version: 4 };
  return after([
    { kind: 'connected' },
    { kind: 'watched', date: DATE },
    { kind: 'joined', joined: { ...at, ...place, recovered: false, timestamp: '' } },
    { kind: 'snapshot', snapshot: { ...at, ...place, date: DATE, timestamp: '', slotsStatus: entries }, now: NOW },
  ]);
}

const update = (version: number, wire: WireEntry, timestamp = ''): Event => ({
  kind: 'update',
  update: { epoch: 'e', version, slotId: wire.id_slot, status: wire.status, timestamp, data: { ...wire, ...place, date: DATE } },
  now: NOW,
});
const slotOf = (state: SpaceState, number: number) => state.days.get(DATE)?.slots.find((slot) => slot.number === number);

describe('a slot', () => {
  test('keeps its times through an update, and nothing else', () => {
    const startsAt = `${DATE}T08:00:00Z`;
    const state = joined([entry(1, { startsAt, status: 'blocked', note: 'old' })]);
    const later = after([update(5, entry(1))], state);
    expect(slotOf(later, 1)).toMatchObject({ startsAt: Date.parse(startsAt), status: 'available', data: {} });
  });

  test('is free when its hold ends, and past when it starts, without an event', () => {
    const held = entryOf(entry(1, { status: 'occupied', held_until: UNTIL, startsAt: `${DATE}T08:00:00Z`, mine: true }));
    expect(slotAt(held, Date.parse(UNTIL) - 1)).toMatchObject({ status: 'occupied', mine: true, isEnding: true });
    expect(slotAt(held, Date.parse(UNTIL))).toMatchObject({ status: 'available', mine: false, heldUntil: null });
    expect(slotAt(held, Date.parse(`${DATE}T08:00:00Z`)).status).toBe('past');
  });
});

describe('the end of an own hold', () => {
  const held = entry(1, { status: 'occupied', held_until: UNTIL, mine: true, startsAt: `${DATE}T08:00:00Z` });

  test('is told once, whether the clock says so first or the server does', () => {
    const byClock = after([{ kind: 'clock', now: Date.parse(UNTIL) }], joined([held]));
    expect(byClock.ended).toMatchObject([{ date: DATE, slots: [1] }]);
    expect(after([update(5, entry(1), UNTIL)], byClock).ended).toHaveLength(1);
    const byServer = after([update(5, entry(1), UNTIL)], joined([held]));
    expect(byServer.ended).toMatchObject([{ date: DATE, slots: [1] }]);
    expect(after([{ kind: 'clock', now: Date.parse(UNTIL) + 5 }], byServer).ended).toHaveLength(1);
  });

  test('is not told where it was let go before', () => {
    const released = after([update(5, entry(1), '2027-02-01T00:05:00.000Z')], joined([held]));
    expect(released.ended).toEqual([]);
  });
});

describe('for staff, whom the events do not tell whose the slots are', () => {
  test('a board over HTTP says whose the slots are that are as it says', () => {
    const other = '2027-02-01T00:20:00.000Z';
    const state = joined([entry(1, { status: 'occupied', held_until: UNTIL }), entry(2, { status: 'occupied', held_until: other })]);
    const slots = [1, 2].map((number) => entry(number, { status: 'occupied', held_until: UNTIL, mine: true, id_utente: 7 }));
    const board = { idSpazio: 1, sedeId: 1, date: DATE, epoch: 'e', version: 4, slots };
    const shown = after([{ kind: 'board', board }], state);
    expect(slotOf(shown, 1)).toMatchObject({ mine: true, user: '7' });
    expect(slotOf(shown, 2)).toMatchObject({ mine: false, user: null });
  });
});

describe('an answer whose events are not heard', () => {
  const events: readonly Event[] = [
    { kind: 'asked', id: 1, act: 'hold', date: DATE, slots: [1], now: NOW },
    { kind: 'answered', id: 1, answer: { epoch: 'e', version: 5 }, now: NOW },
  ];

  test('makes the day one to ask for, and no more than once', () => {
    const state = after(events, joined([entry(1)]));
    expect(nextClock(state)).toBe(NOW + BEHIND_MS);
    expect(after([{ kind: 'clock', now: NOW + BEHIND_MS - 1 }], state).days.get(DATE)?.inSync).toBe(true);
    const late = after([{ kind: 'clock', now: NOW + BEHIND_MS }], state);
    expect(daysToAsk(late)).toEqual([DATE]);
    expect(after([{ kind: 'clock', now: NOW + BEHIND_MS + 1 }], late)).toBe(late);
  });

  test('is looked at once, and not again and again while the day is unknown', () => {
    const unknown = after([{ kind: 'user_changed' }, ...events], joined([entry(1)]));
    const looked = after([{ kind: 'clock', now: NOW + BEHIND_MS }], unknown);
    expect(nextClock(looked)).toBeNull();
  });

  test('is nothing to ask for once they are', () => {
    const state = after([...events, update(5, entry(1, { status: 'occupied', held_until: UNTIL }))], joined([entry(1)]));
    expect(state.pending).toEqual([]);
    expect(daysToAsk(after([{ kind: 'clock', now: NOW + BEHIND_MS }], state))).toEqual([]);
  });
});
