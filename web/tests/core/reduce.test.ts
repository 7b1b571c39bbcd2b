import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import type { DayDate, Status, WireEntry, WireSnapshot, WireUpdate } from '../../src/core/protocol.js';
import { daysToAsk, reduce, resumePosition, type Event } from '../../src/core/reduce.js';
import { initialState, type SpaceState } from '../../src/core/state.js';

const DAYS: readonly DayDate[] = ['2027-03-01', '2027-03-02'];
const SLOTS = 3;
const START = Date.parse('2027-02-01T00:00:00Z');

/** A server in small: one space, its history by position, and what it would send. */
class Server {
  epoch = 'e1';
  version = 0;
  #slots = new Map<string, Status>();
  /** `epoch version date` to the statuses at that position. */
  readonly history = new Map<string, Status[]>();

  constructor() {
    this.#record();
  }

  change(date: DayDate, slot: number, status: Status): WireUpdate {
    this.version += 1;
    this.#slots.set(`${date} ${slot}`, status);
    this.#record();
    const data = { ...this.#entry(date, slot), spazioId: 1, sedeId: 1, date };
    return { epoch: this.epoch, version: this.version, slotId: slot, status, timestamp: '', data };
  }

  /** Continuity is lost, and a slot with it. */
  restart(date: DayDate, slot: number): void {
    this.epoch = `e${Number(this.epoch.slice(1)) + 1}`;
    this.#slots.delete(`${date} ${slot}`);
    this.#record();
  }

  snapshot(date: DayDate): WireSnapshot {
    const slotsStatus = Array.from({ length: SLOTS }, (_, index) => this.#entry(date, index + 1));
    return { epoch: this.epoch, version: this.version, sedeId: 1, spazioId: 1, date, timestamp: '', slotsStatus };
  }

  statuses(date: DayDate): Status[] {
    return this.snapshot(date).slotsStatus.map(({ status }) => status);
  }

  #entry(date: DayDate, slot: number): WireEntry {
    const status = this.#slots.get(`${date} ${slot}`) ?? 'available';
    return { id_slot: slot, orario: `${8 + slot}:00`, status, startsAt: `${date}T0${slot}:00:00Z` };
  }

  #record(): void {
    for (const date of DAYS) this.history.set(`${this.epoch} ${this.version} ${date}`, this.statuses(date));
  }
}

const joined = (server: Server, recovered = false): Event => ({
  kind: 'joined',
  joined: { epoch: server.epoch, version: server.version, sedeId: 1, spazioId: 1, recovered, timestamp: '' },
});
const snapshot = (server: Server, date: DayDate): Event => ({
  kind: 'snapshot',
  snapshot: server.snapshot(date),
  now: START,
});
const update = (update: WireUpdate): Event => ({ kind: 'update', update, now: START });

const shown = (state: SpaceState, date: DayDate) => state.days.get(date)?.slots.map(({ status }) => status);

function start(server: Server): SpaceState {
  let state = initialState({ sedeId: 1, spazioId: 1 }, START);
  for (const event of [
    { kind: 'connected' } as const,
    ...DAYS.map((date) => ({ kind: 'watched', date }) as const),
    joined(server),
    ...DAYS.map((date) => snapshot(server, date)),
  ]) {
    state = reduce(state, event);
  }
  return state;
}

/** Every day that claims to be in sync shows what the server had at the state's position. */
function expectTrue(state: SpaceState, server: Server): void {
  for (const day of state.days.values()) {
    if (!day.inSync || state.position === null) continue;
    const { epoch, version } = state.position;
    expect(shown(state, day.date)).toEqual(server.history.get(`${epoch} ${version} ${day.date}`));
  }
}

const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ what: fc.constant('change' as const), day: fc.nat(1), slot: fc.nat(2), to: fc.constantFrom<Status>('available', 'occupied', 'booked', 'blocked') }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('show' as const), day: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('restart' as const), day: fc.nat(1), slot: fc.nat(2) }) },
);
/** What becomes of a message on its way. */
const fate = fc.record({ copies: fc.integer({ min: 0, max: 2 }), delay: fc.nat(6) });

describe('the state of a space', () => {
  test('is true or says that it is not, whatever is lost, repeated or late', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(step, fate), { maxLength: 60 }), (steps) => {
        const server = new Server();
        let state = start(server);
        const underWay: { at: number; event: Event }[] = [];
        steps.forEach(([{ what, ...where }, { copies, delay }], index) => {
          const date = DAYS[where.day] ?? '';
          const events: Event[] = [];
          if (what === 'change' && 'to' in where) events.push(update(server.change(date, where.slot + 1, where.to)));
          if (what === 'show') events.push(snapshot(server, date));
          if (what === 'restart' && 'slot' in where) {
            server.restart(date, where.slot + 1);
            events.push(...DAYS.map((one) => snapshot(server, one)));
          }
          for (let copy = 0; copy < copies; copy += 1) {
            underWay.push(...events.map((event) => ({ at: index + delay * copy + delay, event })));
          }
          const arrived = underWay.filter(({ at }) => at <= index);
          for (const one of arrived) {
            underWay.splice(underWay.indexOf(one), 1);
            state = reduce(state, one.event);
            expectTrue(state, server);
          }
        });
        for (const { event } of underWay) {
          state = reduce(state, event);
          expectTrue(state, server);
        }
        // The last event arrives, and the client asks for each unknown day.
        state = reduce(state, update(server.change(DAYS[0] ?? '', 1, 'blocked')));
        for (let round = 0; round < 3; round += 1) {
          for (const date of daysToAsk(state)) state = reduce(state, snapshot(server, date));
        }
        expect(daysToAsk(state)).toEqual([]);
        for (const date of DAYS) expect(shown(state, date)).toEqual(server.statuses(date));
      }),
      { numRuns: 2_000 },
    );
  });

  test('is total: no event of any shape of these kinds changes a value in place', () => {
    const server = new Server();
    const state = start(server);
    const frozen = JSON.stringify([...state.days.values()].map(({ slots }) => slots));
    reduce(state, update(server.change(DAYS[0] ?? '', 1, 'booked')));
    reduce(state, { kind: 'clock', now: START + 1e12 });
    reduce(state, { kind: 'user_changed' });
    expect(reduce(state, { kind: 'unheard of' } as unknown as Event)).toBe(state);
    expect(JSON.stringify([...state.days.values()].map(({ slots }) => slots))).toBe(frozen);
  });

  test('stays the same object until something changes', () => {
    const server = new Server();
    const state = start(server);
    expect(reduce(state, { kind: 'clock', now: START + 1_000 })).toBe(state);
    expect(reduce(state, { kind: 'connected' }).days).toBe(state.days);
    expect(reduce(state, update({ ...server.change(DAYS[0] ?? '', 1, 'booked'), version: 0 }))).toBe(state);
    const later = reduce(state, update({ ...server.change(DAYS[0] ?? '', 2, 'booked'), version: 1 }));
    expect(later.days.get(DAYS[1] ?? '')).toBe(state.days.get(DAYS[1] ?? ''));
    expect(later.days.get(DAYS[0] ?? '')?.slots[0]).toBe(state.days.get(DAYS[0] ?? '')?.slots[0]);
  });

  test('goes on from its position after a reconnection that recovers', () => {
    const server = new Server();
    let state = reduce(start(server), { kind: 'disconnected', now: START });
    const missed = [server.change(DAYS[0] ?? '', 1, 'booked'), server.change(DAYS[1] ?? '', 2, 'blocked')];
    expect(resumePosition(state)).toEqual({ epoch: 'e1', version: 0 });
    for (const event of [{ kind: 'connected' } as const, joined(server, true), ...missed.map(update)]) {
      state = reduce(state, event);
    }
    expect(daysToAsk(state)).toEqual([]);
    for (const date of DAYS) expect(shown(state, date)).toEqual(server.statuses(date));
  });

  test('takes nothing of the user before', () => {
    const server = new Server();
    const state = reduce(start(server), { kind: 'user_changed' });
    expect(resumePosition(state)).toBeNull();
    expect(daysToAsk(state)).toEqual(DAYS);
    expect([...state.days.values()].every(({ slots, isKnown }) => slots.length === 0 && !isKnown)).toBe(true);
  });
});
