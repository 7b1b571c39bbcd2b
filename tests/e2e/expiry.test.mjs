// The end of holds: free at that instant, announced once, with and without the timer.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { TIMESTAMP, freshNumber, freshSpace, range, timeless, versions } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually, inLanes, sleep } from './lib/waiting.mjs';

const withTimer = await startSlotcast();
const withoutTimer = await startSlotcast({ settings: { SLOT_TIMER_INTERVAL: '0' } });
after(() => Promise.all([withTimer.stop(), withoutTimer.stop()]));

/** Waits until an instant has passed on this machine's clock, which the embedded store uses, too. */
const untilAfter = (timestamp) => sleep(Math.max(0, Date.parse(timestamp) - Date.now()) + 5);

describe('with the timer', () => {
  const slotcast = withTimer;

  test('a hold that ends is freed, told to the room and to everyone', async () => {
    const space = freshSpace();
    const [member, stranger] = [await slotcast.user(freshNumber()), await slotcast.user(freshNumber())];
    const { version } = await member.join(space);
    const user = slotcast.userCaller(freshNumber());
    const held = await user.post('/api/slots/2/hold', space.body({ holdSeconds: 1 }));
    const freed = await member.first('slot_update', (update) => update.status === 'available');
    const late = Date.parse(freed.timestamp) - Date.parse(held.data.heldUntil);
    console.log(`freed ${late} ms after its end`);
    assert.ok(late >= 0, 'never before its end');
    assert.equal(freed.slotId, 2);
    assert.equal(freed.version, version + 2);
    assert.equal('held_until' in freed.data, false);
    for (const client of [member, stranger]) {
      const told = await client.first('slots_freed', ({ spaces }) => spaces.some((one) => one.spazioId === space.number));
      assert.deepEqual(Object.keys(told).sort(), ['count', 'spaces', 'timestamp', 'type']);
      assert.equal(told.type, 'slots_freed');
      assert.equal(told.count, 1);
      assert.match(told.timestamp, TIMESTAMP);
      assert.deepEqual(told.spaces, [{ spazioId: space.number, sedeId: space.site, date: space.date, slots: [2] }]);
    }
    assert.equal((await user.post('/api/slots/2/book', space.body())).body.code, 'not_held');
    const withToken = await user.post('/api/slots/2/book', space.body({ holdToken: held.data.holdToken }));
    assert.equal(withToken.status, 410);
    assert.equal(withToken.body.code, 'hold_expired');
  });

  test('holds that end together are merged, counted once each, at most one message a second', async () => {
    const spaces = range(1, 5).map(() => freshSpace());
    const client = await slotcast.user(freshNumber());
    await Promise.all(
      spaces.map(async (space) => {
        const user = slotcast.userCaller(freshNumber());
        const held = await user.post('/api/slots/hold', space.body({ slots: [1, 2, 3], holdSeconds: 1 }));
        assert.equal(held.status, 200, held.text);
      }),
    );
    const mine = new Set(spaces.map((space) => space.number));
    const freed = () =>
      client
        .all('slots_freed')
        .flatMap((told) => told.spaces)
        .filter((one) => mine.has(one.spazioId))
        .flatMap((one) => one.slots.map((slot) => `${one.spazioId}/${slot}`));
    await eventually(() => freed().length >= 15, 'fifteen freed slots');
    const seen = client.all('slots_freed').length;
    await slotcast.userCaller(freshNumber()).post('/api/slots/1/hold', freshSpace().body({ holdSeconds: 1 }));
    await client.many('slots_freed', seen + 1);
    assert.equal(freed().length, 15, 'each is told once');
    assert.equal(new Set(freed()).size, 15);
    const told = client.all('slots_freed');
    assert.ok(told.every((one) => one.count > 0 && one.count === one.spaces.flatMap(({ slots }) => slots).length));
    const times = told.map((one) => Date.parse(one.timestamp));
    const gaps = times.slice(1).map((time, index) => time - times[index]);
    assert.ok(gaps.every((gap) => gap >= 900), `milliseconds between messages: ${gaps}`);
  });

  test('an extended hold ends at its new end', async () => {
    const space = freshSpace();
    const client = await slotcast.user(freshNumber());
    await client.join(space);
    const user = slotcast.userCaller(freshNumber());
    await user.post('/api/slots/1/hold', space.body({ holdSeconds: 5 }));
    const extended = await user.post('/api/slots/1/extend', space.body({ holdSeconds: 7 }));
    assert.equal(extended.status, 200, extended.text);
    const freed = await client.first('slot_update', (update) => update.status === 'available');
    assert.ok(freed.timestamp >= extended.data.heldUntil, `${freed.timestamp} >= ${extended.data.heldUntil}`);
  });

  test('what was booked or released in time is not freed', async () => {
    const space = freshSpace();
    const client = await slotcast.user(freshNumber());
    const { version } = await client.join(space);
    const user = slotcast.userCaller(freshNumber());
    await user.post('/api/slots/hold', space.body({ slots: [1, 2], holdSeconds: 5 }));
    await user.post('/api/slots/1/book', space.body());
    await user.post('/api/slots/2/release', space.body());
    await user.post('/api/slots/3/hold', space.body({ holdSeconds: 5 }));
    await client.first('slot_update', (update) => update.slotId === 3 && update.status === 'available');
    assert.deepEqual(versions(client.all('slot_update')), range(version + 1, version + 6));
    const board = await slotcast.board(space);
    assert.deepEqual(board.slots.slice(0, 3).map((entry) => entry.status), ['booked', 'available', 'available']);
  });
});

describe('with the timer off', () => {
  const slotcast = withoutTimer;

  test('nothing is freed by itself, yet boards show it free and the next caller gets it', async () => {
    const space = freshSpace();
    const client = await slotcast.user(freshNumber());
    const { version } = await client.join(space);
    const [first, second] = [slotcast.userCaller(freshNumber()), slotcast.userCaller(freshNumber())];
    const held = await first.post('/api/slots/1/hold', space.body({ holdSeconds: 1 }));
    await untilAfter(held.data.heldUntil);

    const board = await slotcast.board(space);
    assert.equal(board.version, version + 1, 'the end of a hold is not a change');
    assert.deepEqual(timeless(board.slots[0]), {
      id_slot: 1,
      orario: '09:00',
      status: 'available',
      title: 'Slot disponibile',
    });
    assert.doesNotMatch((await first.get('/api/holds')).text, new RegExp(held.data.holdToken));
    assert.equal((await first.post('/api/slots/1/book', space.body())).body.code, 'not_held');
    assert.equal((await slotcast.board(space)).version, version + 1, 'a refused act does not free it either');

    await sleep(1_500);
    assert.deepEqual(versions(client.all('slot_update')), [version + 1], 'the timer is off');
    const taken = await second.post('/api/slots/1/hold', space.body());
    assert.equal(taken.data.version, version + 3, 'the freeing takes a version of its own');
    const updates = await client.many('slot_update', 3);
    assert.deepEqual(updates.map((update) => update.status), ['occupied', 'available', 'occupied']);
    assert.deepEqual(versions(updates), range(version + 1, version + 3));
    const told = await client.first('slots_freed');
    assert.equal(told.count, 1);
  });

  test('staff frees what has ended by a sweep, and gets the report', async () => {
    const space = freshSpace();
    const client = await slotcast.user(freshNumber());
    const { version } = await client.join(space);
    const held = await slotcast
      .userCaller(freshNumber())
      .post('/api/slots/hold', space.body({ slots: [1, 2], holdSeconds: 1 }));
    await untilAfter(held.data.heldUntil);
    const swept = await slotcast.staffCaller().post('/api/sweep');
    assert.equal(swept.status, 200, swept.text);
    const report = swept.data;
    assert.deepEqual(Object.keys(report).sort(), ['freed', 'oldestLateMs', 'spaces', 'tookMs']);
    assert.equal(report.freed, 2);
    assert.equal(report.spaces, 1);
    assert.ok(report.oldestLateMs >= 0 && report.tookMs >= 0);
    const updates = await client.many('slot_update', 4);
    assert.deepEqual(versions(updates), range(version + 1, version + 4));
    assert.equal((await client.first('slots_freed', (told) => told.spaces[0].spazioId === space.number)).count, 2);
    const again = await slotcast.staffCaller().post('/api/sweep');
    assert.equal(again.data.freed, 0);
    assert.equal((await slotcast.userCaller(freshNumber()).post('/api/sweep')).body.code, 'forbidden');
  });

  test('a message lists at most five hundred spaces, and says when it leaves some out', async () => {
    const client = await slotcast.user(freshNumber());
    const service = slotcast.staffCaller('servizio');
    const spaces = range(1, 600).map(() => freshSpace());
    const end = Date.now() + 3_000;
    const ends = [];
    await inLanes(48, spaces, async (space) => {
      const holdSeconds = Math.max(1, Math.ceil((end - Date.now()) / 1_000));
      const held = await service.settled.post('/api/slots/1/hold', space.body({ holdSeconds, id_utente: freshNumber() }));
      assert.equal(held.status, 200, held.text);
      ends.push(held.data.heldUntil);
    });
    await untilAfter(ends.sort().at(-1));
    const swept = await slotcast.staffCaller().post('/api/sweep');
    assert.equal(swept.status, 200, swept.text);
    assert.deepEqual([swept.data.freed, swept.data.spaces], [600, 600]);
    const freed = () => client.all('slots_freed').reduce((sum, told) => sum + told.count, 0);
    await eventually(() => freed() >= 600, 'six hundred freed slots');
    assert.equal(freed(), 600, 'all are counted');
    for (const told of client.all('slots_freed')) {
      assert.ok(told.spaces.length <= 500);
      const isTruncated = told.spaces.flatMap(({ slots }) => slots).length < told.count;
      assert.equal(told.truncated ?? false, isTruncated, `${told.spaces.length} spaces, ${told.count} slots`);
    }
  });

  test('many sweeps at once free each hold once', async () => {
    const space = freshSpace();
    const client = await slotcast.user(freshNumber());
    const { version } = await client.join(space);
    const user = slotcast.userCaller(freshNumber());
    const held = await user.post('/api/slots/hold', space.body({ slots: range(1, 8), holdSeconds: 1 }));
    await untilAfter(held.data.heldUntil);
    const reports = await Promise.all(range(1, 10).map(() => slotcast.staffCaller().post('/api/sweep')));
    assert.equal(reports.reduce((sum, report) => sum + report.data.freed, 0), 8);
    const { data } = await slotcast.staffCaller().put('/api/slots/9', space.body({ status: 'blocked' }));
    assert.equal(data.version, version + 17);
    await client.first('slot_update', (update) => update.version === data.version);
    assert.deepEqual(versions(client.all('slot_update')), range(version + 1, version + 17));
  });
});

test('with SLOTCAST_FREED_TO=rooms only the rooms of the freed slots are told', async () => {
  const slotcast = await startSlotcast({ settings: { SLOTCAST_FREED_TO: 'rooms' } });
  try {
    const space = freshSpace();
    const [member, stranger] = [await slotcast.user(1), await slotcast.user(2)];
    await member.join(space);
    await slotcast.userCaller(3).post('/api/slots/1/hold', space.body({ holdSeconds: 1 }));
    assert.equal((await member.first('slots_freed')).count, 1);
    await slotcast.staffCaller().post('/api/broadcast', { event: 'marker', data: {} });
    await stranger.first('marker');
    assert.deepEqual(stranger.all('slots_freed'), []);
  } finally {
    await slotcast.stop();
  }
});
