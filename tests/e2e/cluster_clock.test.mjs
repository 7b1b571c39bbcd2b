// A node whose clock is wrong: clients are told the store's time.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { LIBFAKETIME, wrongClock } from './lib/clock.mjs';
import { startCluster } from './lib/cluster.mjs';
import { freshNumber, freshSpace } from './lib/fixtures.mjs';

/** How far the node's clock is ahead, in s: less than tokens last. */
const AHEAD = 1_200;

const skip = !LIBFAKETIME && 'needs libfaketime';
test('what a node with a wrong clock says bears the store\'s time', { skip }, async (t) => {
  const cluster = await startCluster({ nodes: 1, settings: wrongClock(AHEAD) });
  t.after(() => cluster.stop());
  const [node] = cluster.nodes;
  const space = freshSpace();
  const client = await node.user(freshNumber());
  const joined = await client.callUntilSettled('join_space', space.event());
  const synced = await client.callUntilSettled('sync', space.event());
  await client.callUntilSettled('hold_slot', space.event({ slots: [1], holdSeconds: 1 }));
  await client.first('slots_freed');
  await client.callUntilSettled('leave_space', space.event());
  const told = ['connection_confirmed', 'joined_space', 'slot_update', 'slots_status_update', 'slots_freed', 'left_space'];
  const payloads = told.flatMap((name) => client.all(name).map((payload) => ({ name, ...payload })));
  assert.ok(payloads.length >= told.length, JSON.stringify(payloads));
  for (const { timestamp, name } of [...payloads, { name: 'join', ...joined }, { name: 'sync', ...synced }]) {
    const off = Math.abs(Date.parse(timestamp) - Date.now());
    assert.ok(off < (AHEAD * 1_000) / 2, `${name}: ${timestamp} is ${off} ms off`);
  }
});
