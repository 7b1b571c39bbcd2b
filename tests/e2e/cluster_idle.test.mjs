// What a cluster costs that has nothing to free: the sweep of all buckets is one node's turn, however many nodes there are.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { range } from './lib/fixtures.mjs';

const INTERVAL_MS = 500;

/** How many intervals are watched. */
const INTERVALS = 10;

/** What a sweep asks first of each bucket: which of its holds have ended. */
const BUCKETS = 128;

const cluster = await startCluster({ nodes: 2, settings: { SLOT_TIMER_INTERVAL: String(INTERVAL_MS) } });
after(() => cluster.stop());

/** Which commands the nodes send for the sweep, by the key that each names. */
const KINDS = { lease: /^slotcast:\{nodes\}:sweeper$/, sweep: /^slotcast:\{b\d+\}:ends$/ };

/** What Redis is sent in so many intervals by its own clock: how many commands of each kind, and by how many clients. */
async function watchCommands() {
  const monitor = cluster.redis.monitor();
  const counts = { lease: 0, sweep: 0, clients: new Set() };
  let end;
  for await (const { at, client, words } of monitor) {
    end ??= at + INTERVALS * INTERVAL_MS;
    if (at >= end) break;
    // What a script itself calls is not sent by a node.
    if (client === 'lua' || !/^EVAL(SHA)?$/i.test(words[0])) continue;
    const kind = Object.keys(KINDS).find((name) => words.slice(3).some((word) => KINDS[name].test(word)));
    if (kind === undefined) continue;
    counts[kind] += 1;
    if (kind === 'lease') counts.clients.add(client);
  }
  return counts;
}

test('20 nodes without holds send Redis no more sweep commands than 2', async (t) => {
  const few = await watchCommands();
  await Promise.all(range(3, 20).map(() => cluster.addNode()));
  const many = await watchCommands();
  for (const [nodes, { lease, sweep, clients }] of [[2, few], [20, many]]) {
    t.diagnostic(`${nodes} nodes, ${INTERVALS} intervals: ${sweep} sweep commands, ${lease} for the lease by ${clients.size} nodes`);
  }
  assert.deepEqual([few.clients.size, many.clients.size], [2, 20], 'every node asks for the turn');
  // One sweep an interval, and those that the window cuts at its two ends.
  const most = (INTERVALS + 1) * BUCKETS;
  for (const { sweep } of [few, many]) assert.ok(sweep >= BUCKETS && sweep <= most, `${sweep} sweep commands, not ${most}`);
});
