// What is for users and for everyone, over several nodes: notifications, disconnections, broadcasts, statistics; and that a
// node hears only of what somebody watches there.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { readMetric, startCluster } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { eventually } from './lib/waiting.mjs';

const cluster = await startCluster();
after(() => cluster.stop());

const [first, second, third] = cluster.nodes;
const staff = first.staffCaller();

/** Posts as staff, on the first node unless another is named. */
async function post(path, body, node = first) {
  const answer = await node.staffCaller().post(path, body);
  assert.equal(answer.status, 200, answer.text);
}

const notify = (user, n, node) => post(`/api/users/${user}/notify`, { event: 'avviso', data: { n } }, node);
const numbersOf = (client) => client.all('avviso').map(({ n }) => n);

test('a notification reaches a user\'s sockets on other nodes, in order, and nobody else', async () => {
  const user = freshNumber();
  const clients = await Promise.all([second.user(user), third.user(user)]);
  const other = await second.user(freshNumber());
  for (const n of range(1, 20)) await notify(user, n, cluster.next);
  for (const client of clients) {
    await client.many('avviso', 20);
    assert.deepEqual(numbersOf(client), range(1, 20));
  }
  await post('/api/broadcast', { event: 'fine', data: {} });
  await other.first('fine');
  assert.deepEqual(other.all('avviso'), []);
});

test('what came while the user was away is delivered on whatever node the user comes to', async () => {
  const user = freshNumber();
  for (const n of range(1, 5)) await notify(user, n, cluster.next);
  const client = await third.user(user);
  await client.many('avviso', 5);
  assert.deepEqual(numbersOf(client), range(1, 5));
  assert.equal(client.events[0].name, 'connection_confirmed');
  client.close();
  // At least once: the mark of what was received is written behind the delivery.
  await eventually(async () => {
    const again = await second.user(user);
    await notify(user, 'segno');
    await again.first('avviso', ({ n }) => n === 'segno');
    const old = numbersOf(again).filter((n) => n !== 'segno');
    again.close();
    return old.length === 0;
  }, 'no old notification on another node');
});

test('a user is disconnected on all nodes, and may come back', async () => {
  const user = freshNumber();
  const clients = await Promise.all(cluster.nodes.map((node) => node.user(user)));
  const other = await second.user(freshNumber());
  await post(`/api/users/${user}/disconnect`, undefined);
  for (const client of clients) assert.equal(await client.disconnected(), 'io server disconnect');
  const again = await second.user(user);
  await post('/api/broadcast', { event: 'dopo', data: {} });
  await again.first('dopo');
  await other.first('dopo');
  assert.deepEqual([again.disconnects, other.disconnects], [[], []]);
});

test('a broadcast reaches everyone on every node once', async () => {
  const clients = await Promise.all(cluster.nodes.flatMap((node) => [node.user(freshNumber()), node.user(freshNumber())]));
  for (const [index, node] of cluster.nodes.entries()) {
    await post('/api/broadcast', { event: 'annuncio', data: { index } }, node);
  }
  for (const client of clients) {
    await client.many('annuncio', 3);
    assert.deepEqual(client.all('annuncio').map(({ index }) => index), [0, 1, 2]);
  }
  await post('/api/broadcast', { event: 'fine_annunci', data: {} });
  for (const client of clients) {
    await client.first('fine_annunci');
    assert.equal(client.all('annuncio').length, 3);
  }
});

test('a freed slot is told on every node', async () => {
  const space = freshSpace();
  const clients = await Promise.all(cluster.nodes.map((node) => node.user(freshNumber())));
  const held = await second.userCaller(freshNumber()).post('/api/slots/3/hold', space.body({ holdSeconds: 1 }));
  assert.equal(held.status, 200, held.text);
  for (const client of clients) {
    const freed = await client.first('slots_freed', ({ spaces }) => spaces.some(({ spazioId }) => spazioId === space.number));
    assert.deepEqual(freed.spaces, [{ spazioId: space.number, sedeId: space.site, date: space.date, slots: [3] }]);
  }
});

test('staff\'s board and a change of the schedule reach the rooms of every node', async () => {
  const space = freshSpace();
  const clients = await Promise.all(cluster.nodes.map((node) => node.user(freshNumber())));
  for (const client of clients) await client.join(space, { date: space.date });
  for (const client of clients) await client.many('slots_status_update', 1);
  await post(`${space.path}/broadcast`, { date: space.date }, second);
  for (const client of clients) await client.many('slots_status_update', 2);
  const schedule = { name: 'Sala', timezone: 'Europe/Rome', opens: '08:00', closes: '12:00', slotMinutes: 30 };
  const changed = await third.staffCaller().put(space.path, schedule);
  assert.equal(changed.status, 200, changed.text);
  for (const client of clients) {
    const [, , last] = await client.many('slots_status_update', 3);
    assert.equal(last.slotsStatus.length, 8);
  }
});

test('a node without viewers of a space receives none of its messages', async () => {
  const space = freshSpace();
  const heard = (node) => readMetric(node, 'slotcast_feed_messages_total{kind="slot_update"}');
  const viewer = await second.user(freshNumber());
  await viewer.join(space);
  const before = await Promise.all(cluster.nodes.map(heard));
  for (const slot of range(1, 9)) {
    const answer = await first.staffCaller().put(`/api/slots/${slot}`, space.body({ status: 'blocked' }));
    assert.equal(answer.status, 200, answer.text);
  }
  await viewer.many('slot_update', 9);
  // What is told to everyone comes after, on the nodes' other topics.
  const others = await Promise.all([first, third].map((node) => node.user(freshNumber())));
  await post('/api/broadcast', { event: 'sentito', data: {} });
  for (const client of others) await client.first('sentito');
  const rise = (await Promise.all(cluster.nodes.map(heard))).map((count, index) => count - before[index]);
  assert.deepEqual(rise, [0, 9, 0]);
});

test('a node hears of a space no more, some time after its last viewer has left', async () => {
  const space = freshSpace();
  const viewer = await third.user(freshNumber());
  await viewer.join(space);
  const channels = async () => {
    const text = await cluster.redis.command('PUBSUB', 'CHANNELS', `*:t:${space.site}:${space.number}`);
    return text.split('\n').filter((line) => line !== '');
  };
  assert.equal((await channels()).length, 1);
  viewer.close();
  await eventually(async () => (await channels()).length === 0, 'the end of the subscription', 60_000);
});

test('another prefix on the same Redis is another product', async () => {
  const space = freshSpace();
  const user = freshNumber();
  const stranger = await cluster.addNode({ SLOTCAST_REDIS_PREFIX: 'another' });
  const [here, there] = [await first.user(user), await stranger.user(user)];
  for (const client of [here, there]) await client.join(space);
  assert.equal((await staff.put('/api/slots/1', space.body({ status: 'blocked' }))).status, 200);
  await notify(user, 1);
  await post('/api/broadcast', { event: 'per_tutti', data: {} });
  await here.first('per_tutti');
  await here.first('slot_update');
  await post('/api/broadcast', { event: 'di_la', data: {} }, stranger);
  await there.first('di_la');
  assert.deepEqual(there.events.map(({ name }) => name), ['connection_confirmed', 'joined_space', 'di_la']);
  assert.equal((await stranger.entry(space, 1)).status, 'available');
  assert.equal((await stranger.staffCaller().get('/api/stats')).data.nodes.length, 1);
  await cluster.stopNode(stranger);
});

test('any node counts the whole cluster', async () => {
  const own = await startCluster();
  try {
    const space = freshSpace();
    for (const [index, node] of own.nodes.entries()) {
      const client = await node.user(50 + index);
      await client.join(space);
      await node.user(50 + index);
    }
    for (const node of own.nodes) {
      await eventually(async () => {
        const { totalSockets, connectedUsers, rooms, roomCount, nodes } = (await node.staffCaller().get('/api/stats')).data;
        return totalSockets === 6 && connectedUsers === 3 && roomCount === 1 && rooms[0] === space.room && nodes.length === 3;
      }, 'six sockets, three users, one room, three nodes');
    }

    const goOn = own.freezeNode(own.nodes[2]);
    const start = Date.now();
    const answer = await own.nodes[0].staffCaller().get('/api/stats');
    assert.equal(answer.status, 200);
    assert.ok(Date.now() - start < 1_000, `an answer after ${Date.now() - start} ms`);
    await eventually(async () => {
      const { totalSockets, nodes } = (await own.nodes[0].staffCaller().get('/api/stats')).data;
      return nodes.length === 2 && totalSockets === 4;
    }, 'the frozen node gone from the statistics');
    goOn();
    await eventually(async () => {
      const { totalSockets, nodes } = (await own.nodes[0].staffCaller().get('/api/stats')).data;
      return nodes.length === 3 && totalSockets === 6;
    }, 'the node back in the statistics');
  } finally {
    await own.stop();
  }
});

test('a user who stays is told also what comes after Redis forgot all, on every socket', async () => {
  const user = freshNumber();
  const clients = await Promise.all([first.user(user), second.user(user), third.user(user)]);
  for (const n of range(1, 5)) await notify(user, n, cluster.next);
  for (const client of clients) await client.many('avviso', 5);
  await cluster.redis.command('FLUSHALL');
  // Numbered anew: these are not what the sockets have had.
  for (const n of range(6, 8)) await notify(user, n, cluster.next);
  for (const client of clients) {
    await eventually(() => numbersOf(client).includes(8), 'the messages after that');
    assert.deepEqual(numbersOf(client), range(1, 8));
    assert.deepEqual(client.disconnects, []);
  }
});
