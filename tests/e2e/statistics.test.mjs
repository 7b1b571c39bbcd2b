// Who is connected where.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { freshSpace } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { staffToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const staff = slotcast.staffCaller();
const read = async () => (await staff.get('/api/stats')).data;

test('sockets, users and rooms are counted live', async () => {
  const space = freshSpace();
  const [first, second, third] = [await slotcast.user(7), await slotcast.user(7), await slotcast.user(8)];
  await first.join(space);
  await third.join(space);
  const stats = await read();
  assert.deepEqual(Object.keys(stats).sort(), ['connectedUsers', 'nodes', 'roomCount', 'rooms', 'totalSockets']);
  assert.equal(stats.totalSockets, 3);
  assert.equal(stats.connectedUsers, 2);
  assert.equal(stats.roomCount, 1);
  assert.deepEqual(stats.rooms, [space.room]);
  assert.equal(stats.nodes.length, 1);
  second.close();
  third.close();
  await eventually(async () => {
    const { totalSockets, connectedUsers } = await read();
    return totalSockets === 1 && connectedUsers === 1;
  }, 'closed sockets count no more');
  first.emit('leave_space', { spazioId: space.number, sedeId: space.site });
  await first.first('left_space');
  await eventually(async () => (await read()).roomCount === 0, 'a room without members counts no more');
  first.close();
});

test('staff watches the statistics, users do not', async () => {
  const client = slotcast.connect({ token: staffToken() });
  await client.connected();
  assert.equal((await client.call('watch_stats', {})).ok, true);
  const [stats] = await client.many('stats', 2);
  assert.deepEqual(Object.keys(stats).sort(), ['connectedUsers', 'nodes', 'roomCount', 'rooms', 'totalSockets']);
  assert.ok(stats.totalSockets >= 1);
  const user = await slotcast.user(7);
  const refused = await user.call('watch_stats', {});
  assert.equal(refused.error.code, 'forbidden');
  user.emit('watch_stats', {});
  assert.equal((await user.first('space_error')).event, 'watch_stats');
});

test('watching twice does not send twice', async () => {
  const [once, twice] = [await slotcast.staff(), await slotcast.staff()];
  await once.call('watch_stats', {});
  await twice.call('watch_stats', {});
  await twice.call('watch_stats', {});
  for (const client of [once, twice]) client.forget();
  await once.many('stats', 5);
  // At least four periods pass. With two watches there would be eight messages.
  const { length } = twice.all('stats');
  assert.ok(length < 8, `${length} messages, where who watches once gets five`);
});

test('what is counted names no user and no engine id', async () => {
  const client = await slotcast.user('maria.rossi@example.org');
  const { text } = await staff.get('/api/stats');
  assert.doesNotMatch(text, /maria/);
  assert.ok(!text.includes(client.socket.io.engine.id));
});
