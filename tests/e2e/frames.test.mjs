// Frames of the two protocols below the events, cut, repeated and mixed up, against the built node: whatever comes, it
// lives on and serves. The node's log has no panic (`stop` looks).
//
// FRAME_SECONDS is how long (default 5); FRAME_SEED repeats a run.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';

import { WebSocket } from 'ws';

import { freshSpace } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { within } from './lib/waiting.mjs';

const SECONDS = Number(process.env.FRAME_SECONDS ?? 5);
const SEED = Number(process.env.FRAME_SEED ?? Date.now() % 2 ** 32);
const SESSIONS_AT_ONCE = 8;

/** The fewest sessions, on whatever machine. */
const LEAST = 4 * SESSIONS_AT_ONCE;

const slotcast = await startSlotcast({ settings: { SLOTCAST_EVENT_RATE: '0', SLOTCAST_USER_RATE: '0' } });
after(() => slotcast.stop());

const space = freshSpace();
const join = JSON.stringify(['join_space', space.event()]);
const hold = JSON.stringify(['hold_slot', space.event({ slots: [1], holdSeconds: 60 })]);

/** Frames after which a session continues. */
const GOOD = [
  '3',
  `42${join}`,
  `421${join}`,
  `42${hold}`,
  `427${hold}`,
  `42/,${join}`,
  '42["sync"]',
  '42["watch_stats",{}]',
  '42["refresh_token",{"token":"x"}]',
  `42["${'a'.repeat(2_000)}"]`,
  '42["\u0000",{"\u202e":"\ufffd"}]',
  '43[]',
  '431[{}]',
  `42["join_space",{"spazioId":"\\ud800"}]`,
  `429["leave_space",${JSON.stringify(space.event())}]`,
].map((frame) => Buffer.from(frame));

/** Frames of which most end the session. */
const BAD = [
  '',
  '0',
  '1',
  '2',
  '2probe',
  '3probe',
  '4',
  '5',
  '6',
  '7',
  'b',
  'bAQID',
  'x',
  '40',
  `40{"token":"${userToken(7)}"}`,
  '40{"token":null}',
  '40/admin,{"token":"x"}',
  '40?token=x',
  '41',
  '41/admin,',
  `42999999999999999999999${hold}`,
  `42-1${hold}`,
  '42[]',
  '42',
  '44{"message":"x"}',
  '47',
  '48',
  `42${'['.repeat(3_000)}`,
  '451-["join_space",{"_placeholder":true,"num":0}]',
  '4599999999-["join_space",{"_placeholder":true,"num":0}]',
  '450-["x"]',
  '461-1[{"_placeholder":true,"num":9}]',
].map((frame) => Buffer.from(frame));

/** Numbers from 0 to 1 that a seed repeats (mulberry32). */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = randomFrom(SEED);
const below = (limit) => Math.floor(random() * limit);
const pick = (list) => list[below(list.length)];

/** A frame: usually a good one, whose payload may be spoilt; else any frame, spoilt anywhere. */
function anyFrame() {
  if (random() < 0.85) return spoil(pick(GOOD), below(3), 2);
  return spoil(pick(random() < 0.5 ? GOOD : BAD), below(4), 0);
}

/** The frame with bytes from `first` on overwritten, cut out or repeated, or with the end of another, so many `times`. */
function spoil(frame, times, first) {
  if (times === 0 || frame.length < first) return frame;
  const at = first + below(frame.length + 1 - first);
  const piece = [
    () => Buffer.from([pick(Buffer.from('0123456789-[]{}",:/b\u001e'))]),
    () => Buffer.from([below(256)]),
    () => Buffer.alloc(0),
    () => frame.subarray(at),
    () => pick(BAD).subarray(below(8)),
  ];
  const spoilt = Buffer.concat([frame.subarray(0, at), pick(piece)(), frame.subarray(at + below(3))]);
  return spoil(spoilt, times - 1, first);
}

/** One websocket session: often a good beginning, then frames until the node hangs up or 40 are sent. */
async function overWebsocket() {
  const socket = new WebSocket(`${slotcast.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
  socket.on('error', () => {});
  // A refused handshake is an error as well, and a close like any other.
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await Promise.race([once(socket, 'open').catch(() => {}), closed]);
  if (random() < 0.8) socket.send(`40{"token":"${userToken(1 + below(50))}"}`);
  for (let sent = 0; sent < 40 && socket.readyState === WebSocket.OPEN; sent += 1) {
    const frame = anyFrame();
    // A text frame that is not UTF-8 rightly ends the session. Some are sent.
    const binary = random() < 0.03;
    socket.send(binary || random() < 0.03 ? frame : frame.toString('utf8'), { binary });
    if (random() < 0.2) await new Promise(setImmediate);
  }
  socket.close();
  setTimeout(() => socket.terminate(), 200);
  await within(closed, 'the end of a websocket');
}

/** One polling session: a handshake, then bodies of frames with their separators. */
async function overPolling() {
  const base = `${slotcast.url}/socket.io/?EIO=4&transport=polling`;
  const handshake = await (await fetch(base)).text();
  const { sid } = JSON.parse(handshake.slice(1));
  const url = `${base}&sid=${random() < 0.95 ? sid : anyFrame().toString('hex')}`;
  if (random() < 0.8) await fetch(url, { method: 'POST', body: `40{"token":"${userToken(1 + below(50))}"}` });
  for (let sent = 0; sent < 10; sent += 1) {
    const frames = Array.from({ length: 1 + below(4) }, anyFrame);
    const body = Buffer.concat(frames.flatMap((frame) => [Buffer.from('\u001e'), frame]).slice(1));
    const answer = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(2_000) }).catch(
      () => undefined,
    );
    await answer?.arrayBuffer();
    if (!answer?.ok) break;
  }
  await fetch(url, { method: 'POST', body: '1', signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
}

test(`no frames bring the node down (FRAME_SEED=${SEED})`, { timeout: (SECONDS + 60) * 1_000 }, async () => {
  const end = Date.now() + SECONDS * 1_000;
  let sessions = 0;
  const keepGoing = async (session) => {
    while (Date.now() < end || sessions < LEAST) {
      await session();
      sessions += 1;
    }
  };
  const lanes = Array.from({ length: SESSIONS_AT_ONCE }, (_, lane) =>
    keepGoing(lane % 4 === 3 ? overPolling : overWebsocket),
  );
  await Promise.all(lanes);
  assert.equal((await slotcast.caller().get('/readyz')).status, 200);
  slotcast.assertNoPanic();

  const untouched = freshSpace();
  const client = await slotcast.user(99);
  const joined = await client.socket.emitWithAck('join_space', untouched.event());
  assert.equal(joined.ok, true, 'a stock client is served as before');
});
