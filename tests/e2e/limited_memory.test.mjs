// Strangers at a node that may have 300 MiB (RLIMIT_DATA): handshakes by the thousand, with short queries and long ones,
// namespaces that do not exist, sockets that connect and leave in a hurry, and pings whose answers nobody reads, all at once.
// The node lives, an honest client beside misses nothing, and afterwards sessions, sockets, rooms, tasks and bytes are where
// they were. `SLOTCAST_ATTACK_SECONDS` says for how long.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';

import { readMetric } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { POLLING, RawClient, frame, head } from './lib/raw_client.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

const SECONDS = Number(process.env.SLOTCAST_ATTACK_SECONDS ?? 4);
const MEMORY = 300 * 1024 * 1024;

/** How much more memory the node may have afterwards: the allocator keeps some, and some tables grow once. */
const SLACK = 64 * 1024 * 1024;

/** How many sessions without a token one connection may have, as docs/limits.md says. */
const OF_A_CONNECTION = 256;

/** How many handshakes are sent in one write. */
const PIPELINED = 50;

const GAUGES = ['strangers', 'engine_sessions', 'connections', 'users', 'rooms', 'room_members', 'queue_depth'];

const slotcast = await startSlotcast({ settings: { SLOTCAST_EVENT_RATE: '50' } });
after(() => slotcast.stop());

const connectPacket = () => `40{"token":"${userToken(freshNumber())}"}`;

const readGauges = async () =>
  Object.fromEntries(await Promise.all(GAUGES.map(async (name) => [name, await readMetric(slotcast, `slotcast_${name}`)])));

function residentBytes() {
  const status = readFileSync(`/proc/${slotcast.child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)[1]) * 1024;
}

/** Repeats a piece of work until the attack is over, also after failures. */
async function untilOver(end, attack) {
  let rounds = 0;
  while (Date.now() < end) {
    await attack().catch(() => {});
    rounds += 1;
    // A refusal that comes at once must not keep the honest client's own process busy.
    await sleep(1);
  }
  return rounds;
}

/**
 * Sends handshakes over one connection until the connection or the time ends. It sends more than one connection may begin,
 * however slow the machine is.
 */
async function sendHandshakes(end, more = '') {
  const client = await RawClient.open(slotcast.port);
  for (let sent = 0; (Date.now() < end || sent <= OF_A_CONNECTION) && !client.hasEnded; sent += PIPELINED) {
    client.received = '';
    client.write(head('GET', POLLING + more).repeat(PIPELINED));
    const isAnswered = () => client.hasEnded || (client.received.match(/HTTP\/1\.1 \d+/g) ?? []).length >= PIPELINED;
    await eventually(isAnswered, 'answers', 30_000);
  }
  client.close();
}

/** A session that asks for namespaces of 60 KB and never polls, over a connection of its own. */
async function askForNamespaces(packet) {
  const client = await RawClient.open(slotcast.port);
  const ask = async (request) => {
    client.received = '';
    client.write(request);
    await eventually(() => client.hasEnded || client.received.includes('\r\n\r\n'), 'an answer', 30_000);
    return client.received.startsWith('HTTP/1.1 200');
  };
  await ask(head('GET', POLLING));
  const sid = /"sid":"([^"]+)"/.exec(client.received)?.[1];
  const post = (body) => ask(head('POST', `${POLLING}&sid=${sid}`, { 'content-length': String(body.length) }) + body);
  let isTaken = sid !== undefined && (!packet || (await post(packet)));
  for (let number = 1; isTaken && number <= 100; number += 1) isTaken = await post(`40/${'a'.repeat(60_000)}${number},`);
  client.close();
}

/** A websocket that connects, disconnects at once, and closes its connection. */
async function hurry() {
  const client = await (await RawClient.open(slotcast.port)).upgrade();
  const packet = connectPacket();
  for (const one of [packet, '41', packet, '41']) {
    client.write(frame(one));
    await new Promise(setImmediate);
  }
  await sleep(2);
  client.close();
}

/** A websocket that sends pings as fast as it can, and reads nothing. */
async function floodWithPings(end) {
  const client = await (await RawClient.open(slotcast.port)).upgrade();
  const pings = Buffer.concat(range(1, 200).map(() => frame('x'.repeat(125), { opcode: 9 })));
  client.socket.pause();
  while (Date.now() < end && !client.socket.destroyed) {
    if (client.socket.write(pings)) await new Promise(setImmediate);
    else await Promise.race([once(client.socket, 'drain').catch(() => {}), client.ended, sleep(1_000)]);
  }
  client.close();
}

test('strangers do not end a node of 300 MiB, disturb nobody, and leave nothing behind', async (t) => {
  execFileSync('prlimit', ['--pid', String(slotcast.child.pid), `--data=${MEMORY}`]);
  const space = freshSpace();
  const watcher = await slotcast.user(freshNumber());
  await watcher.join(space, { date: space.date });
  await watcher.first('slots_status_update');
  // Rooms are counted with the node's reports.
  await eventually(async () => (await readMetric(slotcast, 'slotcast_rooms')) === 1, 'the room of the watcher');
  const [before, tasks, bytes] = [await readGauges(), await readMetric(slotcast, 'slotcast_tasks'), residentBytes()];

  const end = Date.now() + SECONDS * 1_000;
  let most = 0;
  const attacks = [
    ...range(1, 3).map(() => untilOver(end, () => sendHandshakes(end))),
    untilOver(end, () => sendHandshakes(end, `&x=${'x'.repeat(44_000)}`)),
    untilOver(end, () => floodWithPings(end)),
    ...range(1, 2).map(() => untilOver(end, () => askForNamespaces())),
    ...range(1, 2).map(() => untilOver(end, () => askForNamespaces(connectPacket()))),
    ...range(1, 4).map(() => untilOver(end, hurry)),
  ];
  const staff = slotcast.staffCaller();
  let changes = 0;
  const honest = (async () => {
    while (Date.now() < end || changes < 5) {
      changes += 1;
      const status = changes % 2 ? 'blocked' : 'available';
      const answer = await staff.settled.put('/api/slots/1', space.body({ status }));
      assert.equal(answer.status, 200, answer.text);
      await watcher.first('slot_update', ({ version }) => version === answer.data.version);
      most = Math.max(most, residentBytes());
      await sleep(100);
    }
  })();
  await Promise.all([honest, ...attacks]);
  assert.deepEqual(watcher.disconnects, []);
  const sessions = await readMetric(slotcast, 'slotcast_connects_total{outcome="connection_full"}');
  t.diagnostic(`${changes} changes seen, ${sessions} refused, at most ${Math.round(most / 2 ** 20)} MiB`);
  assert.ok(sessions > 0, 'the handshakes came to their bound');

  let now;
  const isBack = async () => JSON.stringify((now = await readGauges())) === JSON.stringify(before);
  await eventually(isBack, () => `as before: ${JSON.stringify(now)} for ${JSON.stringify(before)}`, 120_000);
  const areTasksBack = async () => (now = await readMetric(slotcast, 'slotcast_tasks')) <= tasks;
  await eventually(areTasksBack, () => `${now} tasks, ${tasks} before`, 120_000);
  const areBytesBack = () => (now = residentBytes()) <= bytes + SLACK;
  await eventually(areBytesBack, () => `${now} bytes, ${bytes} before`, 120_000);
  t.diagnostic(`${Math.round((now - bytes) / 2 ** 20)} MiB more than before`);
  assert.equal((await staff.get('/api/stats')).data.totalSockets, 1);
  watcher.close();
});
