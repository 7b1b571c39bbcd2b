// Clients that stop reading: what they make the node hold is little and bounded, they are closed, the others notice
// nothing, and when they return they are equal to the store.
//
// SLOTCAST_STALLED_CHANGES says how often the space changes meanwhile (10,000).

import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import { after, test } from 'node:test';

import { countsAtRest, countsReturn, forgetPeak, readMemory, readMetrics } from './lib/figures.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { Follower, allShowTheStore } from './lib/follower.mjs';
import { RawClient, frame } from './lib/raw_client.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { staffToken, userToken } from './lib/tokens.mjs';
import { eventually, within } from './lib/waiting.mjs';

const CHANGES = Number(process.env.SLOTCAST_STALLED_CHANGES ?? 10_000);

/** How many clients stall at once. With fewer, the cost of one would vanish in the noise of the process's memory. */
const STALLED = 32;
const PER_CLIENT_BYTES = 1024 * 1024;

/** The documented limit of ten seconds in which a client takes nothing, with the additional time that a busy machine may need. */
const CLOSED_WITHIN_MS = 15_000;
const MARGIN_MS = 10_000;

/** How many changes of a space the store keeps in memory. */
const LOG_LENGTH = 1_024;

/** How many changes of a space may be on their way before the load waits for the clients that read. */
const AHEAD = 256;

const slotcast = await startSlotcast({
  settings: { SLOTCAST_USER_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0', SLOTCAST_LOG: 'warn' },
});
after(() => slotcast.stop());

const agent = new Agent({ keepAlive: true, maxSockets: 8 });
after(() => agent.destroy());

/** Makes one call on a connection that stays open, and gives the data of the answer. */
async function call(method, path, token, body) {
  const text = await new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const asked = request({ host: '127.0.0.1', port: slotcast.port, method, path, headers, agent }, (answer) => {
      let read = '';
      answer.setEncoding('utf8').on('data', (chunk) => (read += chunk));
      answer.on('end', () => (answer.statusCode === 200 ? resolve(read) : reject(new Error(read)))).on('error', reject);
    });
    asked.on('error', reject);
    asked.end(JSON.stringify(body));
  });
  return JSON.parse(text).data;
}

/** The node's counts without connections of this process. */
async function atRest() {
  agent.destroy();
  return countsAtRest(slotcast);
}

/** A space with 96 slots, so that one act is 32 changes. */
async function wideSpace() {
  const space = freshSpace();
  await call('PUT', space.path, staffToken(), { opens: '00:00', closes: '24:00', slotMinutes: 15 });
  return space;
}

/** Waits until the readers have nearly all changes, so that the load is as fast as the readers on any machine. */
async function letReadersFollow(readers, space, version) {
  const isNear = (reader) => reader.of(space).position.version + AHEAD >= version;
  await eventually(() => readers.every(isNear), 'readers that follow');
}

/** Makes `changes` changes of a space: a user holds and releases 32 slots at once. */
async function change(space, changes, readers) {
  const token = userToken(freshNumber());
  for (let done = 0; done < changes; done += 64) {
    for (const act of ['hold', 'release']) {
      const { version } = await call('POST', `/api/slots/${act}`, token, space.body({ slots: range(1, 32) }));
      await letReadersFollow(readers, space, version);
    }
  }
}

/** Changes a space with as much data as a slot may have, in eight slots at once. */
async function changeMuch(space, changes, readers) {
  const data = { note: 'x'.repeat(16_000) };
  let left = changes;
  const lane = async (slot) => {
    while (left > 0) {
      left -= 1;
      const body = space.body({ status: 'blocked', data });
      const { version } = await call('PUT', `/api/slots/${slot}`, staffToken(), body);
      await letReadersFollow(readers, space, version);
    }
  };
  await Promise.all(range(1, 8).map(lane));
}

/** Clients that join a space and read nothing from then on. */
async function stall(space, count) {
  const stalled = await Promise.all(
    range(1, count).map(async () => {
      const client = await (await RawClient.open(slotcast.port)).upgrade();
      await client.join(freshNumber(), space);
      client.socket.pause();
      return client;
    }),
  );
  return stalled;
}

/** The node's highest memory during `work`. */
async function peakDuring(work) {
  forgetPeak(slotcast);
  await work();
  return readMemory(slotcast, 'VmHWM');
}

const megabytes = (bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;

for (const [what, changes, work] of [
  [`${CHANGES} changes`, CHANGES, change],
  // More bytes than the kernel and a queue of any sensible size take.
  ['500 changes of 16 KiB', 500, changeMuch],
]) {
  test(`clients that stop reading during ${what} cost little, are closed, and harm nobody`, { timeout: 900_000 }, async (t) => {
    const space = await wideSpace();
    const before = await atRest();
    const readers = range(1, 3).map((index) => new Follower(slotcast.url, [space], { user: 700 + index }));
    t.after(() => readers.forEach((reader) => reader.close()));
    await Promise.all(readers.map((reader) => reader.ready()));
    // Without them first: what the traffic itself takes, once the space's log is as long as it gets, and in as many
    // changes as it is measured with.
    await work(space, LOG_LENGTH, readers);
    const without = await peakDuring(() => work(space, Math.min(changes, 2_500), readers));
    const closedBefore = (await readMetrics(slotcast)).slow_clients_closed_total;

    const stalled = await stall(space, STALLED);
    const known = await slotcast.board(space);
    const stalledAt = Date.now();
    let goneAfter;
    const gone = eventually(
      async () => (await readMetrics(slotcast)).connections <= readers.length,
      'the end of those that stopped reading',
      // The time counts from the moment at which the first client can take no more. A slow machine reaches it later.
      CLOSED_WITHIN_MS + 300_000,
    ).then(() => (goneAfter = Date.now() - stalledAt));
    const during = await peakDuring(() => work(space, changes, readers));
    await within(gone, 'their end after the last change', CLOSED_WITHIN_MS + MARGIN_MS);
    const each = (during - without) / STALLED;
    const closed = (await readMetrics(slotcast)).slow_clients_closed_total - closedBefore;
    t.diagnostic(
      `peak ${megabytes(without)} without, ${megabytes(during)} with ${STALLED} that stopped: ${megabytes(each)} each; ` +
        `all gone ${goneAfter} ms after they stopped, ${closed} for a full queue`,
    );

    const board = (await allShowTheStore(readers, slotcast, [space])).get(space.room);
    for (const reader of readers) {
      assert.deepEqual(reader.faults, []);
      assert.deepEqual(reader.client.disconnects, []);
      assert.equal(reader.of(space).snapshots.length, 1, 'only the one that it asked for');
    }
    // A client that returns asks for what it missed since it stopped, and gets that or a snapshot.
    const returned = new Follower(slotcast.url, [space], { user: 710 });
    t.after(() => returned.close());
    returned.of(space).position = { epoch: known.epoch, version: known.version };
    for (const { id_slot, status } of known.slots) returned.of(space).statuses.set(id_slot, status);
    await eventually(() => returned.shows(space, board), 'one that returned shows what is stored');
    assert.deepEqual(returned.faults, []);

    for (const client of stalled) client.close();
    for (const reader of [...readers, returned]) reader.close();
    agent.destroy();
    await countsReturn(slotcast, before, 60_000);
    assert.ok(each < PER_CLIENT_BYTES, `${megabytes(each)} for each client that stopped reading`);
  });
}

/** Changes of 16 KiB of which half a queue is full; the limit of the queue is `OUTBOX_BYTES` in `realtime::outbox`. */
const HALF_A_QUEUE = 14;

/** How many changes of 16 KiB a client that does not read takes until its queue is full: the kernel's part is its own. */
async function countUntilFull(space, reader) {
  const [client] = await stall(space, 1);
  let changes = 0;
  for (; (await readMetrics(slotcast)).connections > 1; changes += 1) await changeMuch(space, 1, [reader]);
  client.close();
  return changes;
}

test('a client that takes nothing for ten seconds may act meanwhile, and is closed, however little there is for it', { timeout: 120_000 }, async (t) => {
  const space = await wideSpace();
  const before = await atRest();
  const reader = new Follower(slotcast.url, [space], { user: 720 });
  t.after(() => reader.close());
  await reader.ready();
  const full = await countUntilFull(space, reader);
  const closedBefore = (await readMetrics(slotcast)).slow_clients_closed_total;

  const [client] = await stall(space, 1);
  const stalledAt = Date.now();
  // It sends pongs without reading the pings, so the server does not close it for a missing pong.
  const pongs = setInterval(() => client.write(frame('3')), 4_000);
  t.after(() => clearInterval(pongs));
  await changeMuch(space, full - HALF_A_QUEUE, [reader]);
  // The client leaves unread what others caused.
  client.write(frame(`42${JSON.stringify(['hold_slot', space.event({ slots: [20] })])}`));
  await eventually(async () => (await slotcast.board(space)).slots[19].status === 'occupied', 'its hold');
  await eventually(async () => (await readMetrics(slotcast)).connections === 1, 'its end', CLOSED_WITHIN_MS + MARGIN_MS);
  t.diagnostic(`gone ${Date.now() - stalledAt} ms after ${full - HALF_A_QUEUE} changes; the queue is full after ${full}`);
  const closed = (await readMetrics(slotcast)).slow_clients_closed_total - closedBefore;
  assert.equal(closed, 0, 'closed for the time, not for a full queue');
  assert.deepEqual(reader.faults, []);
  assert.deepEqual(reader.client.disconnects, []);
  reader.close();
  client.close();
  agent.destroy();
  await countsReturn(slotcast, before, 60_000);
});
