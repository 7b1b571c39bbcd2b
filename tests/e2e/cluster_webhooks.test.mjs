// Webhooks of several nodes on Redis: whatever fails, a receiver gets every entry, in order within each space.
//
// SLOTCAST_WEBHOOK_ACTS (150) is how many acts there are under a receiver that fails at random, SLOTCAST_WEBHOOK_SECONDS (4)
// for how long they go on.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readMetric, startCluster } from './lib/cluster.mjs';
import { freshSpace } from './lib/fixtures.mjs';
import { inLanes, eventually, sleep } from './lib/waiting.mjs';
import { startReceiver } from './lib/webhook_receiver.mjs';

const ACTS = Number(process.env.SLOTCAST_WEBHOOK_ACTS ?? 150);

const SECONDS = Number(process.env.SLOTCAST_WEBHOOK_SECONDS ?? 4);

/** How long the last message may take until it is accepted. A message that failed ten times waits for minutes. */
const ALL_MS = 300_000;

const BUCKETS = 128;

/** What a failing receiver does instead of accepting a message. */
const FAILURES = [
  ({ response }) => response.writeHead(500).end(),
  ({ response }) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
  ({ request }) => request.socket.resetAndDestroy(),
  ({ response }) => response.writeHead(429, { 'retry-after': '1' }).end(),
];

const accept = ({ response }) => response.writeHead(200).end('thank you');

/** Fails one message in three, until `state.isWell`. */
const failingAtRandom = (state) => (got) => {
  const fails = !state.isWell && Math.random() < 1 / 3;
  (fails ? FAILURES[Math.floor(Math.random() * FAILURES.length)] : accept)(got);
};

/** Blocks a slot of a space through a node, with repeats if needed. Gives the entry's id. */
async function block(node, space, slot) {
  const answer = await node.staffCaller().settled.put(`/api/slots/${slot}`, space.body({ status: 'blocked' }));
  assert.equal(answer.status, 200, answer.text);
  return `${answer.data.epoch}-${space.site}-${space.number}-${answer.data.version}`;
}

/** The node that sends now. */
const senderOf = (cluster) =>
  eventually(async () => {
    for (const node of cluster.nodes) {
      if ((await readMetric(node, 'slotcast_webhook_deliveries_total{endpoint="environment",outcome="delivered"}')) > 0) return node;
    }
    return undefined;
  }, 'a node that sends');

test(`${ACTS} acts under a receiver that fails at random, while the sending node and Redis are killed: nothing is skipped`, async () => {
  const state = { isWell: false };
  const receiver = await startReceiver({ answer: failingAtRandom(state) });
  const cluster = await startCluster({ nodes: 3, settings: receiver.settings('slot.updated') });
  try {
    const spaces = Array.from({ length: 8 }, () => freshSpace());
    const ids = [];
    const pause = (SECONDS * 1_000 * spaces.length) / ACTS;
    const acts = (count) =>
      inLanes(spaces.length, spaces, async (space) => {
        for (let turn = 0; turn < count / spaces.length; turn += 1) {
          ids.push(await block(cluster.next, space, 1 + (turn % 9)));
          await sleep(pause * Math.random() * 2);
        }
      });
    await acts(ACTS / 3);
    const sender = await senderOf(cluster);
    await cluster.killNode(sender);
    await acts(ACTS / 3);
    await cluster.redis.kill();
    await cluster.redis.start();
    await cluster.ready();
    await acts(ACTS / 3);
    state.isWell = true;
    await receiver.hasAll(ids, ALL_MS);
    receiver.check();
    for (const node of cluster.nodes) assert.equal(await readMetric(node, 'slotcast_webhook_lost_total{endpoint="environment"}'), 0);
  } finally {
    await cluster.stop();
    await receiver.close();
  }
});

test('a frozen node that comes back repeats at most, and the others go on without it', async () => {
  const receiver = await startReceiver({ answer: accept });
  const cluster = await startCluster({ nodes: 2, settings: receiver.settings('slot.updated') });
  try {
    const space = freshSpace();
    const ids = [await block(cluster.nodes[0], space, 1)];
    await receiver.hasAll(ids);
    const sender = await senderOf(cluster);
    const other = cluster.nodes.find((node) => node !== sender);
    const thaw = cluster.freezeNode(sender);
    for (let slot = 2; slot <= 5; slot += 1) ids.push(await block(other, space, slot));
    await receiver.hasAll(ids);
    thaw();
    for (let slot = 6; slot <= 9; slot += 1) ids.push(await block(cluster.next, space, slot));
    await receiver.hasAll(ids);
    receiver.check();
    await cluster.ready();
  } finally {
    await cluster.stop();
    await receiver.close();
  }
});

test('a Redis that forgets everything begins anew, and what comes after is told', async () => {
  const receiver = await startReceiver({ answer: accept });
  const cluster = await startCluster({ nodes: 2, settings: receiver.settings('slot.updated') });
  try {
    const space = freshSpace();
    await receiver.hasAll([await block(cluster.next, space, 1), await block(cluster.next, space, 2)]);
    await cluster.redis.command('FLUSHALL');
    const ids = [];
    for (let slot = 1; slot <= 4; slot += 1) ids.push(await block(cluster.next, space, slot));
    await receiver.hasAll(ids);
    receiver.check();
  } finally {
    await cluster.stop();
    await receiver.close();
  }
});

/** How many times Redis was asked for the tail of a stream, by nodes and by their scripts. */
async function tailsAsked(redis) {
  const [, calls] = /^cmdstat_xrevrange:calls=(\d+)/m.exec(await redis.command('INFO', 'commandstats')) ?? [];
  return Number(calls ?? 0);
}

test('nodes without an endpoint ask nothing of the journal, and keep nothing of a reader', async () => {
  const receiver = await startReceiver({ answer: accept });
  const cluster = await startCluster({ nodes: 1 });
  try {
    await block(cluster.nodes[0], freshSpace(), 1);
    const before = await tailsAsked(cluster.redis);
    // A node with an endpoint asks for all buckets five times in this time.
    await sleep(2_000);
    assert.ok((await tailsAsked(cluster.redis)) - before < BUCKETS);
    assert.equal(await cluster.redis.command('KEYS', '*reader*'), '');
    await cluster.addNode(receiver.settings());
    await eventually(async () => (await tailsAsked(cluster.redis)) - before >= BUCKETS, 'a question of the node that has one');
    await eventually(async () => (await cluster.redis.command('KEYS', '*readers*')) !== '', 'its places');
  } finally {
    await cluster.stop();
    await receiver.close();
  }
});
