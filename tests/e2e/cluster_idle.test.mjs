// The cost of a cluster that has nothing to free: one node at a time sweeps all buckets, however many nodes there are.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { range } from './lib/fixtures.mjs';

const INTERVAL_MS = 500;

/** How many intervals are watched. */
const INTERVALS = 10;

/** The number of buckets. A sweep asks each by one script which of its holds have ended. */
const BUCKETS = 128;

const cluster = await startCluster({ nodes: 2, settings: { SLOT_TIMER_INTERVAL: String(INTERVAL_MS) } });
after(() => cluster.stop());

/** The keys that the commands for the sweep name: of the lease, and of a bucket's holds by their end. */
const LEASE = 'slotcast:{nodes}:sweeper';
const ENDS = /^slotcast:\{b\d+\}:ends$/;

/**
 * Counts the commands that sweepers send to Redis during so many intervals by its own clock: the sweeps, the requests for
 * the lease, the nodes that sent them, and the granted leases.
 */
async function watchCommands() {
  const counts = { sweeps: 0, asked: 0, granted: 0, nodes: new Set() };
  let end;
  for await (const { at, client, words } of cluster.redis.monitor()) {
    end ??= at + INTERVALS * INTERVAL_MS;
    if (at >= end) break;
    // Commands that a script calls were not sent by a node.
    if (client === 'lua') {
      if (words[0] === 'SET' && words[1] === LEASE) counts.granted += 1;
    } else if (words.includes(LEASE)) {
      counts.asked += 1;
      counts.nodes.add(client);
    } else if (words.some((word) => ENDS.test(word))) {
      counts.sweeps += 1;
    }
  }
  return counts;
}

test('20 nodes without holds send Redis no more sweep commands than 2', async (t) => {
  const few = await watchCommands();
  await Promise.all(range(3, 20).map(() => cluster.addNode()));
  const many = await watchCommands();
  for (const { sweeps, asked, granted, nodes } of [few, many]) {
    t.diagnostic(`${nodes.size} nodes, ${INTERVALS} intervals: ${sweeps} commands, ${asked} asked for the lease, ${granted} got it`);
  }
  assert.ok(few.nodes.size >= 2 && many.nodes.size >= 20, 'every node asks for the lease');
  for (const { sweeps, granted } of [few, many]) {
    // One for each interval, one at each end of the watching time, and the first one after its delay.
    assert.ok(granted > 0 && granted <= INTERVALS + 2, `${granted} sweeps`);
    // This allows for a sweep that runs when the watching begins, or two on a busy machine.
    assert.ok(sweeps > 0 && sweeps <= (granted + 2) * BUCKETS, `${sweeps} commands of ${granted} sweeps`);
  }
});
