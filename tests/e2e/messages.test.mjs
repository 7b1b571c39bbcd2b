// Messages of staff: notifications to one user, live and kept, and broadcasts to everyone.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { TRANSPORTS } from './lib/client.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const staff = slotcast.staffCaller();

async function notify(user, data, event = 'avviso') {
  const answer = await staff.post(`/api/users/${user}/notify`, { event, data });
  assert.equal(answer.status, 200, answer.text);
}

/** The events that came to a client besides its confirmation. */
const namesAfterConfirmation = (client) => client.events.map((event) => event.name).slice(1);

for (const [name, transports] of Object.entries(TRANSPORTS)) {
  describe(`over ${name}`, () => {
    test('a notification reaches all sockets of the user, and nobody else', async () => {
      const user = freshNumber();
      const [first, second] = [await slotcast.user(user, { transports }), await slotcast.user(user, { transports })];
      const other = await slotcast.user(freshNumber(), { transports });
      const data = { titolo: 'Pagamento ricevuto', importo: 12.5, righe: [1, { a: null }] };
      await notify(user, data);
      assert.deepEqual(await first.first('avviso'), data);
      assert.deepEqual(await second.first('avviso'), data);
      await staff.post('/api/broadcast', { event: 'marker', data: {} });
      await other.first('marker');
      assert.deepEqual(other.all('avviso'), []);
    });

    test('what came while the user was away is delivered in order after the confirmation', async () => {
      const user = freshNumber();
      for (const n of range(1, 5)) await notify(user, { n });
      const client = await slotcast.user(user, { transports });
      assert.deepEqual((await client.many('avviso', 5)).map(({ n }) => n), range(1, 5));
      assert.equal(client.events[0].name, 'connection_confirmed');
    });
  });
}

test('the data is the payload, digit for digit', async () => {
  const user = freshNumber();
  const client = await slotcast.user(user);
  const payload = '{"b":1.0,"a":1e2,"n":12345678901234567890123}';
  const path = `/api/users/${user}/notify`;
  assert.equal((await staff.post(path, `{"event":"cifre","data":${payload}}`)).status, 200);
  await client.first('cifre');
  assert.ok(client.frames.includes(`2["cifre",${payload}]`), client.frames.join('\n'));
  client.close();
  assert.equal((await staff.post(path, `{"event":"cifre","data":${payload}}`)).status, 200);
  const later = await slotcast.user(user);
  await later.first('cifre');
  assert.ok(later.frames.includes(`2["cifre",${payload}]`), later.frames.join('\n'));
});

test('the payload may be any JSON', async () => {
  const user = freshNumber();
  const client = await slotcast.user(user);
  const values = ['text', 7, true, null, [1, 2], {}];
  for (const data of values) await notify(user, data);
  assert.deepEqual(await client.many('avviso', values.length), values);
});

test('only the last hundred are kept', async () => {
  const user = freshNumber();
  for (const n of range(1, 120)) await notify(user, { n });
  const client = await slotcast.user(user);
  const kept = await client.many('avviso', 100);
  await notify(user, { n: 'marker' });
  await client.first('avviso', ({ n }) => n === 'marker');
  assert.deepEqual(kept.slice(0, 100).map(({ n }) => n), range(21, 120));
  assert.equal(client.all('avviso').length, 101);
});

test('what was received is not delivered again', async () => {
  const user = freshNumber();
  await notify(user, { n: 1 });
  const first = await slotcast.user(user);
  await first.first('avviso');
  await notify(user, { n: 2 });
  await first.many('avviso', 2);
  first.close();
  const redelivered = async () => {
    const client = await slotcast.user(user);
    await notify(user, { marker: true });
    await client.first('avviso', ({ marker }) => marker);
    const old = client.all('avviso').filter(({ n }) => n);
    client.close();
    return old;
  };
  // A message may come twice, because the node writes after the delivery that it was received.
  await eventually(async () => (await redelivered()).length === 0, 'no old notification');
});

test('a second socket of a user does not get what the first one received', async () => {
  const user = freshNumber();
  const first = await slotcast.user(user);
  await notify(user, { n: 1 });
  await first.first('avviso');
  await eventually(async () => {
    const second = await slotcast.user(user);
    await notify(user, { marker: true });
    await second.first('avviso', ({ marker }) => marker);
    const isNew = namesAfterConfirmation(second).length > 0 && !second.all('avviso').some(({ n }) => n === 1);
    second.close();
    return isNew;
  }, 'a second socket without old notifications');
});

test('kept notifications survive a restart of the node', async () => {
  const own = await startSlotcast();
  const user = freshNumber();
  const path = `/api/users/${user}/notify`;
  for (const n of [1, 2, 3]) await own.staffCaller().post(path, { event: 'avviso', data: { n } });
  await own.kill();
  const again = await startSlotcast({ dataDir: own.dataDir });
  try {
    const client = await again.user(user);
    assert.deepEqual((await client.many('avviso', 3)).map(({ n }) => n), [1, 2, 3]);
  } finally {
    await again.stop();
  }
});

test('user ids that are text work as well', async () => {
  const client = await slotcast.user('anna@example.org');
  const answer = await staff.post(`/api/users/${encodeURIComponent('anna@example.org')}/notify`, {
    event: 'avviso',
    data: { per: 'anna' },
  });
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(await client.first('avviso'), { per: 'anna' });
});

test('reserved names are reserved_event, for one user and for everyone', async () => {
  const reserved = [
    'connect',
    'connect_error',
    'disconnect',
    'disconnecting',
    'newListener',
    'removeListener',
    'connection_confirmed',
    'joined_space',
    'left_space',
    'slot_update',
    'slots_status_update',
    'slots_freed',
    'token_expiring',
    'space_error',
    'stats',
  ];
  for (const event of reserved) {
    for (const path of ['/api/users/7/notify', '/api/broadcast']) {
      const refused = await staff.post(path, { event, data: {} });
      assert.equal(refused.status, 422, `${path} ${event}: ${refused.text}`);
      assert.equal(refused.body.code, 'reserved_event');
    }
  }
});

test('an event without a name is malformed', async () => {
  for (const body of [{ data: {} }, { event: '', data: {} }, { event: 7, data: {} }, [], 'x', null]) {
    for (const path of ['/api/users/7/notify', '/api/broadcast']) {
      const refused = await staff.post(path, JSON.stringify(body));
      assert.equal(refused.status, 400, `${path} ${JSON.stringify(body)}: ${refused.text}`);
      assert.equal(refused.body.code, 'malformed');
    }
  }
});

test('a broadcast reaches every client, in a room or not, in order', async () => {
  const clients = [];
  for (const transports of Object.values(TRANSPORTS)) clients.push(await slotcast.user(freshNumber(), { transports }));
  await clients[0].join(freshSpace());
  for (const n of range(1, 5)) {
    assert.equal((await staff.post('/api/broadcast', { event: 'annuncio', data: { n } })).status, 200);
  }
  for (const client of clients) {
    assert.deepEqual((await client.many('annuncio', 5)).map(({ n }) => n), range(1, 5));
  }
});

test('a broadcast is not kept for those who come later', async () => {
  await staff.post('/api/broadcast', { event: 'passato', data: {} });
  const client = await slotcast.user(freshNumber());
  await staff.post('/api/broadcast', { event: 'marker', data: {} });
  await client.first('marker');
  assert.deepEqual(client.all('passato'), []);
});

test('staff disconnects a user: all sockets end for good, and a new one may come', async () => {
  const user = freshNumber();
  const clients = [];
  for (const transports of Object.values(TRANSPORTS)) {
    const client = slotcast.connect({ token: userToken(user), transports, reconnection: true });
    await client.connected();
    clients.push(client);
  }
  const other = await slotcast.user(freshNumber());
  assert.equal((await staff.post(`/api/users/${user}/disconnect`)).status, 200);
  for (const client of clients) {
    assert.equal(await client.disconnected(), 'io server disconnect');
    assert.equal(client.socket.active, false, 'the stock client does not come back by itself');
  }
  const again = await slotcast.user(user);
  assert.equal((await again.call('join_space', { spazioId: freshNumber(), sedeId: 1 })).ok, true);
  assert.deepEqual(other.disconnects, []);
});
