// The primary changes without anybody telling the nodes: it freezes and comes back, is killed, or is made a replica by
// hand. Nobody writes to the wrong server, and clients notice nothing.

import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { test } from 'node:test';

import { acts, startClaims } from './lib/claims.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { startSentinels } from './lib/redis_server.mjs';
import { eventually } from './lib/waiting.mjs';

/** This process's own lateness, in ns. If the machine stands still for a second, calls to any server may fail. */
const lateness = monitorEventLoopDelay({ resolution: 20 });
lateness.enable();

/** A machine counts as standing still from this many ms on. */
const STANDSTILL_MS = 400;

/** Ends the load, and gives what was lost. */
async function lostOf({ cluster, claims }) {
  await claims.stop();
  await cluster.ready();
  return claims.lost(cluster.nodes[0]);
}

/** The outcome of a change in words, for the test's output. */
const describe = ({ gap, refused, refusals }) => `no act for ${gap} ms; ${refusals} refusals over ${refused} ms`;

/** Waits until a server calls itself a primary. */
const isPrimary = (server) => eventually(async () => (await server.ask('ROLE'))[0] === 'master', 'the replica as primary', 60_000);

test('behind Sentinels a primary that froze takes nothing when it is back', async (t) => {
  const redis = await startSentinels();
  const scene = await startClaims(t, redis);
  const old = redis.servers[0];
  const at = Date.now();
  const thaw = old.freeze();
  await redis.primaryAfter(old);
  await acts(scene.claims, 60);
  // It believes that it is the primary until a sentinel tells it otherwise, ten seconds later.
  thaw();
  await acts(scene.claims, 200);
  await redis.inStep();
  const noticed = scene.claims.noticed(at);
  const lost = await lostOf(scene);
  t.diagnostic(`frozen behind Sentinels: ${describe(noticed)}; ${lost.length} lost`);
  assert.deepEqual(lost, []);
});

test('on a Cluster a primary that froze takes nothing when it is back', async (t) => {
  const redis = await startRedisCluster({ replicas: 1 });
  const scene = await startClaims(t, redis);
  const [primary] = await redis.primaries();
  const [replica] = await redis.replicasOf(primary);
  const at = Date.now();
  const thaw = primary.freeze();
  await isPrimary(replica);
  await acts(scene.claims, 60);
  thaw();
  await acts(scene.claims, 200);
  await redis.agree();
  const noticed = scene.claims.noticed(at);
  const lost = await lostOf(scene);
  t.diagnostic(`frozen on a Cluster: ${describe(noticed)}; ${lost.length} lost`);
  assert.deepEqual(lost, []);
});

test('on a Cluster a primary that is killed is noticed only where its slots are', async (t) => {
  const redis = await startRedisCluster({ replicas: 1 });
  const scene = await startClaims(t, redis);
  const [primary] = await redis.primaries();
  const [replica] = await redis.replicasOf(primary);
  const owner = await ownersOfSpaces(redis, scene.claims);
  const isOfKilled = ({ space }) => owner.get(space) === primary;
  assert.ok(scene.claims.records.some(isOfKilled) && !scene.claims.records.every(isOfKilled), 'spaces of several servers');
  lateness.reset();
  const at = Date.now();
  await primary.kill();
  await isPrimary(replica);
  const promoted = Date.now();
  await eventually(() => scene.claims.records.some((one) => isOfKilled(one) && one.sentAt > promoted && one.status === 200), 'acts');
  await acts(scene.claims, 200);
  await scene.claims.stop();
  const others = scene.claims.noticed(at, (record) => !isOfKilled(record));
  const first = scene.claims.records.find((one) => isOfKilled(one) && one.receivedAt > promoted && one.status === 200);
  t.diagnostic(`killed on a Cluster: its own spaces ${describe(scene.claims.noticed(at, isOfKilled))}`);
  t.diagnostic(`acts there ${first.receivedAt - promoted} ms after the new primary; the other spaces ${describe(others)}`);
  const refused = scene.claims.records.filter((one) => one.receivedAt >= at && !isOfKilled(one) && one.status !== 200);
  const stoodStill = lateness.max / 1_000_000 > STANDSTILL_MS;
  t.diagnostic(`${refused.length} refusals elsewhere; this process was late by ${Math.round(lateness.max / 1_000_000)} ms at most`);
  assert.deepEqual(stoodStill ? refused.filter(({ status }) => status !== 503) : refused, []);
});

/** The server of each space's bucket. */
async function ownersOfSpaces(redis, claims) {
  const owner = new Map();
  for (const { space } of claims.callers) {
    const key = await redis.findKey(`slotcast:*:log:1:${space}`);
    owner.set(space, await redis.ownerOf(await redis.slotOf(key)));
  }
  return owner;
}

test('a switch by hand, which Sentinels undo, costs no act that was acknowledged after it', async (t) => {
  const redis = await startSentinels();
  const scene = await startClaims(t, redis);
  const [old, replica] = redis.servers;
  const at = Date.now();
  await old.command('REPLICAOF', '127.0.0.1', replica.port);
  await replica.command('REPLICAOF', 'NO', 'ONE');
  // Either of them may be the primary in the end, as the sentinels decide.
  await redis.inStep();
  await acts(scene.claims, 60);
  t.diagnostic(`REPLICAOF by hand behind Sentinels: ${describe(scene.claims.noticed(at))}`);
  const lost = await lostOf(scene);
  t.diagnostic(`${lost.length} lost`);
  assert.deepEqual(lost, []);
});

test('with min-replicas-to-write 1 and a second replica acts go on as soon as that follows', async (t) => {
  const redis = await startSentinels({ replicas: 2, options: { 'min-replicas-to-write': 1 } });
  const scene = await startClaims(t, redis);
  const at = await redis.switch();
  await acts(scene.claims, 60);
  const noticed = scene.claims.noticed(at);
  await redis.inStep();
  await acts(scene.claims, 20);
  const lost = await lostOf(scene);
  t.diagnostic(`min-replicas-to-write 1, two replicas: ${describe(noticed)}; ${lost.length} lost`);
  assert.deepEqual(lost, []);
});
