// Churn: clients connect, join, act, leave and drop without end, some of them without a word. The node's memory at the end
// is within 5 % of what it was after the first tenth, and what it counts is zero when all are gone. At last, how long
// another client waits for a change while some have stopped reading, as a ratio to the same while they read.
//
// SOAK_SECONDS (300) and SOAK_CLIENTS (60 at a time). Run by `scripts/bench --soak`, which builds the node and gives it by
// SLOTCAST_BIN.

import { io } from '../tests/e2e/node_modules/socket.io-client/build/esm/index.js';

import { countsAtRest, countsReturn, readCounts, readMemory } from '../tests/e2e/lib/figures.mjs';
import { freshSpace, range } from '../tests/e2e/lib/fixtures.mjs';
import { RawClient } from '../tests/e2e/lib/raw_client.mjs';
import { startSlotcast } from '../tests/e2e/lib/slotcast.mjs';
import { staffToken, userToken } from '../tests/e2e/lib/tokens.mjs';
import { sleep, within } from '../tests/e2e/lib/waiting.mjs';

const SECONDS = Number(process.env.SOAK_SECONDS ?? 300);
const CLIENTS = Number(process.env.SOAK_CLIENTS ?? 60);
const USERS = 400;
const ALLOWED = 0.05;
const PATIENCE_MS = 30_000;

const SPACES = 8;

/** A little more than the store keeps of a space. With full logs, any growth is not the store's. */
const LOG_LENGTH = 1_100;

const node = await startSlotcast({ settings: { SLOTCAST_LOG: 'warn', SLOTCAST_USER_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0' } });
const spaces = range(1, SPACES).map(() => freshSpace());
const before = await countsAtRest(node);
const did = { connected: 0, acts: 0, refused: 0, left: 0, dropped: 0, silent: 0, failed: 0 };
const failures = new Map();
const pick = (list) => list[Math.floor(Math.random() * list.length)];

/** The life of one client. */
async function live() {
  const transports = pick([['websocket'], ['websocket'], ['websocket'], ['polling'], ['polling', 'websocket']]);
  const socket = io(node.url, {
    auth: { token: userToken(1 + Math.floor(Math.random() * USERS)) },
    forceNew: true,
    reconnection: false,
    transports,
  });
  try {
    await within(
      new Promise((resolve, reject) => {
        socket.once('connection_confirmed', resolve);
        socket.once('connect_error', reject);
      }),
      'connection_confirmed',
      PATIENCE_MS,
    );
    did.connected += 1;
    for (const _ of range(1, pick([1, 2, 3]))) await visit(socket, pick(spaces));
  } finally {
    leave(socket);
  }
}

/** Joins a space, holds and releases a slot there, and usually leaves again. */
async function visit(socket, space) {
  const call = (event, more = {}) => socket.timeout(PATIENCE_MS).emitWithAck(event, space.event(more));
  await call('join_space');
  const slots = [1 + Math.floor(Math.random() * 9)];
  const held = await call('hold_slot', { slots, holdSeconds: 60 });
  if (held.ok) await call('release_slot', { slots });
  did[held.ok ? 'acts' : 'refused'] += held.ok ? 2 : 1;
  if (Math.random() < 0.7) await call('leave_space');
}

/** Leaves by the protocol, by closing its connection, or by cutting it. */
function leave(socket) {
  const cut = socket.io.engine?.transport?.ws?._socket;
  const how = pick(['left', 'dropped', 'silent']);
  did[how] += 1;
  if (how === 'silent' && cut) cut.resetAndDestroy();
  if (how === 'dropped') socket.io.engine?.close();
  socket.disconnect();
}

async function keepLiving(until) {
  while (Date.now() < until) {
    await live().catch((error) => {
      did.failed += 1;
      failures.set(error.message, (failures.get(error.message) ?? 0) + 1);
    });
  }
}

const median = (list) => list.toSorted((one, other) => one - other)[Math.floor(list.length / 2)];
const megabytes = (bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;

/** Resident memory each second, with a line for each tenth of the time. */
async function watchMemory(until) {
  const samples = [];
  const start = Date.now();
  const tenth = (SECONDS * 1_000) / 10;
  for (let next = tenth; Date.now() < until; ) {
    await sleep(1_000);
    samples.push({ at: Date.now() - start, bytes: readMemory(node, 'VmRSS') });
    if (Date.now() - start >= next || Date.now() >= until) {
      const of = samples.filter(({ at }) => at >= next - tenth).map(({ bytes }) => bytes);
      const { connections, room_members, tasks, files } = await readCounts(node);
      const counts = `${connections} sockets, ${room_members} memberships, ${tasks} tasks, ${files} files`;
      console.log(`${String(Math.round(next / 1_000)).padStart(5)} s  ${megabytes(median(of))}  ${counts}`);
      next += tenth;
    }
  }
  return samples;
}

/** The median and 99th percentile of a change's way to one client, in ms, beside 16 other clients that read or do not read. */
async function measureLatency(space, othersRead) {
  const clients = await Promise.all(
    range(1, 16).map(async (index) => {
      const client = await (await RawClient.open(node.port)).upgrade();
      await client.join(500 + index, space);
      if (!othersRead) client.socket.pause();
      return client.pongs();
    }),
  );
  const reader = await node.user(499);
  await reader.join(space);
  const latencies = [];
  const staff = node.caller(staffToken());
  for (const index of range(1, 400)) {
    const data = { sentAt: performance.now(), note: 'x'.repeat(8_000) };
    await staff.put(`/api/slots/${1 + (index % 9)}`, space.body({ status: 'blocked', data }));
    const heard = await reader.first('slot_update', (update) => update.data.sentAt === data.sentAt);
    latencies.push(performance.now() - heard.data.sentAt);
    reader.forget();
    await sleep(10);
  }
  reader.close();
  for (const client of clients) client.close();
  latencies.sort((one, other) => one - other);
  return { p50: latencies[200], p99: latencies[395] };
}

/** Changes each space, eight slots at a time, until its log is full. */
async function fillLogs() {
  const user = node.caller(userToken(498));
  const slots = range(1, 8);
  for (const space of spaces) {
    for (let done = 0; done < LOG_LENGTH; done += 2 * slots.length) {
      for (const act of ['hold', 'release']) {
        const answer = await user.post(`/api/slots/${act}`, space.body({ slots }));
        if (answer.status !== 200) throw new Error(`${act}: ${answer.text}`);
      }
    }
  }
}

await fillLogs();
console.log(`${CLIENTS} clients at a time for ${SECONDS} s`);
const until = Date.now() + SECONDS * 1_000;
const watched = watchMemory(until);
await Promise.all(range(1, CLIENTS).map(() => keepLiving(until)));
const samples = await watched;
const between = (from, to) =>
  median(samples.filter(({ at }) => at >= from * SECONDS * 1_000 && at <= to * SECONDS * 1_000).map(({ bytes }) => bytes));
const [early, late] = [between(0.08, 0.16), between(0.92, 1)];
const growth = (late - early) / early;
console.log(JSON.stringify({ ...did, failures: Object.fromEntries(failures) }));
console.log(`memory: ${megabytes(early)} after the first tenth, ${megabytes(late)} at the end: ${(growth * 100).toFixed(1)} %`);
await countsReturn(node, before, 90_000);
console.log(`all gone: ${JSON.stringify(await readCounts(node))}`);

const [usual, beside] = [await measureLatency(freshSpace(), true), await measureLatency(freshSpace(), false)];
const ratio = (name) =>
  `${name} ${usual[name].toFixed(1)} ms, ${beside[name].toFixed(1)} ms: ${(beside[name] / usual[name]).toFixed(2)}`;
console.log(`a change to a client beside 16 that read, and that do not: ${ratio('p50')}; ${ratio('p99')}`);
await node.stop();
process.exit(growth <= ALLOWED && did.failed === 0 ? 0 : 1);
