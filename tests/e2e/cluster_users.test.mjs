// Messages to users and to everyone over several nodes: notifications, disconnections, broadcasts, statistics. A node hears
// only of spaces that its clients watch.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { readMetric, startCluster } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { settled } from './lib/http.mjs';
import { oneSecond } from './lib/scene.mjs';
import { undisturbed } from './lib/stalls.mjs';
import { eventually } from './lib/waiting.mjs';

const cluster = await startCluster();
after(() => cluster.stop());

const [first, second, third] = cluster.nodes;
const staff = first.staffCaller();

/** Posts as staff until it is done, on the first node unless another is named. `make` gives a new body for each try. */
async function post(path, make = () => undefined, node = first) {
  const answer = await settled(() => node.staffCaller().post(path, make()), `an answer of ${path}`);
  assert.equal(answer.status, 200, answer.text);
}

/** Sends an event, and gives its number. Each try has a new number, because a refused try may have been done. */
async function send(path, event, node) {
  let n;
  const make = () => {
    n = freshNumber();
    return { event, data: { n } };
  };
  await post(path, make, node);
  return n;
}

const broadcast = (event, node) => send('/api/broadcast', event, node);
const notify = (user, node) => send(`/api/users/${user}/notify`, 'avviso', node);

/** Sends this many notifications to a user, from all nodes by turns. */
async function notifyOften(user, count) {
  const sent = [];
  for (const _ of range(1, count)) sent.push(await notify(user, cluster.next));
  return sent;
}

const numbersOf = (client, event = 'avviso') => client.all(event).map(({ n }) => n);

/** Waits until a client has heard everything that was sent, in order, and nothing twice. */
async function assertHeard(client, sent, event = 'avviso') {
  const missing = () => sent.filter((n) => !numbersOf(client, event).includes(n));
  await eventually(() => missing().length === 0, () => `${missing()} of ${sent}`);
  const heard = numbersOf(client, event);
  assert.deepEqual(heard, [...new Set(heard)].sort((left, right) => left - right));
}

test('a notification reaches a user\'s sockets on other nodes, in order, and nobody else', async () => {
  const user = freshNumber();
  const clients = await Promise.all([second.user(user), third.user(user)]);
  const other = await second.user(freshNumber());
  const sent = await notifyOften(user, 20);
  for (const client of clients) await assertHeard(client, sent);
  await broadcast('fine');
  await other.first('fine');
  assert.deepEqual(other.all('avviso'), []);
});

test('what came while the user was away is delivered on whatever node the user comes to', async () => {
  const user = freshNumber();
  const sent = await notifyOften(user, 5);
  const client = await third.user(user);
  await assertHeard(client, sent);
  assert.equal(client.events[0].name, 'connection_confirmed');
  client.close();
  // A message may come twice, because its receipt is written after the delivery.
  await eventually(async () => {
    const again = await second.user(user);
    const mark = await notify(user);
    await again.first('avviso', ({ n }) => n === mark);
    const old = numbersOf(again).filter((n) => n <= sent.at(-1));
    again.close();
    return old.length === 0;
  }, 'no old notification on another node');
});

test('a user is disconnected on all nodes, and may come back', async () => {
  const user = freshNumber();
  const clients = await Promise.all(cluster.nodes.map((node) => node.user(user)));
  const other = await second.user(freshNumber());
  await post(`/api/users/${user}/disconnect`);
  for (const client of clients) assert.equal(await client.disconnected(), 'io server disconnect');
  // If it was requested twice, the node has had both before this one.
  await broadcast('prima');
  await other.first('prima');
  const again = await second.user(user);
  await broadcast('dopo');
  await again.first('dopo');
  await other.first('dopo');
  assert.deepEqual([again.disconnects, other.disconnects], [[], []]);
});

test('a broadcast reaches everyone on every node once', async () => {
  const clients = await Promise.all(cluster.nodes.flatMap((node) => [node.user(freshNumber()), node.user(freshNumber())]));
  const sent = [];
  for (const node of cluster.nodes) sent.push(await broadcast('annuncio', node));
  for (const client of clients) await assertHeard(client, sent, 'annuncio');
  await broadcast('fine_annunci');
  for (const client of clients) {
    await client.first('fine_annunci');
    await assertHeard(client, sent, 'annuncio');
  }
});

test('a freed slot is told on every node', async () => {
  const space = freshSpace();
  const clients = await Promise.all(cluster.nodes.map((node) => node.user(freshNumber())));
  const held = await second.userCaller(freshNumber()).settled.post('/api/slots/3/hold', space.body({ holdSeconds: 1 }));
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
  await post(`${space.path}/broadcast`, () => ({ date: space.date }), second);
  for (const client of clients) await client.many('slots_status_update', 2);
  const schedule = { name: 'Sala', timezone: 'Europe/Rome', opens: '08:00', closes: '12:00', slotMinutes: 30 };
  const changed = await third.staffCaller().settled.put(space.path, schedule);
  assert.equal(changed.status, 200, changed.text);
  for (const client of clients) await client.first('slots_status_update', ({ slotsStatus }) => slotsStatus.length === 8);
});

/** Changes a space nine times, whose only viewer is on the second node, and counts the messages that each node gets. */
async function countMessages() {
  const space = freshSpace();
  const heard = (node) => readMetric(node, 'slotcast_feed_messages_total{kind="slot_update"}');
  const viewer = await second.user(freshNumber());
  await viewer.join(space);
  const before = await Promise.all(cluster.nodes.map(heard));
  for (const slot of range(1, 9)) {
    const answer = await staff.put(`/api/slots/${slot}`, space.body({ status: 'blocked' }));
    assert.equal(answer.status, 200, answer.text);
  }
  await viewer.many('slot_update', 9);
  // A message to everyone comes after it, on the nodes' other topics.
  const others = await Promise.all([first, third].map((node) => node.user(freshNumber())));
  const mark = await broadcast('sentito');
  for (const client of others) await client.first('sentito', ({ n }) => n === mark);
  return (await Promise.all(cluster.nodes.map(heard))).map((count, index) => count - before[index]);
}

test('a node without viewers of a space receives none of its messages', async () => {
  assert.deepEqual(await undisturbed(cluster.nodes, countMessages), [0, 9, 0]);
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
  assert.equal((await staff.settled.put('/api/slots/1', space.body({ status: 'blocked' }))).status, 200);
  await notify(user);
  await broadcast('per_tutti');
  await here.first('per_tutti');
  await here.first('slot_update');
  await broadcast('di_la', stranger);
  await there.first('di_la');
  assert.deepEqual([...new Set(there.events.map(({ name }) => name))], ['connection_confirmed', 'joined_space', 'di_la']);
  assert.equal((await stranger.entry(space, 1)).status, 'available');
  assert.equal((await stranger.staffCaller().settled.get('/api/stats')).data.nodes.length, 1);
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
        const { totalSockets, connectedUsers, rooms, roomCount, nodes } = (await node.staffCaller().settled.get('/api/stats')).data;
        return totalSockets === 6 && connectedUsers === 3 && roomCount === 1 && rooms[0] === space.room && nodes.length === 3;
      }, 'six sockets, three users, one room, three nodes');
    }

    const goOn = own.freezeNode(own.nodes[2]);
    const ask = async () => {
      const start = Date.now();
      const answer = await own.nodes[0].staffCaller().get('/api/stats');
      assert.ok(Date.now() - start < oneSecond(), `an answer after ${Date.now() - start} ms`);
      return answer;
    };
    assert.equal((await settled(ask, 'the statistics')).status, 200);
    await eventually(async () => {
      const { totalSockets, nodes } = (await own.nodes[0].staffCaller().settled.get('/api/stats')).data;
      return nodes.length === 2 && totalSockets === 4;
    }, 'the frozen node gone from the statistics');
    goOn();
    await eventually(async () => {
      const { totalSockets, nodes } = (await own.nodes[0].staffCaller().settled.get('/api/stats')).data;
      return nodes.length === 3 && totalSockets === 6;
    }, 'the node back in the statistics');
  } finally {
    await own.stop();
  }
});

test('a user who stays is told also what comes after Redis forgot all, on every socket', async () => {
  const user = freshNumber();
  const clients = await Promise.all([first.user(user), second.user(user), third.user(user)]);
  const before = await notifyOften(user, 5);
  for (const client of clients) await assertHeard(client, before);
  await cluster.redis.command('FLUSHALL');
  // The numbers begin anew, so the sockets have not had these messages.
  const later = await notifyOften(user, 3);
  for (const client of clients) {
    await assertHeard(client, [...before, ...later]);
    assert.deepEqual(client.disconnects, []);
  }
});
