// The primary is lost, and sentinels make its replica the primary, under a load on all nodes with clients that watch.
// Whatever Redis itself lost, a new epoch says so: every client ends with what is stored now, and was told of each gap.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { startSentinels } from './lib/redis_server.mjs';
import { Scene, assertRefusedInTime } from './lib/scene.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

/** A scene on a primary and its replica, behind sentinels. */
async function start(t) {
  const redis = await startSentinels();
  const scene = await Scene.start(t, { store: redis });
  const epochs = new Map();
  for (const space of scene.spaces) epochs.set(space.room, (await scene.cluster.nodes[0].board(space)).epoch);
  return { scene, redis, epochs };
}

/** Kills the primary, waits until its replica serves in its place, and lets the load continue. Gives the new primary. */
async function failOver(scene, redis) {
  const old = redis.servers[0];
  await old.kill();
  const primary = await redis.primaryAfter(old);
  await scene.cluster.ready();
  await scene.acts(60);
  return primary;
}

/** The last version that the primary's log still has, by room and epoch. */
async function readLogs(primary, spaces) {
  const last = new Map();
  for (const space of spaces) {
    const [key] = await primary.ask('KEYS', `slotcast:*:log:${space.site}:${space.number}`);
    for (const [id, fields] of await primary.ask('XRANGE', key, '-', '+')) {
      const epoch = fields[fields.indexOf('e') + 1];
      last.set(`${space.room} ${epoch}`, Number.parseInt(id, 10));
    }
  }
  return last;
}

/** Checks everything that must hold after a failover. Gives the acknowledged acts that Redis itself has lost. */
async function check({ scene, epochs }, primary) {
  await scene.load.stop();
  const logs = await readLogs(primary, scene.spaces);
  const isKept = ({ data, space }, board) =>
    data.epoch === board.epoch || data.version <= (logs.get(`${space.room} ${data.epoch}`) ?? 0);
  const records = await scene.check({ kept: isKept });
  scene.assertAllStayedConnected();
  const lost = [];
  for (const space of scene.spaces) {
    const board = await scene.cluster.nodes[0].board(space);
    assert.notEqual(board.epoch, epochs.get(space.room), 'a new epoch');
    for (const follower of scene.followers) {
      assert.ok(follower.of(space).snapshots.some(({ epoch }) => epoch === board.epoch), 'a board of the new epoch');
    }
    lost.push(...records.filter((record) => record.ok && record.space === space && !isKept(record, board)));
  }
  scene.t.diagnostic(`${lost.length} acknowledged acts lost by Redis`);
  return { records, lost };
}

/** Cuts the replica off from its primary for good. */
async function cutReplication({ servers: [primary, replica] }) {
  // The primary has no password, so it refuses a client that sends one.
  await replica.command('CONFIG', 'SET', 'masterauth', 'wrong');
  // The pause keeps writes from coming between the replica's last one and the cut.
  await primary.command('CLIENT', 'PAUSE', 5_000, 'WRITE');
  await eventually(async () => {
    const [, written, replicas] = await primary.ask('ROLE');
    return replicas.length === 1 && Number(replicas[0][2]) === written;
  }, 'a replica that has got all');
  await primary.command('CLIENT', 'KILL', 'TYPE', 'replica');
  await primary.command('CLIENT', 'UNPAUSE');
}

// These tests mostly wait for sentinels, so they run at the same time.
describe('the primary is killed', { concurrency: true }, () => {
  test('and its replica takes over: nothing acknowledged is lost but what Redis lost', async (t) => {
    const { scene, redis, epochs } = await start(t);
    const primary = await failOver(scene, redis);
    await check({ scene, epochs }, primary);
  });

  test('and its replica had missed writes: they are gone with the old epoch, also when the old primary is back', async (t) => {
    const { scene, redis, epochs } = await start(t);
    await cutReplication(redis);
    await scene.acts(60);
    const primary = await failOver(scene, redis);
    // The old primary has acts that the new one lost, and believes that it is the primary until a sentinel finds it.
    await redis.servers[0].start();
    await scene.acts(60);
    const { lost } = await check({ scene, epochs }, primary);
    assert.ok(lost.length > 0, 'the replica had missed acts');
  });

  test('and would not act without its replica: acts were refused in time, and none that was acknowledged is lost', async (t) => {
    const { scene, redis, epochs } = await start(t);
    await redis.servers[0].command('CONFIG', 'SET', 'min-replicas-to-write', 1);
    await scene.acts(20);
    await cutReplication(redis);
    const from = Date.now();
    await sleep(2_000);
    const to = Date.now();
    const primary = await failOver(scene, redis);
    const { records, lost } = await check({ scene, epochs }, primary);
    assertRefusedInTime(records, from, to);
    assert.deepEqual(lost, []);
  });
});
