// Clients that ask for too much: connections without end, events as fast as they can, huge frames, rooms by the thousand.
// The node refuses clearly, goes on serving the others, and holds nothing for them afterwards.
//
// SLOTCAST_SILENT_CONNECTIONS says how many open a connection and say nothing (2,000; half of them are over the limit).

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { countsAtRest, countsReturn, readCounts, readMemory, readMetrics } from './lib/figures.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { RawClient, frame } from './lib/raw_client.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually, within } from './lib/waiting.mjs';

const CONNECTIONS = Number(process.env.SLOTCAST_SILENT_CONNECTIONS ?? 2_000);

const slotcast = await startSlotcast({ settings: { SLOTCAST_LOG: 'warn' } });
after(() => slotcast.stop());

const { port } = slotcast;
const websocket = async () => (await RawClient.open(port)).upgrade();
const joined = async (space) => (await websocket()).join(freshNumber(), space);

/** How long the honest client waits for the answer to each of its calls, in ms. */
async function callAllTheWhile(client, space, work) {
  const took = [];
  let goesOn = true;
  const calling = (async () => {
    while (goesOn) {
      const askedAt = performance.now();
      const answer = await client.call('sync', space.event());
      assert.ok(answer.ok || answer.error.code === 'rate_limited', JSON.stringify(answer));
      took.push(performance.now() - askedAt);
      await new Promise((resolve) => setTimeout(resolve, 40));
    }
  })();
  await work();
  goesOn = false;
  await calling;
  return Math.round(took.toSorted((one, other) => one - other)[Math.floor(took.length / 2)]);
}

test(`${CONNECTIONS} connections that say nothing: those over the limit are refused at once, the others serve on`, { timeout: 180_000 }, async (t) => {
  const openFiles = Math.floor(CONNECTIONS / 2);
  const small = await startSlotcast({ openFiles, settings: { SLOTCAST_LOG: 'warn' } });
  t.after(() => small.stop());
  const before = await countsAtRest(small);
  const space = freshSpace();
  const early = await small.user(7);
  await early.join(space);
  const memory = readMemory(small, 'VmRSS');
  const silent = [];
  while (silent.length < CONNECTIONS) {
    silent.push(...(await Promise.all(range(1, 100).map(() => RawClient.open(small.port)))));
  }
  const refused = () => silent.filter(({ received }) => received.startsWith('HTTP/1.1 503 Service Unavailable'));
  await eventually(async () => (await readMetrics(small)).tcp_refused_total >= 1, 'connections that are refused');
  const { tcp_connections: open } = await readCounts(small);
  const areAllTold = () => refused().length >= CONNECTIONS - open;
  await eventually(areAllTold, () => `a clear answer to each that is refused: ${open} are open, ${refused().length} told`);
  t.diagnostic(
    `${openFiles} files may be open: ${open} connections are, ${refused().length} were told 503; ` +
      `${((readMemory(small, 'VmRSS') - memory) / open / 1024).toFixed(1)} KiB for each that says nothing`,
  );
  assert.ok(open < openFiles, 'files are left for the node itself');
  assert.equal((await early.call('sync', space.event())).ok, true, 'who is there is served');
  assert.match(small.log(), /connections are refused/);
  for (const client of silent) client.close();
  await eventually(async () => (await readCounts(small)).tcp_connections <= 2, 'room again');
  assert.equal((await small.user(8)).socket.connected, true, 'and so is who comes then');
  for (const client of small.clients) client.close();
  await countsReturn(small, before, 60_000);
});

test('one that sends events as fast as it can harms itself alone', { timeout: 120_000 }, async (t) => {
  const space = freshSpace();
  const before = await countsAtRest(slotcast);
  const other = await slotcast.user(freshNumber());
  await other.join(space);
  const quiet = await callAllTheWhile(other, space, () => new Promise((resolve) => setTimeout(resolve, 2_000)));
  const floods = await Promise.all(range(1, 4).map(async () => (await joined(space)).pongs()));
  const sync = frame(`42${JSON.stringify(['sync', space.event()])}`);
  const many = Buffer.concat(Array(200).fill(sync));
  const received = () => floods.reduce((sum, { received }) => sum + received.length, 0);
  const areTold = () => floods.every(({ received }) => received.includes('rate_limited'));
  const busy = await callAllTheWhile(other, space, async () => {
    const [end, deadline] = [Date.now() + 4_000, Date.now() + 60_000];
    while (Date.now() < end || (!areTold() && Date.now() < deadline)) {
      // The client writes only as fast as the node reads, and the node stops reading.
      await Promise.all(floods.map(({ socket }) => socket.write(many) || new Promise((resolve) => setTimeout(resolve, 20))));
      await new Promise(setImmediate);
    }
  });
  const { queue_depth } = await readMetrics(slotcast);
  t.diagnostic(`another's call: ${quiet} ms in quiet, ${busy} ms in the flood; ${received()} bytes answered, ${queue_depth} wait`);
  assert.ok(queue_depth <= 4 * 1_000, `${queue_depth} events wait`);
  assert.ok(areTold(), 'they are told');
  assert.deepEqual(other.disconnects, []);
  for (const flood of floods) flood.close();
  other.close();
  await countsReturn(slotcast, before, 60_000);
});

test('huge frames and messages in endless pieces end their own connection alone', { timeout: 120_000 }, async () => {
  const space = freshSpace();
  const before = await countsAtRest(slotcast);
  const other = await slotcast.user(freshNumber());
  await other.join(space);
  const memory = readMemory(slotcast, 'VmRSS');
  const announced = await Promise.all(range(1, 8).map(() => joined(space)));
  for (const client of announced) client.write(frame('', { announce: 2 ** 40 }));
  const pieces = await Promise.all(range(1, 8).map(() => joined(space)));
  for (const client of pieces) {
    const [first, more] = [frame('4'.repeat(1_000)), frame('4'.repeat(1_000))];
    // Neither the first piece nor those that follow are marked as the last.
    first[0] = 0x01;
    more[0] = 0x00;
    client.write(Buffer.concat([first, ...Array(1_000).fill(more)]));
  }
  await within(Promise.all([...announced, ...pieces].map(({ ended }) => ended)), 'their end');
  assert.ok(readMemory(slotcast, 'VmRSS') - memory < 64 * 1024 * 1024, 'what was announced was not believed');
  assert.equal((await other.call('sync', space.event())).ok, true);
  assert.deepEqual(other.disconnects, []);
  for (const client of [...announced, ...pieces]) client.close();
  other.close();
  await countsReturn(slotcast, before, 60_000);
});

test('thousands of rooms that are joined and left are all forgotten', { timeout: 120_000 }, async (t) => {
  const own = await startSlotcast({ settings: { SLOTCAST_LOG: 'warn', SLOTCAST_EVENT_RATE: '0' } });
  t.after(() => own.stop());
  const before = await countsAtRest(own);
  const clients = await Promise.all(range(1, 4).map((index) => own.user(index)));
  await Promise.all(
    clients.map(async (client, index) => {
      for (const round of range(0, 9)) {
        const rooms = range(1, 50).map((room) => ({ spazioId: 100_000 * (index + 1) + 100 * round + room, sedeId: 1 }));
        const joins = await Promise.all(rooms.map((room) => client.call('join_space', room)));
        assert.ok(joins.every(({ ok }) => ok), JSON.stringify(joins.find(({ ok }) => !ok)));
        await Promise.all(rooms.map((room) => client.call('leave_space', room)));
      }
    }),
  );
  const { feed_topics, tasks } = await readCounts(own);
  t.diagnostic(`${feed_topics} topics and ${tasks} tasks after 2,000 rooms`);
  assert.ok(feed_topics > 0, 'they are kept for a little while');
  // The clients stay connected, and the node still frees everything that they left behind.
  await eventually(async () => (await readCounts(own)).feed_topics === 0, 'no topics');
  for (const client of clients) client.close();
  await countsReturn(own, before, 60_000);
});
