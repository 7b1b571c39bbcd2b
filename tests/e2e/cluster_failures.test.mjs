// Redis fails under load: a steady stream of acts on all nodes, and clients that watch. Afterwards every client shows
// what is stored, was told of every gap, and nothing acknowledged is lost.

import assert from 'node:assert/strict';
import { cpSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { readMetric } from './lib/cluster.mjs';
import { range } from './lib/fixtures.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { Scene, assertRefusedInTime, isOfTheEpoch, oneSecond } from './lib/scene.mjs';
import { STALLED } from './lib/stalls.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

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

test('Redis is killed and comes back with nothing: a new epoch begins, and every client is sent the boards', async (t) => {
  const scene = await Scene.start(t, { redis: { appendonly: 'no' } });
  await scene.cluster.redis.kill();
  await scene.cluster.redis.start();
  await scene.cluster.ready();
  await scene.acts(100);
  await scene.check({ kept: isOfTheEpoch });
  for (const follower of scene.followers) {
    for (const space of scene.spaces) assert.ok(follower.of(space).snapshots.length >= 2, 'a snapshot of the new epoch');
  }
  scene.assertAllStayedConnected();
});

test('Redis comes back with an older state: no version of it is taken for one that clients know', async (t) => {
  const scene = await Scene.start(t);
  const { redis } = scene.cluster;
  await scene.acts(40);
  const [now, older] = ['appendonlydir', 'older'].map((name) => join(redis.folder, name));
  const copiedAt = Date.now();
  cpSync(now, older, { recursive: true });
  await scene.acts(100);
  await redis.kill();
  rmSync(now, { recursive: true });
  renameSync(older, now);
  await redis.start();
  await scene.cluster.ready();
  await scene.acts(100);
  await scene.check({ kept: (record, board) => record.receivedAt < copiedAt || isOfTheEpoch(record, board) });
  scene.assertAllStayedConnected();
});

test('Redis forgets everything: a new epoch begins, and every client is sent the boards', async (t) => {
  const scene = await Scene.start(t);
  const before = await Promise.all(scene.spaces.map((space) => scene.cluster.nodes[0].board(space)));
  await scene.cluster.redis.command('FLUSHALL');
  await scene.acts(100);
  await scene.check({ kept: isOfTheEpoch });
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
  await scene.check({ kept: isOfTheEpoch });
  for (const follower of scene.followers) {
    for (const space of scene.spaces) {
      const statuses = new Set(follower.of(space).statuses.values());
      assert.deepEqual([...statuses], ['available']);
    }
  }
});

test('subscriptions are killed: what they missed is read from the log', async (t) => {
  const scene = await Scene.start(t);
  const { cluster } = scene;
  const subscribed = async () => (await cluster.redis.command('CLIENT', 'LIST', 'TYPE', 'pubsub')).match(/^id=/gm)?.length ?? 0;
  for (const _ of range(1, 5)) {
    await eventually(async () => (await subscribed()) >= cluster.nodes.length, 'a subscription of each node');
    const killed = Number(await cluster.redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    assert.ok(killed >= 1, 'there were subscriptions');
    await scene.acts(40);
  }
  await scene.check();
  scene.assertAllStayedConnected();
  scene.assertNoNeedlessSnapshots();
});

test('the scripts are flushed: no act notices', async (t) => {
  const scene = await Scene.start(t, { settle: true });
  for (const _ of range(1, 5)) {
    await scene.cluster.redis.command('SCRIPT', 'FLUSH');
    await scene.acts(20);
  }
  const records = await scene.check();
  const logs = scene.cluster.nodes.map((node) => node.log()).join('');
  assert.doesNotMatch(logs, /noscript/i);
  // Any remaining refusal comes from a machine that is too busy to answer in time.
  const causes = logs.split('\n').filter((line) => line.includes('the store could not answer'));
  for (const cause of causes) assert.match(cause, STALLED);
  const refused = records.filter(({ status }) => status === 503);
  assert.ok(refused.length <= causes.length, JSON.stringify(refused));
  scene.assertNoNeedlessSnapshots();
});

// These tests mostly wait, so two run at a time.
describe('Redis does nothing for a while', { concurrency: 2 }, () => {
  for (const [what, begin] of [
    ['pauses its clients', async (redis) => redis.command('CLIENT', 'PAUSE', 5_000, 'ALL').then(() => () => {})],
    ['is frozen', async (redis) => redis.freeze()],
  ]) {
    test(`Redis ${what} for 5 s: acts are refused in a second, and none is done late`, async (t) => {
      const scene = await Scene.start(t);
      // The pause ends by itself, not before then.
      const to = Date.now() + 5_000;
      const end = await begin(scene.cluster.redis);
      // The measurement begins here: an act just before may still be answered, or refused for another reason.
      const from = Date.now();
      await sleep(to - from);
      end();
      await scene.acts(60);
      const records = await scene.check();
      assertRefusedInTime(records, from, to);
      scene.assertAllStayedConnected();
      scene.assertNoNeedlessSnapshots();
    });
  }

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
      assert.ok(Date.now() - start < oneSecond(), `a board's 503 after ${Date.now() - start} ms`);
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

  test('Redis is full: acts are refused whole, boards are shown, and all goes on when there is room', async (t) => {
    const scene = await Scene.start(t);
    const { redis, nodes } = scene.cluster;
    await redis.command('CONFIG', 'SET', 'maxmemory', 1);
    const from = Date.now();
    await sleep(2_000);
    const to = Date.now();
    for (const space of scene.spaces) await nodes[0].board(space);
    await redis.command('CONFIG', 'SET', 'maxmemory', 0);
    await scene.acts(60);
    assertRefusedInTime(await scene.check(), from, to);
    scene.assertAllStayedConnected();
    scene.assertNoNeedlessSnapshots();
  });
});

test('Redis becomes a replica and is promoted again: a new epoch begins', async (t) => {
  const scene = await Scene.start(t);
  const { redis } = scene.cluster;
  const other = await startRedis();
  t.after(() => other.kill());
  // It waits for data of the other server, which has none. This looks like a failover to a replica that missed all writes.
  await redis.command('REPLICAOF', '127.0.0.1', other.port);
  await eventually(async () => /master_link_status:up/.test(await redis.command('INFO', 'replication')), 'the replica');
  await sleep(1_000);
  await redis.command('REPLICAOF', 'NO', 'ONE');
  await scene.acts(100);
  await scene.check({ kept: isOfTheEpoch });
  scene.assertAllStayedConnected();
});
