// Which day a board without a date shows, as time goes on in the space's zone.

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
  const space = {
    get state() {
      return state;
    },
    day(date: string) {
      opened.push(date);
      state = reduce(state, { kind: 'watched', date });
      return { date, space, get state() { return state.days.get(date); }, subscribe: () => () => undefined, close: () => undefined };
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
  const tell = (event: Event) => (state = reduce(state, event));
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
