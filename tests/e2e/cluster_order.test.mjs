// Three nodes on one Redis, two clients on each: all hear the same.
//
// SLOTCAST_CLUSTER_ACTS says how many acts (2,000).

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { sameBoard, startCluster } from './lib/cluster.mjs';
import { freshSpace, range, versions } from './lib/fixtures.mjs';
import { Load } from './lib/load.mjs';
import { userToken } from './lib/tokens.mjs';
import { DEADLINE_MS, eventually } from './lib/waiting.mjs';

const ACTS = Number(process.env.SLOTCAST_CLUSTER_ACTS ?? 2_000);

const settings = { SLOTCAST_USER_RATE: '0', SLOTCAST_EVENT_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0' };
const cluster = await startCluster({ settings });
after(() => cluster.stop());

/** What a client shows after its snapshot and all updates. */
function boardOf(snapshot, updates) {
  const statuses = new Map(snapshot.slotsStatus.map((entry) => [entry.id_slot, entry.status]));
  for (const update of updates) statuses.set(update.slotId, update.status);
  return statuses;
}

/** What a client heard of one space. */
const heardOf = (client, space, name) =>
  client.all(name).filter((event) => (event.spazioId ?? event.data.spazioId) === space.number);

test(`all clients of three nodes hear the same events in the same order, in ${ACTS} acts`, async (t) => {
  const spaces = range(1, 8).map(() => freshSpace());
  const watchers = cluster.nodes.flatMap((node) => [601, 602].map((user) => ({ node, user })));
  const clients = await Promise.all(watchers.map(({ node, user }) => node.user(user)));
  for (const client of clients) for (const space of spaces) await client.join(space, { date: space.date });

  const users = 64;
  const sockets = new Map();
  for (const id of range(2_000, 2_000 + users / 2 - 1)) {
    const client = cluster.next.connect({ token: userToken(id) });
    await client.connected();
    sockets.set(id, client);
  }
  const load = new Load({ nodes: () => cluster.nodes, spaces, users, sockets, shortHolds: 0.1, settle: true });
  const start = Date.now();
  const records = await load.run(ACTS);
  t.diagnostic(`${load.done} of ${ACTS} acts done in ${Date.now() - start} ms`);
  assert.ok(load.done > ACTS / 4, 'there was a load');
  // On a machine that is too busy to ask Redis or to answer in time. Such an act is repeated, and done once.
  const unknown = records.filter((record) => record.unknown);
  t.diagnostic(`${unknown.length} refused as unavailable, or without an answer`);
  for (const { status, code, text } of unknown) assert.ok(status === undefined || code === 'unavailable', text);

  for (const space of spaces) {
    const last = await cluster.nodes[0].staffCaller().settled.put('/api/slots/1', space.body({ status: 'blocked' }));
    const isLast = (update) => update.data.spazioId === space.number && update.version === last.data.version;
    await Promise.all(clients.map((client) => client.first('slot_update', isLast, 2 * DEADLINE_MS)));
  }
  for (const space of spaces) {
    const lists = clients.map((client) => heardOf(client, space, 'slot_update'));
    for (const list of lists) {
      assert.deepEqual(versions(list), range(1, list.at(-1).version), 'contiguous from the join, each once, in order');
      const upTo = Math.min(...lists.map(({ length }) => length));
      assert.deepEqual(list.slice(0, upTo), lists[0].slice(0, upTo), 'the same events');
    }
    for (const { data, slots, becomes } of records.filter((record) => record.ok && record.space === space)) {
      // The last of its slots has that version. If several acts did it before, the version is that of the last of these
      // acts.
      const { slotId, status } = lists[0][data.version - 1];
      assert.ok(slots.includes(slotId) && status === becomes, `version ${data.version} of ${slots} is ${slotId} ${status}`);
    }
  }
  // Short holds may still end. No new ones are made, so the boards come to rest.
  for (const space of spaces) {
    const snapshotOf = (client) => {
      const [snapshot, ...others] = heardOf(client, space, 'slots_status_update');
      assert.deepEqual(others, [], 'one snapshot, the one that was asked for');
      return snapshot;
    };
    // A board shows the end of a hold at once. An event tells it when the slot was freed.
    let wrong;
    const allAgree = async () => {
      const { slots, version } = await sameBoard(cluster.nodes, space);
      wrong = clients.flatMap((client, index) => {
        const shown = boardOf(snapshotOf(client), heardOf(client, space, 'slot_update').slice(0, version));
        return slots.filter((entry) => shown.get(entry.id_slot) !== entry.status).map((entry) => `client ${index}: ${entry.id_slot}`);
      });
      return wrong.length === 0;
    };
    await eventually(allAgree, () => `the board of the store at every client; ${wrong}`);
  }
});
