// What is known of several days of one space, two of them those on which a clock is changed, by a viewer whose messages come
// late, twice or never: what was missed is sent again beside what happens meanwhile, and some slots are the viewer's own.

import fc from 'fast-check';
import { expect, test } from 'vitest';

import type { DayDate, WireEntry, WireSnapshot, WireUpdate } from '../../src/core/protocol.js';
import { daysToAsk, reduce, resumePosition, type Event } from '../../src/core/reduce.js';
import { initialState, type SpaceState } from '../../src/core/state.js';

const PLACE = { sedeId: 1, spazioId: 1 };
const NOW = Date.parse('2027-01-01T00:00:00Z');
const HOUR = 3_600_000;

/** By the clock of Rome: 02:00 twice, no 02:00 at all, and a day like others. */
const STARTS: Readonly<Record<DayDate, { readonly first: string; readonly local: readonly string[] }>> = {
  '2027-10-31': { first: '2027-10-30T23:00:00Z', local: ['01:00', '02:00', '02:00', '03:00'] },
  '2027-03-28': { first: '2027-03-28T00:00:00Z', local: ['01:00', '03:00', '04:00'] },
  '2027-06-01': { first: '2027-06-01T07:00:00Z', local: ['09:00', '10:00', '11:00'] },
};
const DAYS = Object.keys(STARTS);

type Taken = { readonly status: 'available' | 'occupied' | 'booked' | 'blocked'; readonly mine: boolean };

/** The server as the viewer sees it, with its log. */
class Server {
  readonly epoch = 'e';
  readonly log: WireUpdate[] = [];
  readonly #taken = new Map<string, Taken>();
  /** What a day was at each version. */
  readonly shownAt: ReadonlyMap<DayDate, WireEntry[]>[] = [];

  constructor() {
    this.#record();
  }

  change(date: DayDate, slot: number, taken: Taken): WireUpdate {
    const number = 1 + (slot % (STARTS[date]?.local.length ?? 1));
    this.#taken.set(`${date} ${number}`, taken);
    // An update does not tell the times of the slot.
    const { startsAt: _, endsAt: __, ...told } = this.#entry(date, number);
    const data = { ...told, ...PLACE, date } as WireUpdate['data'];
    const update = { epoch: this.epoch, version: this.log.length + 1, slotId: number, status: taken.status, timestamp: '', data };
    this.log.push(update);
    this.#record();
    return update;
  }

  day(date: DayDate): WireEntry[] {
    return (STARTS[date]?.local ?? []).map((_, index) => this.#entry(date, index + 1));
  }

  snapshot(date: DayDate): WireSnapshot {
    return { epoch: this.epoch, version: this.log.length, ...PLACE, date, timestamp: '', slotsStatus: this.day(date) };
  }

  /** What a join with `since` is answered: that all of it follows, and what was missed. */
  since(version: number): Event[] {
    const joined = { epoch: this.epoch, version: this.log.length, ...PLACE, recovered: true, timestamp: '' };
    return [{ kind: 'joined', joined }, ...this.log.slice(version).map(heard)];
  }

  #entry(date: DayDate, number: number): WireEntry {
    const { first, local } = STARTS[date] as (typeof STARTS)[string];
    const startsAt = Date.parse(first) + (number - 1) * HOUR;
    const { status, mine } = this.#taken.get(`${date} ${number}`) ?? { status: 'available', mine: false };
    return {
      id_slot: number,
      orario: local[number - 1] ?? '',
      status,
      startsAt: new Date(startsAt).toISOString(),
      endsAt: new Date(startsAt + HOUR).toISOString(),
      ...(status === 'occupied' && { held_until: new Date(NOW + HOUR).toISOString() }),
      ...(mine && { mine, ...(status === 'occupied' && { holdToken: `token ${number}` }) }),
    };
  }

  #record(): void {
    this.shownAt.push(new Map(DAYS.map((date) => [date, this.day(date)])));
  }
}

const heard = (update: WireUpdate): Event => ({ kind: 'update', update, now: NOW });
const shown = (server: Server, date: DayDate): Event => ({ kind: 'snapshot', snapshot: server.snapshot(date), now: NOW });
/** A picture over HTTP, which may come long after it was asked for. */
const pictured = (server: Server, date: DayDate): Event => {
  const { slotsStatus: slots, epoch, version } = server.snapshot(date);
  return { kind: 'board', board: { idSpazio: PLACE.spazioId, sedeId: PLACE.sedeId, date, epoch, version, slots } };
};

/** What a person is told of a slot. */
const told = (entries: readonly WireEntry[]) =>
  entries.map(({ id_slot, orario, status, startsAt, endsAt, mine, holdToken }) =>
    [id_slot, orario, status, startsAt, endsAt, mine === true, holdToken ?? null].join(' '),
  );
const drawn = (state: SpaceState, date: DayDate) =>
  state.days.get(date)?.slots.map(({ number, orario, status, startsAt, endsAt, mine, holdToken }) =>
    [number, orario, status, ...[startsAt, endsAt].map((at) => new Date(at ?? 0).toISOString()), mine, holdToken].join(' '),
  );

function expectTrue(state: SpaceState, server: Server): void {
  for (const { date, inSync } of state.days.values()) {
    const entries = server.shownAt[state.position?.version ?? 0]?.get(date) ?? [];
    if (inSync) expect(drawn(state, date)).toEqual(told(entries));
  }
}

const taken = fc.oneof(
  fc.constantFrom<Taken>({ status: 'available', mine: false }, { status: 'blocked', mine: false }),
  fc.record({ status: fc.constantFrom('occupied' as const, 'booked' as const), mine: fc.boolean() }),
);
const where = { day: fc.nat(DAYS.length - 1), slot: fc.nat(3) };
const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ what: fc.constant('change' as const), ...where, taken }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('show' as const), ...where }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('picture' as const), ...where }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('return' as const), ...where }) },
);
/** What becomes of a message on its way; one of two is on time. */
const fate = fc.oneof(
  fc.constant({ copies: 1, delay: 0 }),
  fc.record({ copies: fc.integer({ min: 0, max: 2 }), delay: fc.nat(6) }),
);

test('days of changed clocks and own slots are true or say that they are not, whatever is sent again beside what happens', () => {
  let recoveries = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fate), { maxLength: 50 }), (steps) => {
      const server = new Server();
      const joined = { epoch: server.epoch, version: 0, ...PLACE, recovered: false, timestamp: '' };
      const watched = DAYS.map((date): Event => ({ kind: 'watched', date }));
      let state = initialState(PLACE, NOW);
      const take = (event: Event) => {
        state = reduce(state, event);
        expectTrue(state, server);
      };
      for (const event of [{ kind: 'connected' } as const, ...watched, { kind: 'joined', joined } as const]) take(event);
      for (const date of DAYS) take(shown(server, date));
      const underWay: { readonly at: number; readonly event: Event }[] = [];
      steps.forEach(([one, { copies, delay }], index) => {
        const date = DAYS[one.day] ?? '';
        const events: Event[] = [];
        if (one.what === 'change') events.push(heard(server.change(date, one.slot, one.taken)));
        if (one.what === 'show') events.push(shown(server, date));
        if (one.what === 'picture') events.push(pictured(server, date));
        for (let copy = 0; copy < copies; copy += 1) underWay.push(...events.map((event) => ({ at: index + delay * (copy + 1), event })));
        if (one.what === 'return') {
          take({ kind: 'disconnected', now: NOW });
          take({ kind: 'connected' });
          const since = resumePosition(state);
          // The replay keeps its order: it comes over one new connection. What was under way over the old one comes beside it.
          const answer = since ? server.since(since.version) : [];
          if (answer.length > 1) recoveries += 1;
          for (const event of answer) {
            take(event);
            const late = underWay.shift();
            if (late) take(late.event);
          }
        }
        for (const due of underWay.filter(({ at }) => at <= index)) {
          underWay.splice(underWay.indexOf(due), 1);
          take(due.event);
        }
      });
      for (const { event } of underWay) take(event);
      // The last event arrives, and the viewer asks for each unknown day.
      take(heard(server.change(DAYS[0] ?? '', 1, { status: 'booked', mine: true })));
      for (const date of daysToAsk(state)) take(shown(server, date));
      for (const date of daysToAsk(state)) take(shown(server, date));
      expect(daysToAsk(state)).toEqual([]);
      for (const date of DAYS) expect(drawn(state, date)).toEqual(told(server.day(date)));
    }),
    { numRuns: 1_000 },
  );
  // Otherwise nothing was sent again, and nothing tried.
  expect(recoveries).toBeGreaterThan(10);
});
