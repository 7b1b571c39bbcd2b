// The stock `@socket.io/redis-emitter`, unmodified, on a Redis with three nodes: what it sends to rooms or to all reaches the
// sockets on every node, each once; the names of the protocol do not pass, but for an old job's `slots_freed`.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, test } from 'node:test';

import { Emitter } from '@socket.io/redis-emitter';

import { readMetric, startCluster } from './lib/cluster.mjs';
import { freshSpace } from './lib/fixtures.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { eventually } from './lib/waiting.mjs';

/** The only method of a Redis client that the emitter needs: `publish`. */
class Publisher {
  constructor(port) {
    this.socket = connect(port, '127.0.0.1');
    this.waiting = [];
    this.socket.on('data', (chunk) => {
      for (const line of chunk.toString('latin1').split('\r\n').filter(Boolean)) this.waiting.shift()?.(Number(line.slice(1)));
    });
  }

  publish(channel, message) {
    const words = ['PUBLISH', channel, message].map((word) => Buffer.from(word));
    const parts = words.flatMap((word) => [Buffer.from(`$${word.length}\r\n`), word, Buffer.from('\r\n')]);
    this.socket.write(Buffer.concat([Buffer.from('*3\r\n'), ...parts]));
    this.last = new Promise((done) => this.waiting.push(done));
    return this.last;
  }
}

// The nodes use another database than the emitter. The emitter's channels belong to all databases.
const redis = await startRedis();
const settings = { SLOTCAST_EMITTER: 'socket.io', REDIS_URL: `${redis.url}/2` };
const cluster = await startCluster({ store: redis, settings });
const publisher = new Publisher(redis.port);
await once(publisher.socket, 'connect');
const emitter = new Emitter(publisher);
const [one, other] = [freshSpace(), freshSpace()];
const clients = await Promise.all(cluster.nodes.map((node, index) => node.user(100 + index)));
const inBoth = await cluster.nodes[0].user(200);
after(async () => {
  publisher.socket.destroy();
  await cluster.stop();
});

const everyone = [...clients, inBoth];
const got = (client, name) => client.events.filter((event) => event.name === name).map(({ payload, rest }) => [payload, ...rest]);
let marks = 0;

/** Waits until a last message to all has arrived everywhere. Earlier messages have arrived by then, or never will. */
async function settled() {
  const mark = (marks += 1);
  emitter.emit('mark', mark);
  await eventually(() => everyone.every((client) => got(client, 'mark').some(([payload]) => payload === mark)), `mark ${mark}`);
}

/** Joins a room. Tries again if a busy machine does not ask Redis in time. */
const join = (client, space) => {
  const isIn = async () => {
    const { ok, error } = await client.socket.emitWithAck('join_space', space.event());
    assert.ok(ok || error.code === 'unavailable', error?.code);
    return ok;
  };
  return eventually(isIn, `the room ${space.room}`);
};

/** How many messages all nodes have counted under an outcome. */
const counted = async (outcome) => {
  const counts = await Promise.all(cluster.nodes.map((node) => readMetric(node, `slotcast_emitter_messages_total{outcome="${outcome}"}`)));
  return counts.reduce((sum, count) => sum + count);
};

test('what is sent to rooms reaches their sockets on all nodes, each once', async () => {
  const isHeardByAll = async () => {
    emitter.emit('hello');
    return (await publisher.last) === cluster.nodes.length;
  };
  await eventually(isHeardByAll, 'three nodes that hear the emitter');
  for (const client of clients) await join(client, one);
  for (const space of [one, other]) await join(inBoth, space);

  emitter.to(one.room).emit('news', { n: 1.5, text: 'è', list: [null, true], gone: undefined, at: new Date(0) });
  emitter.to([one.room, other.room]).emit('both', 1, 'two', [3]);
  emitter.to(one.room).except(other.room).emit('only_one');
  emitter.except(one.room).emit('nobody');
  emitter.in('of another program').emit('nowhere', 1);
  await settled();
  for (const client of everyone) {
    const payload = { n: 1.5, text: 'è', list: [null, true], at: '1970-01-01T00:00:00.000Z' };
    assert.deepEqual(got(client, 'news'), [[payload]]);
    assert.deepEqual(got(client, 'both'), [[1, 'two', [3]]]);
    assert.equal(got(client, 'only_one').length, client === inBoth ? 0 : 1);
    assert.deepEqual(got(client, 'nobody'), []);
    assert.deepEqual(got(client, 'nowhere'), []);
  }
});

test('an old job\'s slots_freed passes, and no other name of the protocol', async () => {
  const reserved = ['slot_update', 'slots_status_update', 'joined_space', 'space_error', 'token_expiring', 'stats'];
  const before = Object.fromEntries(reserved.map((name) => [name, got(clients[0], name).length]));
  emitter.emit('slots_freed', { type: 'slots_freed', count: 3, timestamp: '2026-11-30T10:00:00.000Z' });
  for (const name of reserved) emitter.to(one.room).emit(name, { version: 1 });
  await settled();
  for (const client of everyone) {
    assert.deepEqual(got(client, 'slots_freed').map(([{ count }]) => count), [3]);
  }
  for (const name of reserved) assert.equal(got(clients[0], name).length, before[name], name);
  assert.equal(await counted('reserved'), reserved.length * cluster.nodes.length);
});

test('what is hostile, binary or of another namespace is dropped and counted, and requests are ignored', async () => {
  emitter.emit('binary', Buffer.from([1, 2, 3]));
  emitter.of('/admin').emit('elsewhere', 1);
  emitter.disconnectSockets(true);
  emitter.socketsJoin(other.room);
  emitter.socketsLeave(one.room);
  for (const bytes of [[0xdd, 0xff, 0xff, 0xff, 0xff], [0x93], Array(100_000).fill(0x91), [0xc1], Array(300_000).fill(0)]) {
    publisher.publish('socket.io#/#', Buffer.from(bytes));
  }
  await settled();
  emitter.to(one.room).emit('still', 'here');
  await settled();
  for (const client of everyone) {
    assert.equal(client.disconnects.length, 0);
    assert.deepEqual([got(client, 'binary'), got(client, 'elsewhere')], [[], []]);
    assert.deepEqual(got(client, 'still'), [['here']]);
  }
  const nodes = cluster.nodes.length;
  await eventually(async () => (await counted('request')) === 3 * nodes, 'three requests on each node');
  assert.deepEqual([await counted('malformed'), await counted('too_large')], [4 * nodes, nodes]);
  assert.deepEqual([await counted('binary'), await counted('foreign')], [nodes, 0], 'another namespace has another channel');
});

test('after Redis was restarted emitters are heard again', async () => {
  const name = `again_${Date.now()}`;
  const client = clients[0];
  await redis.kill();
  await redis.start();
  const again = new Publisher(redis.port);
  await once(again.socket, 'connect');
  const emitterAgain = new Emitter(again);
  await eventually(() => {
    emitterAgain.emit(name, 1);
    return got(client, name).length > 0;
  }, 'an event after the restart');
  again.socket.destroy();
});
