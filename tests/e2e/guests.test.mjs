// Sockets without a token, where SLOTCAST_GUESTS=watch lets them in: they watch registered spaces and do nothing else. Without
// the setting nothing changes.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { readMetric } from './lib/cluster.mjs';
import { freshSpace, range, TIMESTAMP } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { signToken, secondsNow, staffToken, userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const MAX_GUESTS = 6;
const node = await startSlotcast({ settings: { SLOTCAST_GUESTS: 'watch', SLOTCAST_MAX_GUESTS: String(MAX_GUESTS) } });
const staff = node.staffCaller('gestore');
after(() => node.stop());

/** A space that somebody registered. */
async function registered() {
  const space = freshSpace();
  const { status, text } = await staff.put(space.path, { name: 'Sala' });
  assert.equal(status, 200, text);
  return space;
}

async function guest(options = {}) {
  const client = node.connect(options);
  await client.connected();
  return client;
}

const ask = (client, event, payload) => client.socket.timeout(20_000).emitWithAck(event, payload);
const code = async (client, event, payload) => (await ask(client, event, payload)).error?.code;
const got = (client, name) => client.events.filter((event) => event.name === name).map(({ payload }) => payload);

/** Waits until no guest is connected. */
async function allGone(...clients) {
  for (const client of clients) client.close();
  await eventually(async () => (await readMetric(node, 'slotcast_connections')) === 0, 'nobody connected');
}

test('a guest is told that it is nobody, and watches a registered space', async () => {
  const space = await registered();
  const [client, poller] = [await guest(), await guest({ transports: ['polling'] })];
  for (const one of [client, poller]) {
    const [{ timestamp, ...confirmed }] = await eventually(() => got(one, 'connection_confirmed').length > 0 && got(one, 'connection_confirmed'), 'the confirmation');
    assert.deepEqual(confirmed, { message: 'Connesso al sistema real-time', userId: null, expiresAt: null });
    assert.match(timestamp, TIMESTAMP);
    assert.ok((await ask(one, 'join_space', space.event())).ok);
    await eventually(() => got(one, 'slots_status_update').length > 0, 'the board');
  }
  const held = await node.userCaller(7).post('/api/slots/2/hold', space.body());
  assert.equal(held.status, 200);
  for (const one of [client, poller]) {
    const [update] = await eventually(() => got(one, 'slot_update').length > 0 && got(one, 'slot_update'), 'the change');
    assert.deepEqual([update.slotId, update.status], [2, 'occupied']);
    assert.ok(!JSON.stringify(update).includes('holdToken'));
    assert.ok((await ask(one, 'sync', space.event())).ok);
    assert.ok((await ask(one, 'leave_space', space.event())).ok);
  }
  await allGone(client, poller);
});

test('a guest does nothing else, in no other space, and in four rooms at most', async () => {
  const space = await registered();
  const client = await guest();
  const slots = space.event({ slots: [1] });
  for (const event of ['hold_slot', 'book_slot', 'release_slot', 'extend_hold', 'watch_stats', 'unheard_of']) {
    assert.equal(await code(client, event, slots), 'unauthorized', event);
  }
  assert.equal(await code(client, 'refresh_token', { token: userToken(7) }), 'unauthorized');
  assert.equal(await code(client, 'join_space', freshSpace().event()), 'space_not_found');
  assert.equal(await code(client, 'sync', freshSpace().event()), 'space_not_found');
  for (const _ of range(1, 4)) assert.ok((await ask(client, 'join_space', (await registered()).event())).ok);
  assert.equal(await code(client, 'join_space', space.event()), 'too_many_rooms');
  const board = await node.board(space);
  assert.ok(board.slots.every(({ status }) => status !== 'occupied'), 'nothing was held');
  await allGone(client);
});

test('guests hear of what was freed and no broadcast, and count as sockets, not as users', async () => {
  const space = await registered();
  const [client, user] = [await guest(), await node.user(7)];
  const stats = await eventually(async () => {
    const { data } = await staff.get('/api/stats');
    return data.totalSockets === 2 && data;
  }, 'two sockets');
  assert.equal(stats.connectedUsers, 1);
  assert.equal((await staff.post('/api/broadcast', { event: 'news', data: { n: 1 } })).status, 200);
  assert.equal((await staff.post('/api/users/7/notify', { event: 'only_yours', data: {} })).status, 200);
  assert.equal((await node.userCaller(8).post('/api/slots/1/hold', space.body({ holdSeconds: 1 }))).status, 200);
  for (const one of [client, user]) await eventually(() => got(one, 'slots_freed').length > 0, 'what was freed');
  for (const name of ['news', 'only_yours']) await user.first(name);
  assert.deepEqual([got(user, 'news').length, got(user, 'only_yours').length], [1, 1]);
  assert.deepEqual([got(client, 'news').length, got(client, 'only_yours').length], [0, 0]);
  await allGone(client, user);
});

test('a bad token is no guest\'s, and beyond the bound a socket without one is refused as ever', async () => {
  const refusal = async (options) => {
    const client = node.connect(options);
    return eventually(() => client.refusals[0], 'a refusal');
  };
  for (const token of ['x', `${userToken(7)}x`, signToken({ id_utente: 7, exp: secondsNow() - 60 })]) {
    assert.equal(await refusal({ token }), 'Token non valido');
  }
  const guests = await Promise.all(range(1, MAX_GUESTS).map(() => guest()));
  assert.equal(await refusal({}), 'Token di autenticazione richiesto');
  assert.equal(await refusal({ auth: { token: '' } }), 'Token di autenticazione richiesto');
  const user = await node.user(7);
  assert.ok(user.socket.connected, 'users are not bounded by it');
  guests.pop().close();
  const place = async () => {
    const client = node.connect();
    await eventually(() => client.socket.connected || client.refusals.length > 0, 'an answer');
    return client.socket.connected;
  };
  await eventually(place, 'the place that one has left');
  assert.match(node.log(), /connected.*guest|guest.*connected/);
});

test('without the setting a socket without a token is refused', async () => {
  const strict = await startSlotcast();
  try {
    const client = strict.connect();
    assert.equal(await eventually(() => client.refusals[0], 'a refusal'), 'Token di autenticazione richiesto');
    assert.equal((await fetch(`${strict.url}/api/stats`, { headers: { authorization: `Bearer ${staffToken()}` } })).status, 200);
  } finally {
    await strict.stop();
  }
});
