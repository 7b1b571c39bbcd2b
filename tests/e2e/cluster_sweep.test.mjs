// Holds that end together, with any number of sweepers: each slot is freed once, and announced once, on every node.
//
// SLOTCAST_CLUSTER_HOLDS says how many holds (1,000).

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { LIBFAKETIME, wrongClock } from './lib/clock.mjs';
import { sameBoard, startCluster } from './lib/cluster.mjs';
import { day, freshNumber, freshSpace, range, versions } from './lib/fixtures.mjs';
import { sweepByCommand } from './lib/stalls.mjs';
import { staffToken } from './lib/tokens.mjs';
import { eventually, inLanes, sleep } from './lib/waiting.mjs';

const HOLDS = Number(process.env.SLOTCAST_CLUSTER_HOLDS ?? 1_000);
const SPACES = 20;
const SLOTS = 9;
const LATE_MS = 60_000 + 60 * HOLDS;

/** How many calls are under way at once. */
const AT_ONCE = 48;

const quiet = { SLOT_TIMER_INTERVAL: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0', SLOTCAST_USER_RATE: '0', SLOTCAST_EVENT_RATE: '0' };

const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

const sweep = (cluster, settings = {}) => sweepByCommand({ REDIS_URL: cluster.redis.url, ...settings }, LATE_MS);

/** All holds are in the reports once, except those that a failed sweep freed: only announcements tell of these. */
function assertAllFreed(reports) {
  const freed = sum(reports.map((report) => report.freed));
  const isRight = reports.some(({ failed }) => failed > 0) ? freed <= HOLDS : freed === HOLDS;
  assert.ok(isRight, JSON.stringify(reports));
}

/** Slots of many spaces and days that are all held until about the same instant. */
class Crowd {
  constructor(cluster) {
    this.cluster = cluster;
    this.spaces = range(1, SPACES).map(() => freshSpace());
    this.slots = range(0, HOLDS - 1).map((index) => {
      const space = this.spaces[index % SPACES];
      const nth = Math.floor(index / SPACES);
      return { space, slot: 1 + (nth % SLOTS), date: day(7 + Math.floor(nth / SLOTS)), user: `ospite-${index}` };
    });
    this.service = staffToken('servizio');
  }

  /** Each room has a client on each node. One client in all rooms might be too slow, and be closed. */
  async watch() {
    const places = this.cluster.nodes.flatMap((node) => this.spaces.map((space) => ({ node, space })));
    this.watchers = [];
    await inLanes(AT_ONCE, places, async ({ node, space }) => {
      const client = await node.user(freshNumber());
      await client.join(space);
      this.watchers.push({ client, space });
    });
  }

  async hold({ space, slot, date, user }, holdSeconds, index) {
    const node = this.cluster.nodes[index % this.cluster.nodes.length];
    const body = { ...space.body(), date, id_utente: user, holdSeconds };
    return node.caller(this.service).settled.post(`/api/slots/${slot}/hold`, body);
  }

  /** Holds all of them until about the same instant of the store's clock: until the end of the last hold. */
  async holdAll() {
    const end = Date.now() + 2_000 + HOLDS * 3;
    this.ends = [];
    await inLanes(AT_ONCE, this.slots, async (slot, index) => {
      const seconds = Math.max(1, Math.ceil((end - Date.now()) / 1_000));
      const { status, text, data } = await this.hold(slot, seconds, index);
      assert.equal(status, 200, text);
      slot.heldUntil = Date.parse(data.heldUntil);
    });
    this.lastEnd = Math.max(...this.slots.map(({ heldUntil }) => heldUntil));
  }

  async untilEnded() {
    await sleep(Math.max(0, this.lastEnd - Date.now()) + 5);
  }

  /** Each client hears each slot of its room freed once, and the counts of all clients are right. */
  async checkFreedOnce(t, eventsPerSlot = 2) {
    const probe = freshSpace();
    for (const { client, space } of this.watchers) {
      const count = () => sum(this.#freedOf(client).map((freed) => freed.count));
      await eventually(() => count() >= HOLDS, () => `${HOLDS} slots freed, not ${count()}`, LATE_MS);
      await client.many('slot_update', this.#of(space).length * eventsPerSlot, LATE_MS);
      await client.join(probe);
    }
    // A second announcement would have come before a later change.
    await this.cluster.nodes[0].staffCaller().settled.put('/api/slots/1', probe.body({ status: 'blocked' }));
    await sleep(1_200);
    for (const { client, space } of this.watchers) {
      await client.first('slot_update', ({ data }) => data.spazioId === probe.number);
      const here = client.all('slot_update').filter(({ data }) => data.spazioId === space.number);
      assert.deepEqual(versions(here), range(1, here.length));
      this.#checkFreed(space, here.filter(({ status }) => status === 'available'));
      const counts = this.#freedOf(client).map(({ count }) => count);
      assert.equal(sum(counts), HOLDS, `counts ${counts}`);
    }
    t.diagnostic(`slots_freed: ${this.#freedOf(this.watchers[0].client).map(({ count }) => count)}`);
  }

  #of(space) {
    return this.slots.filter((slot) => slot.space === space);
  }

  /** The `slots_freed` about these spaces that clients have heard. */
  #freedOf(client) {
    const numbers = new Set(this.spaces.map(({ number }) => number));
    return client.all('slots_freed').filter(({ spaces }) => spaces.some(({ spazioId }) => numbers.has(spazioId)));
  }

  #checkFreed(space, freed) {
    const ends = new Map(this.#of(space).map(({ date, slot, heldUntil }) => [`${date} ${slot}`, heldUntil]));
    const names = freed.map(({ data }) => `${data.date} ${data.id_slot}`);
    assert.deepEqual([...names].sort(), [...ends.keys()].sort(), 'each slot is announced free once');
    for (const [index, { timestamp }] of freed.entries()) {
      assert.ok(Date.parse(timestamp) >= ends.get(names[index]), `freed at ${timestamp}, before its end`);
    }
  }

  close() {
    for (const { client } of this.watchers) client.close();
  }
}

describe('nodes that free nothing by themselves', () => {
  let cluster;
  before(async () => {
    cluster = await startCluster({ nodes: 2, settings: quiet });
  });
  after(() => cluster.stop());

  async function crowd(t) {
    const people = new Crowd(cluster);
    await people.watch();
    t.after(() => people.close());
    const start = Date.now();
    await people.holdAll();
    t.diagnostic(`${HOLDS} holds in ${Date.now() - start} ms`);
    await people.untilEnded();
    return people;
  }

  test('one sweeper frees all that has ended', async (t) => {
    const people = await crowd(t);
    assertAllFreed([await sweep(cluster)]);
    await people.checkFreedOnce(t);
    assert.equal((await sweep(cluster)).freed, 0);
  });

  test('five sweepers at once free each of them once', async (t) => {
    const people = await crowd(t);
    const reports = await Promise.all(range(1, 5).map(() => sweep(cluster)));
    t.diagnostic(`freed by each: ${reports.map(({ freed }) => freed)}`);
    assertAllFreed(reports);
    await people.checkFreedOnce(t);
  });

  test('what is freed while subscriptions are killed is told once all the same', async (t) => {
    const people = await crowd(t);
    const sweeping = Promise.all(range(1, 2).map(() => sweep(cluster)));
    for (const _ of range(1, 4)) {
      await cluster.redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
      await sleep(150);
    }
    assertAllFreed(await sweeping);
    await people.checkFreedOnce(t);
  });

  const skip = !LIBFAKETIME && 'needs libfaketime';
  test('sweepers whose clocks are wrong free what has ended, and nothing else', { skip }, async (t) => {
    const people = await crowd(t);
    const live = freshSpace();
    const user = cluster.next.userCaller(freshNumber());
    const held = await user.settled.post('/api/slots/1/hold', live.body({ holdSeconds: 120 }));
    assert.equal(held.status, 200, held.text);
    const reports = await Promise.all([-300, 300, -300, 300, 0].map((seconds) => sweep(cluster, wrongClock(seconds))));
    assertAllFreed(reports);
    for (const { freed, oldestLateMs } of reports) {
      assert.ok(freed === 0 || (oldestLateMs > 0 && oldestLateMs < LATE_MS), `${oldestLateMs} ms late`);
    }
    await people.checkFreedOnce(t);
    assert.equal((await cluster.nodes[0].entry(live, 1)).status, 'occupied');
  });

  test('without a sweeper each is free to the next caller at its end', async (t) => {
    const people = await crowd(t);
    const board = await sameBoard(cluster.nodes, people.spaces[0]);
    assert.ok(board.slots.every(({ status }) => status === 'available'), 'boards show it at once');
    await inLanes(AT_ONCE, people.slots, async (slot, index) => {
      const next = await people.hold({ ...slot, user: `prossimo-${index}` }, 600, index + 1);
      assert.equal(next.status, 200, next.text);
    });
    await people.checkFreedOnce(t, 3);
  });
});

describe('nodes that free by themselves', () => {
  test('and a cron job beside them free each of them once', async (t) => {
    const settings = { ...quiet, SLOT_TIMER_INTERVAL: '500' };
    const cluster = await startCluster({ nodes: 3, settings });
    t.after(() => cluster.stop());
    const people = new Crowd(cluster);
    await people.watch();
    t.after(() => people.close());
    await people.holdAll();
    let freed = 0;
    while (Date.now() < people.lastEnd + 500) freed += (await sweep(cluster)).freed;
    t.diagnostic(`freed by the cron job: ${freed}`);
    await people.checkFreedOnce(t);
  });
});
