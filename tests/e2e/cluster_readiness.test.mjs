// A primary of a Cluster that is away: every node says so in /readyz, also where the servers that it asks for the time are well,
// and is ready again by itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { startRedisCluster } from './lib/redis_cluster.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually } from './lib/waiting.mjs';

/** A node's answer at /readyz. */
async function readyOf(url) {
  const answer = await fetch(`${url}/readyz`).catch(() => undefined);
  return answer && { ...(await answer.json()), status: answer.status };
}

/** Waits until a node is not ready because a server is away, and this is the only reason. */
async function saysAway({ url }, { port }) {
  let ready;
  const isSo = async () => {
    ready = await readyOf(url);
    return ready?.status === 503 && ready.obstacles.includes('store_server_away');
  };
  await eventually(isSo, () => `an obstacle: ${JSON.stringify(ready)}`);
  assert.ok(ready.reasons.some((reason) => reason.includes(`:${port}`)), JSON.stringify(ready));
}

/** The primaries without bucket 0, whose server the ping asks. */
async function othersThanThePing(redis) {
  const first = await redis.ownerOf(await redis.slotOf('slotcast:{b0}:head'));
  return (await redis.primaries()).filter((server) => server !== first);
}

test('a primary of a Cluster that is killed or frozen is told at /readyz, until it is back', async (t) => {
  const redis = await startRedisCluster();
  t.after(() => redis.kill());
  const slotcast = await startSlotcast({ settings: { REDIS_URL: redis.url } });
  t.after(() => slotcast.stop());
  await slotcast.ready();
  const [killed, frozen] = await othersThanThePing(redis);
  await killed.kill();
  await saysAway(slotcast, killed);
  await killed.start();
  await slotcast.ready();
  const thaw = frozen.freeze();
  await saysAway(slotcast, frozen);
  thaw();
  await slotcast.ready();
});
