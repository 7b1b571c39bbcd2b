// Webhooks on a Redis Cluster with one server away: entries on the other servers are sent all the same.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readMetric, startCluster } from './lib/cluster.mjs';
import { freshSpace } from './lib/fixtures.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { eventually } from './lib/waiting.mjs';
import { startReceiver } from './lib/webhook_receiver.mjs';

/** How long the last message may take. The right to send must end first, and the pauses between tries grow. */
const ALL_MS = 120_000;

/** Sets the first slot of a space; gives the entry's id, or `undefined` where its server is away. */
async function block(node, space) {
  const answer = await node.staffCaller().put('/api/slots/1', space.body({ status: 'blocked' }));
  if (answer.status === 503) return undefined;
  assert.equal(answer.status, 200, answer.text);
  return `${answer.data.epoch}-${space.site}-${space.number}-${answer.data.version}`;
}

/** How many messages a node has delivered. */
const delivered = (node) => readMetric(node, 'slotcast_webhook_deliveries_total{endpoint="environment",outcome="delivered"}');

test('with one server of a Cluster away, a node that takes over tells what the others have, and the rest when it is back', async () => {
  const receiver = await startReceiver();
  const store = await startRedisCluster();
  const cluster = await startCluster({ nodes: 2, settings: receiver.settings('slot.updated'), store });
  try {
    const spaces = Array.from({ length: 24 }, () => freshSpace());
    const ids = [];
    for (const space of spaces) ids.push(await eventually(() => block(cluster.nodes[0], space), 'an act'));
    await receiver.hasAll(ids, ALL_MS);
    const delivers = async () => {
      for (const node of cluster.nodes) if ((await delivered(node)) > 0) return node;
      return undefined;
    };
    const sender = await eventually(delivers, 'a node that sends');
    // The right to send is on another server than the one that goes away.
    const keeper = await store.ownerOf(await store.slotOf('slotcast:{nodes}:reader:webhooks'));
    const victim = store.servers.find((server) => server !== keeper);
    await victim.kill();
    await cluster.killNode(sender);
    const [other] = cluster.nodes;
    const answered = [];
    for (const space of spaces) answered.push(await block(other, space));
    const kept = answered.filter((id) => id !== undefined);
    assert.ok(kept.length > 0 && kept.length < spaces.length, `${kept.length} of ${spaces.length} acts`);
    await receiver.hasAll(kept, ALL_MS);
    await victim.start();
    await store.agree();
    const missed = spaces.filter((_, index) => answered[index] === undefined);
    const later = await Promise.all(missed.map((space) => eventually(() => block(other, space), 'an act')));
    await receiver.hasAll(later, ALL_MS);
    receiver.check();
    assert.equal(await readMetric(other, 'slotcast_webhook_lost_total{endpoint="environment"}'), 0);
  } finally {
    await cluster.stop();
    await receiver.close();
  }
});
