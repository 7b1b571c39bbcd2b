// A rolling replacement: three nodes under load behind a balancer, each asked to end and replaced by a new one on the
// same port. Stock clients come back on other nodes, spread over time, and miss nothing; calls see 503s at most, which a
// repeat heals; each process ends well, in its time.
//
// SLOTCAST_ROLLING_CLIENTS says how many clients (500).

import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { startBalancer } from './lib/balancer.mjs';
import { startCluster } from './lib/cluster.mjs';
import { freshSpace, range } from './lib/fixtures.mjs';
import { Load } from './lib/load.mjs';
import { killAtExit } from './lib/slotcast.mjs';
import { eventually, within } from './lib/waiting.mjs';

const CLIENTS = Number(process.env.SLOTCAST_ROLLING_CLIENTS ?? 500);
const CLIENTS_A_PROCESS = 1_250;
const SPACES = 20;
const PATIENCE_MS = 60_000 + CLIENTS * 20;

const DRAIN_SECONDS = 20;
const GRACE_SECONDS = 3;

/** The node's own stretch: it spreads the closing of its sockets over a share of the time that is left. */
const CLOSING_PER_SOCKET_MS = 20;
const CLOSING_SHARE = 0.6;

/** Clients and nodes share this machine, so a call may be slow without being refused. */
const CALL_PATIENCE_MS = 30_000;

/** The additional time that a busy machine may need, in ms. */
const MARGIN_MS = 5_000;

/** A process that runs clients. It is driven by messages with answers. */
class Herd {
  constructor(url, first, count, spaces) {
    const module = fileURLToPath(new URL('./lib/rolling_clients.mjs', import.meta.url));
    const what = JSON.stringify({ spaces: spaces.map(({ number }) => number), date: spaces[0].date });
    this.process = fork(module, [url, String(first), String(count), what]);
    killAtExit(this.process);
  }

  async ask(question) {
    const answered = once(this.process, 'message');
    this.process.send(question);
    const [answer] = await within(answered, 'an answer of the clients', PATIENCE_MS);
    return answer;
  }
}

/** The sum of the figures of all clients. */
async function askAll(herds, question = {}) {
  const answers = await Promise.all(herds.map((herd) => herd.ask(question)));
  const total = (name) => answers.reduce((sum, answer) => sum + answer[name], 0);
  const refusals = {};
  for (const [what, count] of answers.flatMap((answer) => Object.entries(answer.refusals))) {
    refusals[what] = (refusals[what] ?? 0) + count;
  }
  const sums = Object.fromEntries(
    ['there', 'joins', 'reconnections', 'snapshots', 'updates'].map((name) => [name, total(name)]),
  );
  return { ...sums, refusals, faults: answers.flatMap(({ faults }) => faults) };
}

async function allAreBack(herds) {
  let told;
  const areAllThere = async () => {
    told = await askAll(herds);
    return told.there === CLIENTS;
  };
  await eventually(areAllThere, 'all clients in their rooms', PATIENCE_MS).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(told)}`);
  });
}

/** The largest share of the times that falls into one `stretch` of ms. */
function fullest(times, stretch) {
  const within = (from) => times.filter((time) => time >= from && time <= from + stretch).length;
  return Math.max(...times.map(within)) / times.length;
}

/** How long it took from the first to the last client, without the first and the last twentieth. */
function spanOf(times) {
  const sorted = times.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length * 0.95)] - sorted[Math.floor(sorted.length * 0.05)];
}

test(`three nodes are replaced one by one under load: ${CLIENTS} stock clients miss nothing`, { timeout: 900_000 }, async (t) => {
  const settings = {
    SLOTCAST_USER_RATE: '0',
    SLOTCAST_EVENT_RATE: '0',
    SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0',
    SLOTCAST_LOG: 'warn,slotcast::node=info',
    SLOTCAST_DRAIN_TIME: String(DRAIN_SECONDS),
    SLOTCAST_DRAIN_GRACE: String(GRACE_SECONDS),
  };
  const cluster = await startCluster({ settings });
  const balancer = await startBalancer(() => cluster.nodes);
  let load;
  let herds = [];
  // The load ends first, because it repeats the calls that ended nodes refused.
  t.after(async () => {
    await load?.stop();
    for (const herd of herds) herd.process.kill('SIGKILL');
    await balancer.close();
    await cluster.stop();
  });
  const spaces = range(1, SPACES).map(() => freshSpace());
  const share = Math.ceil(CLIENTS / Math.max(2, Math.ceil(CLIENTS / CLIENTS_A_PROCESS)));
  herds = range(0, Math.ceil(CLIENTS / share) - 1).map(
    (index) => new Herd(balancer.url, 10_000 + index * share, Math.min(share, CLIENTS - index * share), spaces),
  );
  await allAreBack(herds);
  load = new Load({ nodes: () => [balancer], spaces, users: 16, pause: 100, settle: true, patience: CALL_PATIENCE_MS }).start();

  for (const old of [...cluster.nodes]) {
    await replaceNode(t, cluster, balancer, old);
    await allAreBack(herds);
  }

  const records = await load.stop();
  assertHealed(t, records);
  await assertEqualToStore(t, cluster, herds, spaces);
  assertAcknowledgedIsThere(records, await boardsOf(cluster, spaces));
});

/** Asks a node to end, checks how it leaves, and starts a new node on the same port. */
async function replaceNode(t, cluster, balancer, old) {
  const open = balancer.websockets.filter(({ port, closedAt }) => port === old.port && closedAt === undefined);
  balancer.withdrawn.delete(old.port);
  const askedAt = Date.now();
  old.child.kill('SIGTERM');
  const exit = await within(old.exited, 'the end of a node', DRAIN_SECONDS * 1_000 + MARGIN_MS);
  const endedAt = Date.now();
  assert.deepEqual(exit, { code: 0, signal: null }, old.log().slice(-2_000));
  old.assertNoPanic();
  assert.ok(endedAt - askedAt <= DRAIN_SECONDS * 1_000 + MARGIN_MS, `ended after ${endedAt - askedAt} ms`);
  assert.doesNotMatch(old.log(), /still in flight/, 'nothing was cut off');

  await eventually(() => open.every(({ closedAt }) => closedAt !== undefined), 'connections that are closed');
  const closings = open.map(({ closedAt }) => closedAt);
  const withdrawn = balancer.withdrawn.get(old.port);
  assert.equal(withdrawn?.status, 503, 'it said that it is not ready, before it was gone');
  assert.ok(withdrawn.at < Math.min(...closings), 'and before it closed the first connection');
  cluster.nodes = cluster.nodes.filter((node) => node !== old);
  await cluster.addNode({}, old.port);
  const returned = balancer.websockets.filter(({ openedAt, port }) => openedAt >= Math.min(...closings) && port !== old.port);
  const opened = returned.map(({ openedAt }) => openedAt);
  const closingTime = Math.min(CLOSING_PER_SOCKET_MS * open.length, (DRAIN_SECONDS - GRACE_SECONDS) * 1_000 * CLOSING_SHARE);
  const inATenth = fullest(closings, closingTime / 10);
  t.diagnostic(
    `${open.length} websockets: withdrawn after ${withdrawn.at - askedAt} ms, closed from ${Math.min(...closings) - askedAt} to ` +
      `${Math.max(...closings) - askedAt} ms, at most ${inATenth.toFixed(2)} of them in a tenth of ${closingTime} ms; ` +
      `${opened.length} came back over ${spanOf(opened)} ms; ended after ${endedAt - askedAt} ms`,
  );
  assert.ok(inATenth <= 0.5, `${inATenth} of all are closed in a tenth of the time`);
  assert.ok(spanOf(opened) >= closingTime / 2, `they come back within ${spanOf(opened)} ms`);
}

/** The replacement refused calls only with 503, and a repeat did each of these calls. */
function assertHealed(t, records) {
  const statuses = {};
  for (const { status } of records) statuses[status] = (statuses[status] ?? 0) + 1;
  t.diagnostic(`calls by status: ${JSON.stringify(statuses)}`);
  const odd = records.filter(({ status }) => status === undefined || (status >= 500 && status !== 503));
  assert.deepEqual(odd.map(({ status, text, act }) => [status, act, text]), []);
  const refused = records.filter(({ status, first }) => status === 503 && first === undefined);
  const healed = new Set(records.filter(({ first, unknown }) => first !== undefined && !unknown).map(({ first }) => first));
  for (const record of refused) assert.ok(record.act === 'update' || healed.has(record), `a ${record.act} stayed refused`);
}

async function boardsOf(cluster, spaces) {
  const boards = await Promise.all(spaces.map((space) => cluster.nodes[0].board(space)));
  return new Map(spaces.map((space, index) => [space.number, boards[index]]));
}

async function assertEqualToStore(t, cluster, herds, spaces) {
  const boards = await boardsOf(cluster, spaces);
  const positions = Object.fromEntries([...boards].map(([number, { epoch, version }]) => [number, { epoch, version }]));
  await eventually(async () => (await askAll(herds, { positions })).there === CLIENTS, 'all clients at what is stored', PATIENCE_MS);
  const told = await askAll(herds, { positions });
  t.diagnostic(JSON.stringify({ ...told, faults: told.faults.length }));
  assert.deepEqual(told.faults, []);
  assert.ok(told.reconnections >= CLIENTS, 'every client had to move');
}

/** No acknowledged version is ahead of the stored one. */
function assertAcknowledgedIsThere(records, boards) {
  for (const { ok, space, data } of records.filter(({ ok }) => ok)) {
    const board = boards.get(space.number);
    assert.ok(ok && data.epoch === board.epoch && data.version <= board.version, `version ${data.version} of ${space.room}`);
  }
}
