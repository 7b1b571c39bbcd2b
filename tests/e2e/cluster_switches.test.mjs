// Another server becomes the primary under a load on three nodes: planned, forced, or because the old one was frozen. The
// replica is healthy, so no acknowledged act may be lost. The tests print what callers noticed.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { acts, medianAndMax, startClaims } from './lib/claims.mjs';
import { range } from './lib/fixtures.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { startSentinels } from './lib/redis_server.mjs';
import { eventually } from './lib/waiting.mjs';

/** How many times the primary changes in each test. */
const SWITCHES = Number(process.env.SLOTCAST_SWITCHES ?? 2);

/** Ends the load, prints what was noticed of switches that began at `at`, and gives what was lost. */
async function settle(t, { cluster, claims }, name, noticed) {
  await claims.stop();
  await cluster.ready();
  const lost = await claims.lost(cluster.nodes[0]);
  const gaps = medianAndMax(noticed.map(({ gap }) => gap));
  const refused = medianAndMax(noticed.map((one) => one.refused));
  // Acts on their way to the replica were answered before the switch. Later ones were accepted by a server that is no
  // longer the primary.
  const after = lost.map(({ receivedAt }) => receivedAt - Math.max(...noticed.map(({ at }) => at).filter((at) => at <= receivedAt)));
  if (lost.length > 0) t.diagnostic(`${name}: lost acts were answered ${after.sort((a, b) => a - b)} ms after the switch was asked for`);
  t.diagnostic(
    `${name}: ${noticed.length} switches, ${claims.done} acts acknowledged, ${lost.length} of them lost; ` +
      `no act for ${gaps} ms; refusals over ${refused} ms`,
  );
  return lost;
}

test('a planned switch by Sentinel loses nothing', async (t) => {
  const redis = await startSentinels();
  const scene = await startClaims(t, redis);
  const noticed = [];
  for (const _ of range(1, SWITCHES)) {
    const at = await redis.switch();
    await acts(scene.claims, 60);
    // The old primary is told to follow only after ten seconds. Until then it would accept anything.
    await redis.inStep();
    await acts(scene.claims, 20);
    noticed.push({ at, ...scene.claims.noticed(at) });
  }
  assert.deepEqual(await settle(t, scene, 'SENTINEL FAILOVER', noticed), []);
});

/** Makes a replica of a Cluster the primary, and gives the time of the last try. Redis gives a try up after 5 s. */
async function promote(replica, words) {
  let at = 0;
  await eventually(async () => {
    if ((await replica.ask('ROLE'))[0] === 'master') return true;
    if (Date.now() - at > 6_000) {
      at = Date.now();
      await replica.command('-e', 'CLUSTER', 'FAILOVER', ...words);
    }
    return false;
  }, 'the replica as primary');
  return at;
}

for (const [kind, words] of [
  ['CLUSTER FAILOVER', []],
  ['CLUSTER FAILOVER FORCE', ['FORCE']],
  ['CLUSTER FAILOVER TAKEOVER', ['TAKEOVER']],
]) {
  test(`${kind} is noticed at once`, async (t) => {
    const redis = await startRedisCluster({ replicas: 1 });
    const scene = await startClaims(t, redis);
    const noticed = [];
    for (const turn of range(1, SWITCHES)) {
      const primaries = await redis.primaries();
      const [replica] = await redis.replicasOf(primaries[turn % primaries.length]);
      const at = await promote(replica, words);
      await acts(scene.claims, 60);
      await redis.agree();
      await redis.replicated(3);
      noticed.push({ at, ...scene.claims.noticed(at) });
    }
    const lost = await settle(t, scene, kind, noticed);
    // Other switches do not wait for acts on their way to the replica.
    if (words.length === 0) assert.deepEqual(lost, []);
  });
}
