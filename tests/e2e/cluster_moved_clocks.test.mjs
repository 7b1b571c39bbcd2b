// Redis is replaced by a server whose clock is half a minute behind. An act that was answered 503 is not done there later.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { freshSpace } from './lib/fixtures.mjs';
import { makeClock } from './lib/moved_clock.mjs';
import { startTcpProxy } from './lib/proxy.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

/** How far the second server's clock is behind, in s. */
const BEHIND = 30;

/** After this many ms an unknown outcome is final. */
const FINAL_MS = 1_000;

test('what was answered 503 by a server whose clock is behind is not done later', async (t) => {
  const clock = makeClock();
  clock.move(-BEHIND);
  const [first, second] = await Promise.all([startRedis(), startRedis({ environment: clock.environment })]);
  t.after(() => Promise.all([first.kill(), second.kill()]));
  let current = first;
  const proxy = await startTcpProxy(() => [current.port]);
  t.after(() => proxy.close());
  const slotcast = await startSlotcast({ settings: { REDIS_URL: `redis://127.0.0.1:${proxy.port}` } });
  t.after(() => slotcast.stop());
  const space = freshSpace();
  const hold = (slot) => slotcast.userCaller(7).post(`/api/slots/${slot}/hold`, space.body());
  await eventually(async () => (await hold(1)).status === 200, 'a hold on the first server');
  current = second;
  for (const socket of proxy.sockets) socket.destroy();
  await eventually(async () => (await hold(2)).status === 200 && (await slotcast.board(space)).slots[0].status === 'available', 'a hold on the second server');
  const [seconds] = await second.ask('TIME');
  assert.ok(Date.now() / 1_000 - Number(seconds) > BEHIND / 2, 'the clock of the second server is behind');
  // The server receives the act, and reads it only after the act's second is over.
  const thaw = second.freeze();
  const refused = await hold(3);
  assert.equal(refused.status, 503, refused.text);
  await sleep(FINAL_MS);
  thaw();
  await slotcast.ready();
  assert.equal((await slotcast.board(space)).slots[2].status, 'available');
  await eventually(async () => (await hold(4)).status === 200, 'a hold');
  assert.equal((await slotcast.board(space)).slots[2].status, 'available');
});
