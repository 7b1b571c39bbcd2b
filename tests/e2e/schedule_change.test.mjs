// Changing the schedule of a space that is used meanwhile: what does not matter to the change does not disturb it, what does
// refuses it, and no event names a slot that the space has no more.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { freshSpace, range } from './lib/fixtures.mjs';
import { startTcpProxy } from './lib/proxy.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { STALLED } from './lib/stalls.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

/** How many changes are made of a busy space. */
const CHANGES = 20;

/** How many callers act at the same time. Each acts again as soon as it is answered. */
const CALLERS = 8;

/** Only calls free holds, so that the test decides when. */
const SETTINGS = { SLOTCAST_USER_RATE: '0', SLOT_TIMER_INTERVAL: '0' };

const STORES = {
  'the embedded store': async () => ({ settings: {}, end: async () => {} }),
  Redis: async () => {
    const redis = await startRedis();
    return { settings: { REDIS_URL: redis.url }, end: () => redis.kill() };
  },
  'Redis behind 30 ms': async () => {
    const redis = await startRedis();
    const proxy = await startTcpProxy(() => [redis.port]);
    proxy.delay = 15;
    const end = async () => {
      proxy.close();
      await redis.kill();
    };
    return { settings: { REDIS_URL: `redis://127.0.0.1:${proxy.port}` }, end };
  },
};

/** The answer to a call. The call is repeated only if the node says that the store did not answer in time. */
async function firstAnswer(slotcast, call) {
  return eventually(async () => {
    const { length } = slotcast.log();
    const answer = await call();
    const isStalled = answer.status === 503 && STALLED.test(slotcast.log().slice(length));
    return !isStalled && answer;
  }, 'an answer');
}

/** Holds and releases slots of its own until `isOver`, and counts the acts. */
async function act(slotcast, space, index, isOver, counts) {
  const user = slotcast.userCaller(100 + index);
  const body = space.body({ slots: [1 + (index % 6)] });
  while (!isOver()) {
    for (const act of ['hold', 'release']) {
      const { status } = await user.post(`/api/slots/${act}`, body);
      counts[status] = (counts[status] ?? 0) + 1;
    }
  }
}

for (const [name, start] of Object.entries(STORES)) {
  describe(`on ${name}`, () => {
    test('a busy space gets its new schedule at the first call, and keeps the slots that somebody has', async (t) => {
      const { settings, end } = await start();
      const slotcast = await startSlotcast({ settings: { ...SETTINGS, ...settings } });
      const staff = slotcast.staffCaller();
      const space = freshSpace();
      try {
        await staff.settled.put(space.path, { closes: '19:00' });
        const kept = await slotcast.userCaller(7).settled.post('/api/slots/hold', space.body({ slots: [7] }));
        assert.equal(kept.status, 200, kept.text);
        let isOver = false;
        const counts = {};
        const began = Date.now();
        const acting = range(1, CALLERS).map((index) => act(slotcast, space, index, () => isOver, counts));
        try {
          for (const turn of range(1, CHANGES)) {
            const schedule = { closes: turn % 2 === 0 ? '19:00' : '20:00', name: `Sala ${turn}` };
            const put = await firstAnswer(slotcast, () => staff.put(space.path, schedule));
            assert.equal(put.status, 200, `change ${turn}: ${put.text}`);
            // Slot 7 is at 15:00.
            const refused = await firstAnswer(slotcast, () => staff.put(space.path, { closes: '15:00' }));
            assert.equal(refused.body.code, 'space_in_use', `change ${turn}: ${refused.text}`);
            assert.ok(refused.body.conflicts.includes(7), refused.text);
          }
        } finally {
          isOver = true;
          await Promise.all(acting);
        }
        const rate = Math.round(Object.values(counts).reduce((sum, count) => sum + count, 0) / ((Date.now() - began) / 1_000));
        t.diagnostic(`${CHANGES} changes, ${rate} acts/s meanwhile: ${JSON.stringify(counts)}`);
        assert.ok(counts[200] >= CHANGES, JSON.stringify(counts));
        assert.equal((await slotcast.entry(space, 7)).status, 'occupied');
      } finally {
        await slotcast.stop();
        await end();
      }
    });

    test('a hold that ended before the change is announced before it, once, and never with a slot that is gone', async () => {
      const { settings, end } = await start();
      const slotcast = await startSlotcast({ settings: { ...SETTINGS, ...settings } });
      const space = freshSpace();
      try {
        const held = await slotcast
          .userCaller(7)
          .settled.post('/api/slots/hold', space.body({ slots: [2, 9], holdSeconds: 1 }));
        assert.equal(held.status, 200, held.text);
        const client = await slotcast.user(8);
        await client.join(space, { date: space.date });
        const freed = await slotcast.user(9);
        await eventually(async () => (await slotcast.entry(space, 9)).status === 'available', 'the end of the hold');
        // Slot 9 is gone, and slot 2 is at 11:00.
        const put = await slotcast.staffCaller().settled.put(space.path, { opens: '10:00', closes: '13:00' });
        assert.equal(put.status, 200, put.text);
        const swept = await slotcast.staffCaller().settled.post('/api/sweep');
        assert.equal(swept.status, 200, swept.text);
        await freed.first('slots_freed');
        // When this last event arrives, all earlier events have arrived.
        const last = await slotcast.userCaller(7).settled.post('/api/slots/hold', space.body({ slots: [1] }));
        const updates = await client.many('slot_update', 3);
        const told = updates.map(({ slotId, status, data, version }) => [slotId, status, data.orario, version]);
        const { version } = held.data;
        assert.deepEqual(told, [
          [2, 'available', '10:00', version + 1],
          [9, 'available', '17:00', version + 2],
          [1, 'occupied', '10:00', last.data.version],
        ]);
        assert.equal(put.data.version, version + 3);
        assert.equal(last.data.version, version + 4);
        await sleep(1_500);
        const sums = freed.all('slots_freed').map(({ count, spaces }) => [count, spaces.flatMap(({ slots }) => slots)]);
        assert.deepEqual(sums, [[2, [2, 9]]]);
      } finally {
        await slotcast.stop();
        await end();
      }
    });
  });
}
