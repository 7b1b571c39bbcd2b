// Mutated inputs over HTTP, websockets and polling against the built node: no panic, no 5xx but 503, and memory that does
// not grow with the number of inputs.
//
// FUZZ_SECONDS (5) or FUZZ_INPUTS says how much; FUZZ_SEED repeats a run. `scripts/fuzz-network` is the long form.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { after, test } from 'node:test';

import { freshSpace, range } from './lib/fixtures.mjs';
import { POLLING, beginPolling, frame, head } from './lib/raw_client.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { staffToken, userToken } from './lib/tokens.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

const INPUTS = Number(process.env.FUZZ_INPUTS ?? Infinity);
const SECONDS = Number(process.env.FUZZ_SECONDS ?? (INPUTS === Infinity ? 5 : 3_600));
const SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 32);

/** How many inputs go over each connection, and how many connections are open at once. */
const OF_A_CONNECTION = 50;
const LANES = 8;

/** How much the node's resident memory may grow after the first fifth of the inputs, in MiB. Allocators keep some. */
const GROWTH_MIB = 64;

const slotcast = await startSlotcast({ settings: { SLOTCAST_LOG: 'warn', SLOTCAST_USER_RATE: '0', SLOTCAST_EVENT_RATE: '0' } });
after(() => slotcast.stop());

/** A small random generator (mulberry32). The same seed gives the same numbers. */
function randomOf(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
const random = randomOf(SEED);
const below = (count) => Math.floor(random() * count);
const pick = (list) => list[below(list.length)];

const space = freshSpace();
const [user, staff] = [userToken(7), staffToken()];
const json = (value) => JSON.stringify(value);
const call = (method, path, body, token) => {
  const text = body === undefined ? '' : json(body);
  const headers = { 'content-type': 'application/json', 'content-length': text.length, ...(token && { authorization: `Bearer ${token}` }) };
  return head(method, path, headers) + text;
};

const CALLS = [
  call('GET', space.boardPath(space.date)),
  call('GET', `/api/spaces/1/${space.number}/changes?epoch=x&since=0`, undefined, user),
  call('POST', '/api/slots/3/hold', space.body({ holdSeconds: 60 }), user),
  call('POST', '/api/slots/release', space.body({ slots: [1, 2, 3] }), user),
  call('PUT', '/api/slots/9', space.body({ status: 'blocked', data: { note: 'x' } }), staff),
  call('PUT', `/api/spaces/1/${space.number + 1}`, { name: 'a', opens: '08:00', closes: '20:00', slotMinutes: 30, timezone: 'Europe/Rome' }, staff),
  call('POST', '/api/users/7/notify', { event: 'news', data: {} }, staff),
  call('POST', '/api/broadcast', { event: 'news', data: {} }, staff),
  call('GET', '/api/holds', undefined, user),
  call('GET', '/api/stats', undefined, staff),
  call('OPTIONS', '/api/stats'),
  call('GET', '/api/openapi.json'),
  head('GET', POLLING),
  head('GET', `${POLLING}&sid=AAAAAAAAAAAAAAAA&t=x`),
  head('GET', '/socket.io/?EIO=4&transport=websocket', {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': 13,
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    'sec-websocket-protocol': 'v1.app',
  }),
].map((text) => Buffer.from(text));

const PACKETS = [
  '2',
  '3',
  '5',
  '6',
  `40{"token":"${user}"}`,
  '40/admin,{}',
  '41',
  `42${json(['join_space', space.event()])}`,
  `427${json(['hold_slot', space.event({ slots: [1], holdSeconds: 60 })])}`,
  `42${json(['sync', space.event({ since: { epoch: 'x', version: 3 } })])}`,
  `42${json(['refresh_token', { token: user }])}`,
  '42["caff\\u00e8",{}]',
  '431[{"ok":true}]',
  '44{"message":"x"}',
  '451-["x",{"_placeholder":true,"num":0}]',
  'bAQID',
].map((text) => Buffer.from(text));

const BITS = ['\x1e', '\r\n', '\0', '%', '&sid=', '=', '"', '{', '[', '\\u0000', '\ufffd', '4294967296', '-1', '9'.repeat(40), 'é', ' ', ',', ':'].map((text) => Buffer.from(text));

/** One or a few changes: another byte, a cut, a copy, a piece of another input. */
function mutate(input, others) {
  let bytes = Buffer.from(input);
  for (const _ of range(0, below(4))) {
    const at = below(bytes.length + 1);
    const until = at + below(Math.min(bytes.length - at, 40) + 1);
    const kind = below(6);
    if (kind === 0 && bytes.length > 0) bytes[Math.min(at, bytes.length - 1)] = below(256);
    else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(until)]);
    else if (kind === 2) bytes = Buffer.concat([bytes.subarray(0, until), bytes.subarray(at)]);
    else if (kind === 3) bytes = Buffer.concat([bytes.subarray(0, at), pick(BITS), bytes.subarray(at)]);
    else if (kind === 4) bytes = Buffer.concat([bytes.subarray(0, at), pick(others).subarray(below(20))]);
    else bytes = Buffer.concat([bytes.subarray(0, at), Buffer.alloc(below(300), pick(BITS)), bytes.subarray(at)]);
  }
  return bytes;
}

/** The statuses that a node may answer, besides those that blame the caller. */
const isRight = (status) => status < 500 || status === 503;

/** Sends bytes over one connection until the node ends it or sends no more answers. Checks the statuses of the answers. */
async function send(parts, what) {
  const socket = connect(slotcast.port, '127.0.0.1');
  let received = '';
  socket.on('data', (chunk) => (received += chunk.toString('latin1')));
  socket.on('error', () => {});
  let hasEnded = false;
  socket.once('close', () => (hasEnded = true));
  for (const part of parts) if (socket.writable) socket.write(part);
  // Many inputs have no answer. The connection is over when nothing more comes.
  for (let [before, quiet] = [-1, 0]; !hasEnded && quiet < 4; quiet = received.length === before ? quiet + 1 : 0) {
    before = received.length;
    await sleep(25);
  }
  socket.destroy();
  for (const [, status] of received.matchAll(/^HTTP\/1\.[01] (\d{3})/gm)) {
    assert.ok(isRight(Number(status)), `${status} to ${what} (seed ${SEED}): ${JSON.stringify(parts.map(String))}`);
  }
}

const WAYS = {
  http: async () => send(range(1, OF_A_CONNECTION).map(() => mutate(pick(CALLS), CALLS)), 'calls'),
  websocket: async () => {
    const frames = range(1, OF_A_CONNECTION).map(() => mutate(pick(PACKETS), PACKETS)).map((packet) => frame(packet));
    const [opening, connecting] = [CALLS.at(-1), frame(random() < 0.8 ? PACKETS[4] : mutate(PACKETS[4], PACKETS))];
    // Sometimes the frames themselves are broken.
    const all = random() < 0.2 ? frames.map((bytes) => mutate(bytes, frames)) : frames;
    await send([opening, connecting, ...all], 'frames');
  },
  polling: async () => {
    const began = await fetch(slotcast.url + POLLING);
    // The node has as many strangers as it may have.
    if (began.status === 503) return sleep(100);
    const { sid } = JSON.parse((await began.text()).slice(1));
    const body = () => range(0, below(4)).map(() => mutate(pick(PACKETS), PACKETS)).map(String).join('\x1e');
    const posts = range(1, OF_A_CONNECTION).map((index) => Buffer.from(index === 1 ? PACKETS[4] : body()));
    const requests = posts.map((bytes) => Buffer.concat([Buffer.from(head('POST', `${POLLING}&sid=${sid}`, { 'content-length': bytes.length })), bytes]));
    await send([...requests, Buffer.from(head('POST', `${POLLING}&sid=${sid}`, { 'content-length': 1 }) + '1')], 'posts');
  },
};

const residentMiB = () => {
  const status = readFileSync(`/proc/${slotcast.child.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)[1]) / 1024;
};

test('mutated inputs bring about no panic, no 5xx but 503, and no growth', { timeout: (SECONDS + 120) * 1_000 }, async (t) => {
  t.diagnostic(`FUZZ_SEED=${SEED}`);
  const [started, ends] = [Date.now(), Date.now() + SECONDS * 1_000];
  let sent = 0;
  let warm;
  const share = () => Math.max((Date.now() - started) / (SECONDS * 1_000), sent / INPUTS);
  const lane = async (index) => {
    while (Date.now() < ends && sent < INPUTS) {
      await Object.values(WAYS)[index % 3]();
      sent += OF_A_CONNECTION;
      if (warm === undefined && share() > 0.2) warm = residentMiB();
    }
  };
  await Promise.all(range(1, LANES).map(lane));
  // The node forgets strangers and clients that have left within ten seconds.
  const witness = await eventually(() => beginPolling(slotcast.url).catch(() => undefined), 'a session');
  assert.ok(witness);
  const last = residentMiB();
  t.diagnostic(`${sent} inputs in ${Math.round((Date.now() - started) / 1_000)} s; resident ${warm?.toFixed(0)} MiB after a fifth, ${last.toFixed(0)} MiB at the end`);
  assert.ok(last < (warm ?? last) + GROWTH_MIB, `${last} MiB`);
  assert.equal((await fetch(`${slotcast.url}/healthz`)).status, 200);
  slotcast.assertNoPanic();
});
