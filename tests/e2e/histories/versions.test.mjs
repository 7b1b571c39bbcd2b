// Two versions at once: nodes of 0.1 are replaced by those of this version one by one, on one Redis, while users act and
// watch; and the file of an embedded store of 0.1 is opened. The binary of 0.1 is built from the history at first.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, test } from 'node:test';

import { range } from '../lib/fixtures.mjs';
import { STALLED } from '../lib/stalls.mjs';
import { startSlotcast, temporaryFolder } from '../lib/slotcast.mjs';
import { FIRST_VERSION, binaryOf } from '../lib/versions.mjs';
import { eventually } from '../lib/waiting.mjs';
import { told, runHere } from './apart.mjs';
import { spaceOf } from './history.mjs';

/** How many acts are done with each mix of versions. */
const ACTS_BETWEEN = 60;

let first;

before(async () => {
  first = await binaryOf(FIRST_VERSION);
});

const actsMore = (world, count) => {
  const goal = world.load.done + count;
  return eventually(() => world.load.done >= goal, `${count} acts more`, 60_000);
};

/** Nodes of 0.1 on all homes, which are replaced one by one; `replaced` gets the URLs of those that were asked to end. */
function replacing(name, replaced, logs) {
  return {
    name,
    on: 'standalone',
    world: { binaries: [first, first, first] },
    sizes: { lasts: 500 },
    inject: async (world) => {
      for (const home of range(0, 2)) {
        logs.push(world.homes[home].logFile);
        replaced.add(world.homes[home].url);
        await world.replaceNode(home);
        await actsMore(world, ACTS_BETWEEN);
      }
      // When no node of 0.1 has lived for a while, the others move what is stored, while acts go on.
      const tell = () => world.nodes.some((node) => /moved buckets to a new format/.test(node.log()));
      await eventually(tell, 'that the buckets are moved', 60_000);
      await actsMore(world, ACTS_BETWEEN);
    },
    beforeCollect: async (world) => {
      logs.push(...world.nodes.map(({ logFile }) => logFile));
      world.refused = world.load.records.filter(({ status, node }) => status === 503 && !replaced.has(node) && node !== 'socket');
      replaced.refused = world.refused;
    },
  };
}

for (const seed of range(1, Number(process.env.SLOTCAST_HISTORY_SEEDS ?? 1))) {
  test(`nodes of 0.1 are replaced one by one, seed ${seed}`, async (t) => {
    const [replaced, logs] = [new Set(), []];
    const result = await runHere(replacing('versions-replaced', replaced, logs), String(seed));
    t.diagnostic(told(result).split('\n')[0]);
    // A node of 0.1 that ends loses its queue for a client, and its replacement cannot mend that.
    const { 'notification-lost': _, ...counts } = result.counts;
    assert.deepEqual(counts, {}, told(result));
    // Any other refusal came from a machine that was too busy for an answer in time.
    const causes = logs.flatMap((file) => readFileSync(file, 'utf8').split('\n')).filter((line) => line.includes('the store could not answer'));
    for (const cause of causes) assert.match(cause, STALLED);
    assert.ok(replaced.refused.length <= causes.length, JSON.stringify(replaced.refused.slice(0, 3)));
  });
}

test('the file of an embedded store of 0.1 is opened, and nothing of it is lost', async () => {
  const dataDir = temporaryFolder();
  const space = spaceOf(1001);
  const other = spaceOf(1002);
  const key = { 'idempotency-key': 'a-call-of-0.1' };
  const old = await startSlotcast({ dataDir, binary: first });
  const staff = old.staffCaller();
  const schedule = { name: 'Sala', timezone: 'Europe/Rome', opens: '08:00', closes: '20:00', slotMinutes: 60 };
  assert.equal((await staff.put(other.path, schedule)).status, 200);
  const held = await old.userCaller(7).post('/api/slots/hold', space.body({ slots: [1, 2], holdSeconds: 600 }), key);
  assert.equal(held.status, 200, held.text);
  assert.equal((await old.userCaller(8).post('/api/slots/3/hold', space.body())).status, 200);
  assert.equal((await old.userCaller(8).post('/api/slots/3/book', space.body())).status, 200);
  const data = { note: 'riservato', price: 12.50 };
  assert.equal((await staff.put('/api/slots/4', space.body({ status: 'blocked', data }))).status, 200);
  // This hold ends while nobody serves.
  assert.equal((await old.userCaller(9).post('/api/slots/5/hold', space.body({ holdSeconds: 1 }))).status, 200);
  for (const n of range(1, 5)) assert.equal((await staff.post('/api/users/10/notify', { event: 'avviso', data: { n } })).status, 200);
  const before = await old.board(space);
  await old.kill();

  const node = await startSlotcast({ dataDir });
  const statusesOf = ({ slots }) => slots.map(({ status }) => status);
  await eventually(async () => (await node.entry(space, 5)).status === 'available', 'the end of a hold of 0.1');
  const after = await node.board(space);
  assert.deepEqual(statusesOf(after), ['occupied', 'occupied', 'booked', 'blocked', 'available', ...range(6, 9).map(() => 'available')]);
  assert.equal(after.slots[3].note, 'riservato');
  assert.ok(after.version >= before.version, `${after.version} after ${before.version}`);
  assert.equal((await node.board(other)).count, 12, 'the schedule is there, too');
  // A repeat is answered as the first time, and the hold goes on under its token.
  const again = await node.userCaller(7).post('/api/slots/hold', space.body({ slots: [1, 2], holdSeconds: 600 }), key);
  assert.deepEqual([again.status, again.data], [200, held.data]);
  const booked = await node.userCaller(7).post('/api/slots/book', space.body({ slots: [1, 2], holdToken: held.data.holdToken }));
  assert.equal(booked.status, 200, booked.text);
  assert.ok(booked.data.version > after.version, 'versions go on');
  // A user who was away gets the messages that 0.1 kept, in order.
  const client = await node.user(10);
  assert.deepEqual((await client.many('avviso', 5)).map(({ n }) => n), range(1, 5));
  // A client with a position of 0.1 is told what it missed, or gets a snapshot.
  const viewer = await node.user(11);
  await viewer.join(space, { date: space.date, since: { epoch: before.epoch, version: before.version } });
  await eventually(() => {
    const last = [...viewer.all('slot_update'), ...viewer.all('slots_status_update')].map(({ version }) => version);
    return Math.max(...last) === booked.data.version;
  }, 'what a client of 0.1 missed');
  await node.stop();
});
