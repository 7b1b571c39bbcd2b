// What a board follows from the clock: which day it shows without a date, and for how long a change is seen.

import { describe, expect, test } from 'vitest';

import type { Client } from '../../src/client.js';
import { reduce, type Event } from '../../src/core/reduce.js';
import { initialState, type SpaceState } from '../../src/core/state.js';
import { Model } from '../../src/element/model.js';

const PLACE = { sedeId: 1, spazioId: 1 };
const EVENING = Date.parse('2027-03-01T22:59:00Z');
const MIDNIGHT = Date.parse('2027-03-01T23:00:00Z');

/** A board in Rome, at 23:59 by the clock there, over a client that only keeps what it is told. */
function boardAt(now: number) {
  let state: SpaceState = initialState(PLACE, now);
  const clock = { now };
  const opened: string[] = [];
  const listeners = new Set<() => void>();
  const subscribe = (listener: () => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };
  const space = {
    get state() {
      return state;
    },
    day(date: string) {
      opened.push(date);
      state = reduce(state, { kind: 'watched', date });
      return { date, space, get state() { return state.days.get(date); }, subscribe, close: () => undefined };
    },
  };
  const client = {
    state: { userId: '7', link: 'online', isStaff: false },
    now: () => clock.now,
    subscribe: () => () => undefined,
    space: () => space,
  } as unknown as Client;
  const host = { changed: () => undefined, emit: () => undefined, say: () => undefined, opened: () => undefined };
  const settings = { url: undefined, token: null, client, place: PLACE, date: undefined, language: 'en', texts: undefined };
  const model = new Model(host, settings);
  const tell = (event: Event) => {
    state = reduce(state, event);
    for (const listener of listeners) listener();
  };
  tell({ kind: 'described', description: { timezone: 'Europe/Rome' } });
  model.open();
  return { model, clock, opened, tell, settings };
}

const snapshot = (now: number, mine: boolean): Event => {
  const startsAt = new Date(MIDNIGHT + 60_000).toISOString();
  const hold = { status: 'occupied', held_until: new Date(MIDNIGHT + 50_000).toISOString(), mine } as const;
  const slotsStatus = [{ id_slot: 1, orario: '23:59', startsAt, endsAt: startsAt, ...hold }];
  return { kind: 'snapshot', snapshot: { epoch: 'e', version: 1, ...PLACE, date: '2027-03-01', timestamp: '', slotsStatus }, now };
};

describe('a board without a date', () => {
  test('goes on to the next day at midnight where the space is', () => {
    const { model, clock, opened, tell } = boardAt(EVENING);
    tell(snapshot(EVENING, false));
    model.followToday();
    expect(opened).toEqual(['2027-03-01']);
    clock.now = MIDNIGHT;
    model.followToday();
    model.followToday();
    expect(opened).toEqual(['2027-03-01', '2027-03-02']);
  });

  test('stays while a hold of one’s own is there, and goes on after it', () => {
    const { model, clock, opened, tell } = boardAt(EVENING);
    tell(snapshot(EVENING, true));
    clock.now = MIDNIGHT;
    model.followToday();
    expect(opened).toHaveLength(1);
    clock.now = MIDNIGHT + 50_000;
    tell({ kind: 'clock', now: clock.now });
    model.followToday();
    expect(opened).toEqual(['2027-03-01', '2027-03-02']);
  });

  test('with a date stays on it', () => {
    const { model, clock, opened, settings } = boardAt(EVENING);
    model.set({ ...settings, date: '2027-03-01' } as never);
    clock.now = MIDNIGHT;
    model.followToday();
    expect(new Set(opened)).toEqual(new Set(['2027-03-01']));
  });
});

describe('a change', () => {
  const SLOTS = 12;
  const show = (version: number, taken: number): Event => {
    const startsAt = new Date(MIDNIGHT + 7_200_000).toISOString();
    const slotsStatus = Array.from({ length: SLOTS }, (_, index) => ({ id_slot: index + 1, orario: '', startsAt, status: index < taken ? ('booked' as const) : ('available' as const) }));
    return { kind: 'snapshot', snapshot: { epoch: 'e', version, ...PLACE, date: '2027-03-01', timestamp: '', slotsStatus }, now: EVENING };
  };
  const fading = ({ changed }: Model, now: number) => [...changed].filter(([, until]) => until > now).map(([number]) => number);

  test('is seen for a moment, also where no animation runs that could end', () => {
    const { model, clock, tell } = boardAt(EVENING);
    tell(show(1, 0));
    tell(show(2, 3));
    expect(fading(model, clock.now)).toEqual([1, 2, 3]);
    clock.now += 900;
    expect(fading(model, clock.now)).toEqual([]);
    // Fades that are over leave room for new ones.
    tell(show(3, SLOTS - 1));
    expect(fading(model, clock.now)).toHaveLength(8);
  });

  test('of many slots at once is not followed slot by slot', () => {
    const { model, clock, tell } = boardAt(EVENING);
    tell(show(1, 0));
    tell(show(2, 7));
    tell(show(3, 9));
    expect(fading(model, clock.now)).toHaveLength(7);
    tell(show(4, 0));
    expect(fading(model, clock.now)).toHaveLength(7);
  });
});
