// Nodes in two regions with one Redis: how much each act, each read and each watcher uses the line between the regions. The
// test counts commands on the wire, so a busy machine changes nothing.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startRedisWire } from './lib/redis_wire.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { undisturbed } from './lib/stalls.mjs';
import { eventually } from './lib/waiting.mjs';

/** The round trip from the far region to Redis, in ms: about Frankfurt to the east of North America. */
const ROUND_TRIP = 80;

const redis = await startRedis();
const wires = { near: await startRedisWire(redis.port), far: await startRedisWire(redis.port, { roundTrip: ROUND_TRIP }) };
const settings = { SLOTCAST_USER_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0' };
const startOn = (wire) => startSlotcast({ settings: { ...settings, REDIS_URL: wire.url } });
const [near, far] = await Promise.all([startOn(wires.near), startOn(wires.far)]);
after(async () => {
  await Promise.all([near.stop(), far.stop()]);
  for (const wire of Object.values(wires)) wire.close();
  await redis.kill();
});

/**
 * The pattern of a space's keys, which no other space's keys match. Its head alone is what a node compares every few seconds for all
 * that it watches, in one command a bucket, whatever happens.
 */
const keysOf = ({ site, number }, { but = 'head' } = {}) => new RegExp(`:(?!(?:${but}):)\\w+:${site}:${number}(?::|$)`);

/** The commands about a space that the node behind a wire sends to Redis during `work`. */
async function countCommands(wire, space, work, options) {
  const before = wire.commands.length;
  const answer = await work();
  return { answer, commands: wire.since(before, keysOf(space, options)).map((words) => words[0]) };
}

/** Loads the scripts, because each is sent whole once. */
async function warmUp() {
  for (const node of [near, far]) {
    const space = freshSpace();
    const user = node.userCaller(freshNumber());
    for (const path of ['1/hold', '1/extend', '1/book', '8/hold', '8/release']) {
      assert.equal((await user.settled.post(`/api/slots/${path}`, space.body())).status, 200);
    }
    const watcher = await node.user(freshNumber());
    await watcher.join(space, { date: space.date });
    await watcher.first('slots_status_update');
    watcher.close();
  }
}
await warmUp();

/** A test that counts commands. It is repeated if the machine was too busy for an answer in time. */
const countingTest = (name, count) => test(name, (t) => undisturbed([near, far], () => count(t)));

countingTest('an act costs one round trip, from either region', async (t) => {
  for (const [name, node] of Object.entries({ near, far })) {
    const space = freshSpace();
    const number = freshNumber();
    const user = node.userCaller(number);
    const first = await countCommands(wires[name], space, () => user.post('/api/slots/1/hold', space.body()));
    assert.deepEqual([first.answer.status, first.commands], [200, ['EVALSHA']], 'the first one learns the schedule from the head alone');
    for (const act of ['hold', 'extend', 'book']) {
      const started = performance.now();
      const { answer, commands } = await countCommands(wires[name], space, () => user.post(`/api/slots/2/${act}`, space.body()));
      const took = performance.now() - started;
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(commands, ['EVALSHA'], `${name}: ${act}`);
      // No answer can be faster than one round trip. Timers may fire a millisecond early.
      assert.ok(name === 'near' || took >= ROUND_TRIP - 2, `${took} ms`);
      t.diagnostic(`${name}: ${act} took ${took.toFixed(0)} ms`);
    }
    const several = await countCommands(wires[name], space, () => user.post('/api/slots/hold', space.body({ slots: [4, 5, 6] })));
    assert.deepEqual(several.commands, ['EVALSHA'], 'several slots are one act');
    const refused = await countCommands(wires[name], space, () => node.userCaller(1).post('/api/slots/2/hold', space.body()));
    assert.equal(refused.answer.body.code, 'slot_unavailable');
    assert.deepEqual(refused.commands, ['EVALSHA'], 'a refusal, too');
    const released = () => user.post('/api/slots/release', space.body({ slots: [4, 5, 6] }));
    assert.deepEqual((await countCommands(wires[name], space, released)).commands, ['EVALSHA']);
    // A key is looked up in its caller's bucket before the act, and noted there afterwards.
    const key = `key-${name}-${space.number}`;
    const before = wires[name].commands.length;
    const keyed = await user.post('/api/slots/7/hold', space.body(), { 'idempotency-key': key });
    assert.equal(keyed.status, 200, keyed.text);
    const asked = wires[name].since(before, new RegExp(`:calls:${number}$`)).map((words) => words[0]);
    assert.deepEqual(asked, ['HGET', 'EVALSHA', 'EVALSHA']);
  }
});

countingTest('what happens in a watched space reaches every socket of a region without a question to Redis', async () => {
  const space = freshSpace();
  const watchers = [];
  for (const _ of range(1, 10)) watchers.push(await far.user(freshNumber()));
  const join = async (watcher) => {
    await watcher.join(space, { date: space.date });
    await watcher.first('slots_status_update');
  };
  const firstOne = await countCommands(wires.far, space, () => join(watchers[0]));
  // These come besides the comparison of the head, which is left out here.
  assert.deepEqual(firstOne.commands, ['SUBSCRIBE', 'EVALSHA'], 'the first one has the schedule from the head, subscribes, and reads the day');
  for (const watcher of watchers.slice(1)) {
    const { commands } = await countCommands(wires.far, space, () => join(watcher));
    assert.deepEqual(commands, [], 'who joins a watched space is shown it as the node knows it');
  }
  const staff = near.staffCaller();
  const change = async () => {
    let last;
    for (const slot of range(1, 9)) last = await staff.put(`/api/slots/${slot}`, space.body({ status: 'booked' }));
    for (const watcher of watchers) await watcher.first('slot_update', ({ version }) => version === last.data.version);
    return last;
  };
  // A comparison of the head may overtake the message. Then the message is read from the log.
  const { answer, commands } = await countCommands(wires.far, space, change, { but: 'head|log' });
  assert.equal(answer.status, 200, answer.text);
  for (const watcher of watchers) assert.equal(watcher.all('slot_update').length, 9);
  assert.deepEqual(commands, []);
  for (const watcher of watchers) watcher.close();
});

countingTest('the board of a watched space is shown by the node alone, as it is after every change', async (t) => {
  const space = freshSpace();
  const [first, joining] = [await far.user(freshNumber()), await far.user(freshNumber())];
  await first.join(space, { date: space.date });
  const staff = near.staffCaller();
  const put = (slot, status) => staff.put(`/api/slots/${slot}`, space.body({ status, data: { note: `slot ${slot}` } }));
  await put(1, 'blocked');
  const { body } = await put(2, 'booked');
  await first.first('slot_update', ({ version }) => version === body.data.version);
  const shown = async (client, event) => {
    const started = performance.now();
    const before = client.all('slots_status_update').length;
    const { answer, commands } = await countCommands(wires.far, space, async () => {
      await event();
      await eventually(() => client.all('slots_status_update').length > before, 'a board');
      return client.all('slots_status_update').at(-1);
    });
    t.diagnostic(`shown after ${(performance.now() - started).toFixed(0)} ms, the way to Redis takes ${ROUND_TRIP}`);
    assert.deepEqual(commands, []);
    return answer;
  };
  const stored = await near.board(space);
  const withoutMinutes = stored.slots.map(({ minutes_remaining: _, ...slot }) => slot);
  for (const board of [
    await shown(joining, () => joining.join(space, { date: space.date })),
    await shown(joining, () => joining.call('sync', space.event())),
  ]) {
    assert.deepEqual([board.epoch, board.version], [stored.epoch, stored.version]);
    assert.deepEqual(board.slotsStatus, withoutMinutes);
  }
  // The user's next board has the user's own act, even if the act's announcement comes after the answer.
  for (const slot of range(4, 9)) {
    const held = await joining.call('hold_slot', space.event({ slots: [slot] }));
    assert.equal(held.ok, true, JSON.stringify(held));
    const before = joining.all('slots_status_update').length;
    await joining.call('sync', space.event());
    const board = (await eventually(() => joining.all('slots_status_update').slice(before), 'a board')).at(-1);
    assert.ok(board.version >= held.version, `${board.version} after ${held.version}`);
    assert.equal(board.slotsStatus[slot - 1].status, 'occupied');
  }
  first.close();
  joining.close();
});

countingTest('a board over HTTP costs one round trip, watched or not: nothing follows it, so it is as the store has it', async () => {
  const space = freshSpace();
  const watcher = await far.user(freshNumber());
  await watcher.join(space, { date: space.date });
  await far.board(space);
  const { answer, commands } = await countCommands(wires.far, space, () => far.board(space));
  assert.equal(answer.slots.length, 9);
  assert.deepEqual(commands, ['EVALSHA']);
  watcher.close();
});
