// What fails, fails under load: a steady stream of acts on all nodes, and clients that watch. Afterwards every client shows
// what is stored, was told of every gap, and nothing acknowledged is lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readMetric, sameBoard, startCluster } from './lib/cluster.mjs';
import { freshSpace, range } from './lib/fixtures.mjs';
import { Follower, allShowTheStore } from './lib/follower.mjs';
import { Load } from './lib/load.mjs';
import { startTcpProxy } from './lib/proxy.mjs';
import { DEADLINE_MS, eventually, sleep } from './lib/waiting.mjs';

const settings = { SLOTCAST_USER_RATE: '0', SLOTCAST_EVENT_RATE: '0', SLOT_MAX_HOLDS: '0' };

/** How long a call may take that is answered 503 within one second, on a busy machine, in ms. */
const ONE_SECOND = 2_000;

/** A cluster with a load on it, and followers on each node: what each of the failures happens to. */
class Scene {
  static async start(t, { throughProxy = false } = {}) {
    const scene = new Scene();
    t.after(() => scene.end());
    scene.t = t;
    scene.cluster = await startCluster({ settings });
    scene.spaces = range(1, 6).map(() => freshSpace());
    if (throughProxy) scene.proxy = await startTcpProxy(() => scene.cluster.nodes.map(({ port }) => port));
    const urls = scene.cluster.nodes.flatMap((node) => [node, node]).map(({ url }) => scene.proxy?.url ?? url);
    scene.followers = urls.map((url, index) => new Follower(url, scene.spaces, { user: 600 + index }));
    await Promise.all(scene.followers.map((follower) => follower.ready()));
    scene.targets = () => scene.cluster.nodes;
    scene.load = new Load({ nodes: () => scene.targets(), spaces: scene.spaces, users: 16, pause: 40 }).start();
    await scene.acts(60);
    return scene;
  }

  /** Waits until so many acts more are done. */
  async acts(count) {
    const goal = this.load.done + count;
    await eventually(() => this.load.done >= goal, `${count} acts more`);
  }

  /** Ends the load, and checks what must hold whatever happened. */
  async check({ keepsAll = true } = {}) {
    const records = await this.load.stop();
    // What is unknown is final after a second.
    await sleep(1_100);
    await this.cluster.ready();
    const boards = await allShowTheStore(this.followers, this.cluster.nodes[0], this.spaces);
    for (const space of this.spaces) await sameBoard(this.cluster.nodes, space);
    const done = records.filter(({ ok }) => ok);
    const unknown = records.filter((record) => record.unknown);
    const snapshots = this.followers.map((follower) => this.#count(follower, 'snapshots'));
    this.t.diagnostic(`${done.length} done, ${unknown.length} unknown, snapshots ${snapshots}`);
    for (const follower of this.followers) assert.deepEqual(follower.faults, []);
    for (const space of this.spaces) {
      const board = boards.get(space.room);
      const here = (record) => record.space === space && (keepsAll || record.data?.epoch === board.epoch);
      assertNothingLost(done.filter(here), unknown.filter((record) => record.space === space), board);
      for (const follower of this.followers) assertHeard(follower.of(space), done.filter(here));
    }
    return records;
  }

  #count(follower, what) {
    return this.spaces.reduce((sum, space) => sum + follower.of(space)[what].length, 0);
  }

  assertAllStayedConnected() {
    for (const { client } of this.followers) assert.deepEqual(client.disconnects, []);
  }

  /** No client was sent a snapshot besides the one that it asked for. */
  assertNoSnapshots() {
    for (const follower of this.followers) assert.equal(this.#count(follower, 'snapshots'), this.spaces.length);
  }

  async end() {
    await this.load?.stop();
    for (const follower of this.followers ?? []) follower.close();
    this.proxy?.close();
    await this.cluster?.stop();
  }
}

/** Each slot is as the last acknowledged act on it left it, or as one without an answer may have. */
function assertNothingLost(done, unknown, board) {
  for (const { id_slot: slot, status } of board.slots) {
    const touches = ({ slots }) => slots.includes(slot);
    const last = done.filter(touches).reduce((one, other) => (one && one.data.version > other.data.version ? one : other), undefined);
    const allowed = [last?.becomes ?? 'available', ...unknown.filter(touches).map(({ becomes }) => becomes)];
    assert.ok(allowed.includes(status), `slot ${slot} is ${status}, acknowledged was ${JSON.stringify(last)}`);
  }
  for (const { data } of done) assert.ok(data.version <= board.version, `version ${data.version} is lost: ${board.version}`);
}

/** Each acknowledged act was heard under its version, unless a snapshot covers it. */
function assertHeard({ updates, snapshots, space }, done) {
  const heard = new Map(updates.map((update) => [`${update.epoch} ${update.version}`, update]));
  for (const { data, slots, becomes, act } of done) {
    const update = heard.get(`${data.epoch} ${data.version}`);
    const isCovered = snapshots.some(({ epoch, version }) => epoch !== data.epoch || version >= data.version);
    assert.ok(update || isCovered, `${act} of version ${data.version} in ${space.room} was not heard`);
    if (update) assert.deepEqual([update.slotId, update.status], [slots.at(-1), becomes], `version ${data.version}`);
  }
}

/** Every call that began while the store was away, and was not answered well, was answered 503 in time. */
function assertRefusedInTime(records, from, to) {
  const during = records.filter(({ sentAt, receivedAt }) => sentAt > from && receivedAt < to);
  const refused = during.filter(({ ok }) => !ok);
  assert.ok(refused.length > 0, 'calls were refused');
  for (const { status, code, sentAt, receivedAt, text } of refused) {
    assert.deepEqual([status, code], [503, 'unavailable'], text);
    assert.ok(receivedAt - sentAt < ONE_SECOND, `a 503 after ${receivedAt - sentAt} ms`);
  }
}

test('Redis is killed and comes back with what it had: nothing acknowledged is lost', async (t) => {
  const scene = await Scene.start(t);
  for (const _ of range(1, 2)) {
    await scene.cluster.redis.kill();
    await sleep(1_500);
    await scene.cluster.redis.start();
    await scene.cluster.ready();
    await scene.acts(60);
  }
  await scene.check();
  scene.assertAllStayedConnected();
});

test('Redis forgets everything: a new epoch begins, and every client is sent the boards', async (t) => {
  const scene = await Scene.start(t);
  const before = await Promise.all(scene.spaces.map((space) => scene.cluster.nodes[0].board(space)));
  await scene.cluster.redis.command('FLUSHALL');
  await scene.acts(100);
  await scene.check({ keepsAll: false });
  for (const [index, space] of scene.spaces.entries()) {
    const { epoch } = await scene.cluster.nodes[0].board(space);
    assert.notEqual(epoch, before[index].epoch);
  }
  scene.assertAllStayedConnected();
});

test('Redis forgets everything while nobody acts: clients are told all the same', async (t) => {
  const scene = await Scene.start(t);
  await scene.load.stop();
  await scene.cluster.redis.command('FLUSHALL');
  await scene.check({ keepsAll: false });
  for (const follower of scene.followers) {
    for (const space of scene.spaces) {
      const statuses = new Set(follower.of(space).statuses.values());
      assert.deepEqual([...statuses], ['available']);
    }
  }
});

test('subscriptions are killed: what they missed is read from the log', async (t) => {
  const scene = await Scene.start(t);
  for (const _ of range(1, 5)) {
    const killed = Number(await scene.cluster.redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    assert.ok(killed >= 1, 'there were subscriptions');
    await scene.acts(40);
  }
  await scene.check();
  scene.assertAllStayedConnected();
  scene.assertNoSnapshots();
});

for (const [what, pause] of [
  ['pauses its clients', async (redis) => redis.command('CLIENT', 'PAUSE', 5_000, 'ALL').then(() => sleep(5_000))],
  [
    'is frozen',
    async (redis) => {
      const goOn = redis.freeze();
      await sleep(5_000);
      goOn();
    },
  ],
]) {
  test(`Redis ${what} for 5 s: acts are refused in a second, and none is done late`, async (t) => {
    const scene = await Scene.start(t);
    const from = Date.now();
    await pause(scene.cluster.redis);
    const to = Date.now();
    await scene.acts(60);
    const records = await scene.check();
    assertRefusedInTime(records, from, to);
    scene.assertAllStayedConnected();
    scene.assertNoSnapshots();
  });
}

test('a node is killed: its clients go to another, and miss nothing', async (t) => {
  const scene = await Scene.start(t, { throughProxy: true });
  for (const _ of range(1, 2)) {
    await scene.cluster.killNode(scene.cluster.nodes[0]);
    await scene.acts(60);
  }
  await scene.check();
  const moved = scene.followers.filter(({ client }) => client.disconnects.length > 0);
  assert.ok(moved.length >= 2, 'clients had to move');
  scene.assertNoSnapshots();
});

test('a node is frozen for 20 s and goes on: its clients get what they missed', async (t) => {
  const scene = await Scene.start(t);
  const [frozen, ...others] = scene.cluster.nodes;
  scene.targets = () => others;
  const goOn = scene.cluster.freezeNode(frozen);
  await sleep(20_000);
  goOn();
  scene.targets = () => scene.cluster.nodes;
  await scene.acts(60);
  await scene.check();
  scene.assertNoSnapshots();
});

test('a subscription is half open, and nobody says so: what it missed is found', async (t) => {
  const scene = await Scene.start(t);
  const link = await startTcpProxy(() => [scene.cluster.redis.port]);
  t.after(() => link.close());
  // Which connections subscribe is seen in what they send.
  const subscribed = new Set();
  link.look = (chunk, near, far) => {
    if (/SUBSCRIBE/i.test(chunk)) subscribed.add({ near, far });
  };
  const node = await scene.cluster.addNode({ REDIS_URL: `redis://127.0.0.1:${link.port}` });
  const follower = new Follower(node.url, scene.spaces, { user: 650 });
  scene.followers.push(follower);
  await follower.ready();
  await scene.acts(60);
  const cut = [...subscribed];
  assert.ok(cut.length > 0, 'there are subscriptions');
  const heard = follower.client.all('slot_update').length;
  for (const { near, far } of cut) near.lost = far.lost = true;
  await scene.acts(60);
  await eventually(() => follower.client.all('slot_update').length > heard + 60, 'events in spite of it', DEADLINE_MS);
  await scene.check();
  scene.assertAllStayedConnected();
  scene.assertNoSnapshots();
});

test('without Redis acts are refused in a second, connections stay, and all recovers without a restart', async (t) => {
  const scene = await Scene.start(t);
  const { nodes, redis } = scene.cluster;
  await redis.kill();
  const from = Date.now();
  const statusOf = async (node, path) => (await fetch(node.url + path)).status;
  for (const node of nodes) {
    await eventually(async () => (await statusOf(node, '/readyz')) === 503, '/readyz tells');
    assert.equal(await statusOf(node, '/healthz'), 200);
  }
  await sleep(3_000);
  const to = Date.now();
  const space = scene.spaces[0];
  for (const node of nodes) {
    const start = Date.now();
    const board = await node.caller().get(space.boardPath());
    assert.deepEqual([board.status, board.body.code], [503, 'unavailable'], board.text);
    assert.ok(Date.now() - start < ONE_SECOND, `a board's 503 after ${Date.now() - start} ms`);
  }
  scene.assertAllStayedConnected();
  await redis.start();
  await scene.cluster.ready();
  await scene.acts(60);
  const records = await scene.check();
  assertRefusedInTime(records, from, to);
  scene.assertAllStayedConnected();
  for (const node of nodes) assert.ok((await readMetric(node, 'slotcast_feed_messages_total{kind="slot_update"}')) > 0);
});
