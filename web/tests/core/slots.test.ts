import { describe, expect, test } from 'vitest';

import type { WireEntry } from '../../src/core/protocol.js';
import { BEHIND_MS, daysToAsk, nextClock, reduce, type Event } from '../../src/core/reduce.js';
import { entryOf, slotAt } from '../../src/core/slots.js';
import { initialState, type SpaceState } from '../../src/core/state.js';

const DATE = '2027-03-01';
const NOW = Date.parse('2027-02-01T00:00:00Z');
const UNTIL = '2027-02-01T00:10:00.000Z';
const place = { sedeId: 1, spazioId: 1 };
/** Where the space stands when a test begins. */
const AT = { epoch: 'e', version: 4 };

const entry = (number: number, more: Partial<WireEntry> = {}): WireEntry => {
  return { id_slot: number, orario: `0${8 + number}:00`.slice(-5), status: 'available', ...more };
};

function after(events: readonly Event[], state: SpaceState = initialState(place, NOW)): SpaceState {
  return events.reduce(reduce, state);
}

/** Joined at version 4, with a day of three slots. */
function joined(entries: readonly WireEntry[]): SpaceState {
  return after([
    { kind: 'connected' },
    { kind: 'watched', date: DATE },
    { kind: 'joined', joined: { ...AT, ...place, recovered: false, timestamp: '' } },
    { kind: 'snapshot', snapshot: { ...AT, ...place, date: DATE, timestamp: '', slotsStatus: entries }, now: NOW },
  ]);
}

const update = (version: number, wire: WireEntry, timestamp = ''): Event => ({
  kind: 'update',
  update: { epoch: 'e', version, slotId: wire.id_slot, status: wire.status, timestamp, data: { ...wire, ...place, date: DATE } },
  now: NOW,
});
const snapshot = (version: number, entries: readonly WireEntry[]): Event => ({
  kind: 'snapshot',
  snapshot: { epoch: 'e', version, ...place, date: DATE, timestamp: '', slotsStatus: entries },
  now: NOW,
});
const boardOf = (version: number, slots: readonly WireEntry[], epoch = 'e'): Event => ({
  kind: 'board',
  board: { idSpazio: 1, sedeId: 1, date: DATE, epoch, version, slots },
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
  const taken = entry(1, { status: 'occupied', held_until: UNTIL });
  const told = { ...taken, mine: true, id_utente: 7 };

  test('a board over HTTP says whose the slots are that are as it says', () => {
    const other = '2027-02-01T00:20:00.000Z';
    const state = joined([taken, entry(2, { status: 'occupied', held_until: other })]);
    const shown = after([boardOf(4, [told, { ...told, id_slot: 2 }])], state);
    expect(slotOf(shown, 1)).toMatchObject({ mine: true, user: '7' });
    expect(slotOf(shown, 2)).toMatchObject({ mine: false, user: null });
  });

  test('a board from before the slot was taken, or of another epoch, says nothing of who has it', () => {
    const booked = entry(1, { status: 'booked' });
    const taken = after([update(5, entry(1)), update(6, booked)], joined([booked]));
    for (const late of [boardOf(4, [{ ...booked, id_utente: 7 }]), boardOf(9, [{ ...booked, id_utente: 7 }], 'f')]) {
      expect(slotOf(after([late], taken), 1)?.user).toBeNull();
    }
    expect(slotOf(after([boardOf(6, [{ ...booked, id_utente: 8 }])], taken), 1)?.user).toBe('8');
  });

  test('what a board said lasts while nothing changes, and not beyond what was missed', () => {
    const booked = entry(1, { status: 'booked' });
    const known = after([boardOf(4, [{ ...booked, id_utente: 7 }])], joined([booked, entry(2)]));
    expect(slotOf(after([snapshot(4, [booked, entry(2)])], known), 1)?.user).toBe('7');
    expect(slotOf(after([update(5, entry(2, { status: 'blocked' })), snapshot(5, [booked])], known), 1)?.user).toBe('7');
    expect(slotOf(after([snapshot(6, [booked])], known), 1)?.user).toBeNull();
    expect(slotOf(after([update(6, entry(2)), snapshot(6, [booked])], known), 1)?.user).toBeNull();
  });
});

describe('whose a slot is', () => {
  const startsAt = `${DATE}T08:00:00Z`;
  const booked = entry(1, { status: 'booked', startsAt });

  test.each(['booked', 'occupied'] as const)('is what a snapshot says after another took it unheard (%s)', (status) => {
    const taken = entry(1, { status, ...(status === 'occupied' && { held_until: UNTIL }) });
    for (const times of [{}, { startsAt }]) {
      const own = after([update(5, { ...taken, mine: true })], joined([entry(1, times), entry(2, times)]));
      expect(slotOf(own, 1)?.mine).toBe(true);
      const behind = after([update(7, entry(2, { status: 'blocked' }))], own);
      const shown = after([snapshot(7, [{ ...taken, ...times }, entry(2, { status: 'blocked', ...times })])], behind);
      expect(shown.days.get(DATE)?.inSync).toBe(true);
      expect(slotOf(shown, 1)).toMatchObject({ status, mine: false });
      expect(slotOf(after([snapshot(7, [{ ...taken, ...times, mine: true }])], behind), 1)?.mine).toBe(true);
    }
  });

  test('is what a snapshot says of the same position, too: a user may be erased without a change of the space', () => {
    const own = joined([{ ...booked, mine: true }]);
    expect(slotOf(after([snapshot(4, [booked])], own), 1)?.mine).toBe(false);
    expect(slotOf(after([snapshot(4, [entry(1, { status: 'booked', mine: false })])], own), 1)?.mine).toBe(false);
  });

  test('is not what a late board says', () => {
    const lost = after([update(5, entry(1)), update(6, entry(1, { status: 'booked' }))], joined([{ ...booked, mine: true }]));
    for (const version of [4, 6]) expect(slotOf(after([boardOf(version, [{ ...booked, mine: true }])], lost), 1)?.mine).toBe(false);
  });

  test('is what a board of 0.1 said, whose snapshots do not tell it, for as long as nothing was missed', () => {
    const [own, told] = [entry(1, { status: 'booked', mine: true }), entry(1, { status: 'booked' })];
    const pictured = after([{ kind: 'watched', date: DATE }, boardOf(4, [own])]);
    expect(slotOf(after([snapshot(4, [told])], pictured), 1)?.mine).toBe(true);
    expect(slotOf(after([snapshot(5, [told])], pictured), 1)?.mine).toBe(false);
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
