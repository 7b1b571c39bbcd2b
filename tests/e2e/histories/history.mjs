// One history: many users act on three nodes while something fails, and everything that they were answered and that
// viewers heard is recorded; then what must hold is checked.

import { comparable } from '../lib/cluster.mjs';
import { day, range } from '../lib/fixtures.mjs';
import { Follower } from '../lib/follower.mjs';
import { callerOf } from '../lib/http.mjs';
import { Client } from '../lib/client.mjs';
import { Load } from '../lib/load.mjs';
import { staffToken, userToken } from '../lib/tokens.mjs';
import { eventually, sleep } from '../lib/waiting.mjs';
import { check } from './checks.mjs';
import { JournalReader } from './journal.mjs';
import { Messages } from './messages.mjs';
import { World } from './worlds.mjs';

/** How long the recovery after a fault may take, in ms. A busy machine needs its time. */
const RECOVERY_MS = 60_000;

/** How long all acts before a fault, and all acts after it, may take, in ms. This says nothing about the fault. */
const ACTS_MS = 120_000;

/** How long a probe of a node may take, in ms. */
const PROBE_MS = 3_000;

/** After this many ms an unknown outcome is final. */
const UNKNOWN_MS = 1_100;

/** A hold that ends within this many ms is waited for. Other holds last for minutes. */
const SHORT_HOLD_MS = 60_000;

/** Ended holds that are not announced this long after their end are forgotten, in ms. */
const ANNOUNCED_MS = 10_000;

/** How often each node is asked whether it is ready, in ms. */
const READY_MS = 250;

/** Of the sizes of a history, what `fault` may override. */
const SIZES = { spaces: 4, users: 10, sockets: 3, pause: 120, shortHolds: 0.5, warmUp: 60, afterwards: 40, lasts: 2_000, clock: 2, breaks: false };

/** Runs a fault once with a seed: `{name, seed, violations, lost, loses, acts, workMs, equalMs, record}`. */
export async function runHistory(fault, seed, { note = () => {} } = {}) {
  const sizes = { ...SIZES, ...fault.sizes };
  const options = typeof fault.world === 'function' ? fault.world() : fault.world;
  const world = await World.start({ ...options, on: fault.on, seed });
  const history = new History(world, fault, sizes, seed, note);
  // Nodes of 0.1 keep no journal.
  if (!options?.binaries) history.journal = new JournalReader(world);
  try {
    await history.run();
    await history.collect();
  } finally {
    await history.end();
  }
  const { record } = history;
  return { name: fault.name, seed, loses: fault.loses, ...check(record), ...history.figures(), record };
}

class History {
  constructor(world, fault, sizes, seed, note) {
    Object.assign(this, { world, fault, sizes, seed, note });
    this.spaces = range(1, sizes.spaces).map((index) => spaceOf(1000 + index));
    this.problems = [];
    this.readiness = [];
  }

  async run() {
    const { world, sizes, spaces, seed } = this;
    world.spaces = spaces;
    await this.fault.prepare?.(world);
    this.journal?.start();
    await this.#startViewers();
    this.messages = await new Messages(world, { breaks: sizes.breaks }).start();
    this.messages.listen(this.viewers.map(({ name, follower }) => ({ name, client: follower.client })));
    const sockets = new Map(range(1, sizes.sockets).map((index) => [2_000 + index, this.#socketOf(2_000 + index, index % 3)]));
    this.sockets = [...sockets.values()];
    await Promise.all(this.sockets.map((client) => client.connected()));
    const { users, pause, shortHolds } = sizes;
    const often = { repeats: 0.15, forgets: 0.7 };
    this.load = new Load({ nodes: () => world.nodes, spaces, users, sockets, pause, shortHolds, settle: true, seed, ...often });
    world.load = this.load.start();
    this.watching = this.#watchReadiness();
    await this.#acts(sizes.warmUp);
    await this.#fail();
    await this.#recover();
    await this.#acts(sizes.afterwards);
    await this.load.stop();
    this.messages.stopped = true;
    for (const { follower } of this.viewers) follower.rest();
    await sleep(UNKNOWN_MS);
  }

  /** Starts three viewers at each home: one on a websocket, one that polls, and one that is upgraded. */
  async #startViewers() {
    const kinds = [
      [0, ['websocket']],
      [1, ['websocket']],
      [2, ['websocket']],
      [2, ['polling']],
      [1, ['polling', 'websocket']],
    ];
    this.viewers = kinds.map(([home, transports], index) => ({
      name: `viewer ${index} at ${home} (${transports})`,
      home,
      follower: new Follower(this.world.door(home), this.spaces, { user: 600 + index, transports }),
    }));
    await Promise.all(this.viewers.map(({ follower }) => follower.ready()));
    if (this.sizes.breaks) this.viewers[0].follower.breakOften();
  }

  #socketOf(user, home) {
    return new Client(this.world.door(home), {
      token: userToken(user),
      reconnection: true,
      reconnectionDelay: 100,
      reconnectionDelayMax: 500,
    });
  }

  /** Asks each node repeatedly whether it is ready. */
  async #watchReadiness() {
    while (!this.ended) {
      await Promise.all(this.world.nodes.map(({ url }) => this.#askReadiness(url)));
      await sleep(READY_MS);
    }
  }

  async #askReadiness(node) {
    const at = Date.now();
    const answer = await fetch(`${node}/readyz`, { signal: AbortSignal.timeout(PROBE_MS) }).catch(() => undefined);
    this.readiness.push({ node, at, status: answer?.status });
  }

  /** Waits until this many more acts are done. */
  async #acts(count) {
    const goal = this.load.done + count;
    await eventually(() => this.load.done >= goal, `${count} acts more`, ACTS_MS);
  }

  async #fail() {
    const { fault, world } = this;
    // The logs are read before the fault, because a store that loses its past can no longer tell it.
    this.before = { at: Date.now(), logs: await this.#readLogs(), readAt: Date.now() };
    this.injectAt = Date.now();
    this.note(`inject ${fault.name}`);
    await fault.inject(world);
    await sleep(this.sizes.lasts);
    await fault.heal?.(world);
    this.healAt = Date.now();
    this.note(`healed after ${this.healAt - this.injectAt} ms`);
  }

  /** How long it takes until acts work on every node and in every space, and until every viewer has heard of them. */
  async #recover() {
    const marks = await this.#whenActsWork();
    this.workAt = Date.now();
    const behind = () => this.viewers.filter(({ follower }) => !this.spaces.every((space) => isPast(follower, space, marks)));
    const areEqual = async () => {
      if (behind().length > 0) await this.#followRepairs(marks).catch(() => {});
      return behind().length === 0;
    };
    await eventually(areEqual, 'viewers', RECOVERY_MS).catch(() => {
      this.#problem('viewers-behind', behind().map(({ name }) => name).join(', '));
    });
    this.equalAt = Date.now();
    await Promise.all(this.world.nodes.map((node) => node.ready())).catch(({ message }) => this.#problem('not-ready', message));
    this.note(`acts ${this.workAt - this.healAt} ms, viewers ${this.equalAt - this.healAt} ms`);
  }

  /** The highest position in the answers to probes, by room. */
  async #whenActsWork() {
    const marks = new Map();
    const end = Date.now() + RECOVERY_MS;
    const probes = this.world.homes.flatMap((_, home) => this.spaces.map((space) => ({ home, space })));
    // If one node were asked after the other, each space would wait for the slowest of them.
    await Promise.all(probes.map(async ({ home, space }) => {
      let last;
      while (Date.now() < end) {
        last = await this.#probe(home, space);
        if (last?.status === 200) {
          const { epoch, version } = last.data;
          const mark = marks.get(space.room);
          if (!(mark?.epoch === epoch && mark.version > version)) marks.set(space.room, { epoch, version });
          return;
        }
        await sleep(50);
      }
      this.#problem('acts-do-not-work', `home ${home}, ${space.room}: ${last?.text ?? 'no answer'}`);
    }));
    return marks;
  }

  /**
   * Moves the marks that are in an epoch which the store has ended to the store's last position. A node may repair a bucket
   * after another node answered a probe there: no viewer then reaches a position in the epoch of that probe.
   */
  async #followRepairs(marks) {
    for (const space of this.spaces) {
      const mark = marks.get(space.room);
      if (mark === undefined || this.viewers.every(({ follower }) => follower.of(space).position?.epoch === mark.epoch)) continue;
      const last = (await this.#readLog(space)).at(-1);
      if (last && last.epoch !== mark.epoch) marks.set(space.room, { epoch: last.epoch, version: last.version });
    }
  }

  /** An act that changes something each time, on a day that nobody watches. */
  async #probe(home, space) {
    const node = this.world.homes[home];
    if (node === undefined) return undefined;
    const staff = callerOf(node.url, staffToken(), PROBE_MS);
    const body = space.body({ date: PROBE_DAY, status: 'blocked' });
    return staff.put(`/api/slots/${1 + home}`, body).catch(() => undefined);
  }

  #problem(name, text) {
    this.problems.push({ name, text });
  }

  /** Waits until everything is at rest, and records the state. */
  async collect() {
    await this.messages.stop(RECOVERY_MS / 3);
    for (const client of this.sockets) client.close();
    await this.fault.beforeCollect?.(this.world);
    const boards = await this.#boardsAtRest();
    const logs = await this.#readLogs();
    const journal = await this.journal?.finish();
    const { load, before, injectAt, healAt, workAt, seed, fault } = this;
    this.record = {
      fault: fault.name,
      seed,
      loses: Boolean(fault.loses),
      clock: this.sizes.clock,
      injectAt,
      healAt,
      workAt,
      endedBefore: Date.now() - ANNOUNCED_MS,
      spaces: this.spaces.map(({ room, site, number, date }) => ({ room, site, number, date })),
      records: load.records.map(({ space, wanted: _, ...one }) => ({ ...one, room: space.room })),
      boards,
      logs,
      journal,
      before,
      viewers: this.viewers.map((viewer) => recordOf(viewer, this.spaces)),
      messages: this.messages.record(),
      readiness: this.readiness,
      problems: this.problems,
    };
    // Records refer to each other, so the references of copies must be to copies.
    const copies = new Map(load.records.map((one, index) => [one, this.record.records[index]]));
    for (const one of this.record.records) if (one.first) one.first = copies.get(one.first);
  }

  /** The boards when all nodes and viewers agree and no hold ends soon. After the deadline, the boards as they are. */
  async #boardsAtRest() {
    let boards = {};
    const areAtRest = async () => {
      const all = await Promise.all(this.spaces.map(async (space) => {
        const each = await Promise.all(this.world.nodes.map((node) => node.board(space)));
        const texts = new Set(each.map((board) => JSON.stringify(comparable(board))));
        boards[space.room] = { ...each[0], at: Date.now() };
        const shown = this.viewers.every(({ follower }) => follower.shows(space, each[0]));
        const log = await this.#readLog(space);
        return texts.size === 1 && shown && log.at(-1)?.version === each[0].version && isAtRest(log);
      }));
      return all.every(Boolean);
    };
    await eventually(() => areAtRest().catch(() => false), 'boards at rest', RECOVERY_MS / 3).catch(() => {});
    // Nodes gather freed slots for a second.
    await sleep(UNKNOWN_MS);
    return boards;
  }

  async #readLogs() {
    return Object.fromEntries(await Promise.all(this.spaces.map(async (space) => [space.room, await this.#readLog(space)])));
  }

  /** The log of a space as the store itself has it. */
  async #readLog({ site, number }) {
    for (const server of await this.world.primaries()) {
      const [key] = await server.ask('KEYS', `slotcast:*:log:${site}:${number}`);
      if (key !== undefined) return (await server.ask('XRANGE', key, '-', '+')).map(entryOf);
    }
    return [];
  }

  figures() {
    const { injectAt, healAt, workAt, equalAt, load } = this;
    const records = load.records;
    return {
      acts: records.filter(({ ok }) => ok).length,
      unknown: records.filter(({ unknown }) => unknown).length,
      calls: records.length,
      lastedMs: healAt - injectAt,
      workMs: workAt - healAt,
      equalMs: equalAt - healAt,
    };
  }

  async end() {
    this.ended = true;
    if (this.journal) this.journal.stopped = true;
    await this.watching;
    this.messages?.close();
    for (const { follower } of this.viewers ?? []) follower.close();
    for (const client of this.sockets ?? []) client.close();
    await this.load?.stop().catch(() => {});
    await this.fault.end?.(this.world);
    const problems = await this.world.end();
    for (const text of problems) this.#problem('ended-badly', text);
  }
}

const DAY = day(7);

/** The day of probes, which is in every log and on no watched board. */
const PROBE_DAY = day(8);

/** The space of a number, on the day of all histories. */
export function spaceOf(number) {
  const names = { site: 1, number, date: DAY, room: `spazio_${number}_sede_1` };
  return {
    ...names,
    event: (more = {}) => ({ spazioId: number, sedeId: 1, date: DAY, ...more }),
    body: (more = {}) => ({ idSpazio: number, sedeId: 1, date: DAY, ...more }),
    boardPath: (on = DAY) => `/api/slots/${number}/${on}?sedeId=1`,
    path: `/api/spaces/1/${number}`,
  };
}

/** Whether a viewer has heard of a position, or of what came after it. */
function isPast(follower, space, marks) {
  const { position } = follower.of(space);
  const mark = marks.get(space.room);
  return mark === undefined || (position?.epoch === mark.epoch && position.version >= mark.version);
}

/** Whether a log leaves no hold that has ended or will end soon. */
function isAtRest(log) {
  const last = new Map();
  for (const { kind, payload } of log) if (kind === 'slot_update') last.set(`${payload.data.date} ${payload.slotId}`, payload);
  const soon = Date.now() + SHORT_HOLD_MS;
  return [...last.values()].every(({ status, data }) => status !== 'occupied' || Date.parse(data.held_until) > soon);
}

function entryOf([id, words]) {
  const fields = Object.fromEntries(range(0, words.length / 2 - 1).map((index) => [words[2 * index], words[2 * index + 1]]));
  return { version: Number.parseInt(id, 10), epoch: fields.e, kind: fields.k, payload: JSON.parse(fields.p) };
}

function recordOf({ name, home, follower }, spaces) {
  const rooms = spaces.map((space) => {
    const { position, statuses, updates } = follower.of(space);
    return [space.room, { position, statuses: Object.fromEntries(statuses), updates }];
  });
  return {
    name,
    home,
    stayed: follower.client.disconnects.length === 0,
    faults: follower.faults,
    rooms: Object.fromEntries(rooms),
    freed: follower.client.all('slots_freed'),
  };
}
