// Three nodes on a Redis Cluster of three primaries under load: hash slots move from one primary to another and back, and
// primaries are killed. Acts may be refused meanwhile and epochs may change; every client ends with what is stored, is told of
// each gap, and nothing acknowledged is lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { Follower, allShowTheStore } from './lib/follower.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { Scene } from './lib/scene.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

/** How many times a hash slot moves to another primary and back. */
const ROUNDS = 3;

/** How many acts are done in each state of a moving hash slot. */
const ACTS = 15;

/** How long a killed primary stays away, in ms. The others notice that within some of these times, and not within others. */
const AWAY_MS = [500, 1_500, 4_000];

/** A scene on a Redis Cluster, and messages to users. */
async function start(t) {
  const redis = await startRedisCluster();
  const scene = await Scene.start(t, { store: redis, shortHolds: 0.2 });
  const mailbox = await Mailbox.open(t, scene);
  const slots = [];
  for (const { site, number } of scene.spaces) {
    slots.push(await redis.slotOf(await redis.findKey(`slotcast:*:head:${site}:${number}`)));
  }
  assert.equal(new Set(slots).size, slots.length, 'each space is in a hash slot of its own');
  const owners = await Promise.all(slots.map((slot) => redis.ownerOf(slot)));
  assert.ok(new Set(owners).size > 1, 'the spaces are on several primaries');
  return { redis, scene, mailbox, slots };
}

/** Messages to several users by turns. Each user has a socket on every node. */
class Mailbox {
  static async open(t, scene) {
    const mailbox = new Mailbox();
    mailbox.scene = scene;
    mailbox.users = await Promise.all(
      scene.cluster.nodes.map(async () => {
        const id = freshNumber();
        const clients = await Promise.all(scene.cluster.nodes.map((node) => node.user(id)));
        return { id, clients, acknowledged: [] };
      }),
    );
    mailbox.isOpen = true;
    mailbox.sending = mailbox.#send();
    // `check` reports the failure.
    mailbox.sending.catch(() => {});
    t.after(() => {
      mailbox.isOpen = false;
    });
    await mailbox.more(3);
    return mailbox;
  }

  async #send() {
    for (let n = 1; this.isOpen; n += 1) {
      for (const { id, acknowledged } of this.users) {
        const caller = this.scene.cluster.next.staffCaller();
        const answer = await caller.post(`/api/users/${id}/notify`, { event: 'avviso', data: { n } });
        assert.ok([200, 503].includes(answer.status), answer.text);
        if (answer.status === 200) acknowledged.push(n);
      }
      await sleep(20);
    }
  }

  /** Waits until `count` more messages to each user are acknowledged. */
  async more(count) {
    const goals = this.users.map(({ acknowledged }) => acknowledged.length + count);
    const isThere = ({ acknowledged }, index) => acknowledged.length >= goals[index];
    await eventually(() => this.users.every(isThere), `${count} messages more to each user`);
  }

  /** Ends the messages. Each socket stayed connected, and got each acknowledged message once and in order. */
  async check(t) {
    this.isOpen = false;
    await this.sending;
    for (const { id, clients, acknowledged } of this.users) {
      for (const [index, client] of clients.entries()) {
        const heard = () => client.all('avviso').map(({ n }) => n);
        const missing = () => acknowledged.filter((n) => !heard().includes(n));
        await eventually(
          () => missing().length === 0,
          () => `messages ${missing()} of ${acknowledged.length} to user ${id} on node ${index}`,
        );
        // A refused message may have been sent all the same. A message that was sent once comes once.
        const inOrder = [...new Set(heard())].sort((left, right) => left - right);
        assert.deepEqual(heard(), inOrder, `user ${id} on node ${index}`);
        assert.deepEqual(client.disconnects, []);
      }
    }
    t.diagnostic(`messages to users: ${this.users.map(({ acknowledged }) => acknowledged.length)}`);
  }
}

/** Moves a hash slot while acts go on in each state of the move. Gives how many keys were moved. */
async function move({ redis, scene }, slot, to, atHalf = async () => {}) {
  const moving = await redis.beginMove(slot, to);
  await scene.acts(ACTS);
  await moving.moveKeys(Math.ceil((await moving.left()) / 2));
  await scene.acts(ACTS);
  await atHalf();
  await moving.moveKeys();
  await scene.acts(ACTS);
  await moving.finish();
  await scene.acts(ACTS);
  return moving.moved;
}

/** Checks what must always hold, and that each node serves each space and each client hears of it. */
async function check(t, { scene, mailbox }) {
  await mailbox.check(t);
  const records = await scene.check();
  scene.assertAllStayedConnected();
  // Versions continue across epochs, so a snapshot of a later version must have what a client did not hear.
  for (const { ok, data, act, space } of records) {
    if (!ok) continue;
    for (const follower of scene.followers) {
      const { updates, snapshots } = follower.of(space);
      const isTold = updates.some(({ epoch, version }) => epoch === data.epoch && version === data.version);
      const isShown = snapshots.some(({ version }) => version >= data.version);
      assert.ok(isTold || isShown, `${act} of version ${data.version} in ${space.room} was told to nobody`);
    }
  }
  for (const node of scene.cluster.nodes) {
    for (const space of scene.spaces) {
      const caller = node.staffCaller();
      for (const status of ['blocked', 'available']) {
        const answer = await caller.put('/api/slots/1', space.body({ status }));
        assert.equal(answer.status, 200, `${node.url} ${space.room}: ${answer.text}`);
      }
    }
  }
  await allShowTheStore(scene.followers, scene.cluster.nodes[0], scene.spaces);
  for (const follower of scene.followers) assert.deepEqual(follower.faults, []);
}

// A key that a script empties is deleted. While a hash slot moves, a missing key is looked for on the other server. A
// script that uses such a key again would fail there, with half of its writing done.
test('what leaves nothing behind is done whole, also in a hash slot that is about to move', async (t) => {
  const redis = await startRedisCluster();
  const cluster = await startCluster({ nodes: 1, store: redis });
  let follower;
  t.after(() => {
    follower?.close();
    return cluster.stop();
  });
  const [node] = cluster.nodes;
  const space = freshSpace();
  follower = new Follower(node.url, [space]);
  await follower.ready();
  const user = node.userCaller(freshNumber());
  const act = async (name, more) => {
    const answer = await user.post(`/api/slots/${name}`, space.body(more));
    assert.equal(answer.status, 200, `${name}: ${answer.text}`);
  };
  // Each slot is held and freed once.
  const isFreed = ({ slotId, status }, slot) => slotId === slot && status === 'available';
  const hearFreed = async (slot) =>
    eventually(() => follower.of(space).updates.some((update) => isFreed(update, slot)), `slot ${slot} is free`);
  // Once all keys of an act exist, the act is not refused for missing ones.
  await act('hold', { slots: [1], holdSeconds: 1 });
  await hearFreed(1);
  const slot = await redis.slotOf(await redis.findKey(`slotcast:*:head:${space.site}:${space.number}`));
  const home = await redis.ownerOf(slot);
  const other = redis.servers.find((server) => server !== home);

  for (const [hold, empty, freed] of [
    [{ slots: [2, 3] }, () => act('release', { slots: [2, 3] }), [2, 3]],
    [{ slots: [4] }, () => act('extend', { slots: [4], holdSeconds: 2 }), [4]],
    [{ slots: [5, 6], holdSeconds: 4 }, async () => {}, [5, 6]],
  ]) {
    await user.settled.post('/api/slots/hold', space.body(hold));
    const from = await redis.ownerOf(slot);
    const moving = await redis.beginMove(slot, from === home ? other : home);
    await empty();
    for (const one of freed) await hearFreed(one);
    await moving.finish();
    await allShowTheStore([follower], node, [space]);
  }
  assert.deepEqual(follower.faults, []);
});

test('hash slots move to another primary and back: nothing is lost, and no gap goes unannounced', async (t) => {
  const all = await start(t);
  const { redis, slots, mailbox } = all;
  const userSlots = [];
  for (const { id } of mailbox.users) userSlots.push(await redis.slotOf(await redis.findKey(`slotcast:*:user:${id}`)));
  let moved = 0;
  for (const round of range(1, ROUNDS)) {
    for (const slot of [slots[round % slots.length], userSlots[round % userSlots.length]]) {
      const from = await redis.ownerOf(slot);
      const to = redis.servers[(redis.servers.indexOf(from) + round) % redis.servers.length];
      const other = to === from ? redis.servers.find((server) => server !== from) : to;
      moved += await move(all, slot, other);
      assert.equal(await redis.ownerOf(slot), other);
      await mailbox.more(3);
      moved += await move(all, slot, from);
      assert.equal(await redis.ownerOf(slot), from);
      await mailbox.more(3);
    }
  }
  t.diagnostic(`${moved} keys moved`);
  assert.ok(moved > ROUNDS * 4, `only ${moved} keys were moved`);
  await check(t, all);
});

test('all slots of the spaces move at once', async (t) => {
  const all = await start(t);
  const { redis, scene, slots } = all;
  for (const _ of range(1, 2)) {
    const moves = [];
    for (const slot of slots) {
      const from = await redis.ownerOf(slot);
      moves.push(await redis.beginMove(slot, redis.servers.find((server) => server !== from)));
    }
    for (const moving of moves) await moving.moveKeys(3);
    // It is possible that no act can be done now, so the test waits until some were tried.
    const tried = scene.load.records.length + 2 * ACTS;
    await eventually(() => scene.load.records.length >= tried, 'acts that were tried');
    for (const moving of moves) await moving.finish();
    await scene.acts(ACTS);
  }
  await check(t, all);
});

test('each primary is killed and comes back with what it had', async (t) => {
  const all = await start(t);
  const { redis, scene } = all;
  for (const [index, server] of redis.servers.entries()) {
    await server.kill();
    await sleep(AWAY_MS[index]);
    await server.start();
    await redis.agree();
    await scene.cluster.ready();
    await scene.acts(3 * ACTS);
  }
  await check(t, all);
});

test('a primary is killed while a hash slot leaves it, and another while one comes to it', async (t) => {
  const all = await start(t);
  const { redis, scene, slots } = all;
  for (const [index, which] of ['from', 'to'].entries()) {
    const from = await redis.ownerOf(slots[index]);
    const to = redis.servers.find((server) => server !== from);
    const server = { from, to }[which];
    await move(all, slots[index], to, async () => {
      await server.kill();
      await sleep(AWAY_MS[1]);
      await server.start();
      await redis.agree();
      await scene.acts(ACTS);
    });
  }
  await scene.cluster.ready();
  await check(t, all);
});
