// `slot_taken`: who held or had booked a slot that staff takes is told, on each device, or when the next one comes. Also
// when the node dies between the act and the notification.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { freshNumber, freshSpace } from './lib/fixtures.mjs';
import { settled } from './lib/http.mjs';
import { startTcpProxy } from './lib/proxy.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { sweepByCommand } from './lib/stalls.mjs';
import { staffToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

// The nodes walk all buckets too late for any test. So a notification that arrives was sent for the act itself.
const settings = { SLOT_TIMER_INTERVAL: '600000' };
const redis = await startCluster({ nodes: 2, settings });
const shards = await startCluster({ nodes: 2, settings, store: await startRedisCluster() });
const alone = await startSlotcast({ settings });
after(() => Promise.all([redis.stop(), shards.stop(), alone.stop()]));

const stores = { redis: redis.nodes, 'a Cluster': shards.nodes, 'the embedded store': [alone, alone] };

/** The notification to a user who lost these slots by the act at a position. */
function notice(space, { epoch, version }, slots, status) {
  const id = `${epoch}-${space.site}-${space.number}-${version}`;
  return { id, spazioId: space.number, sedeId: space.site, date: space.date, slots, status, epoch, version };
}

async function done(asked) {
  const answer = await asked;
  assert.equal(answer.status, 200, answer.text);
  return answer.data;
}

/** Has staff set slots. A repeat of an unanswered call gets the first answer. */
const put = (node, path, body) => done(node.staffCaller().settled.putOnce(path, body));

async function hold(node, user, space, slots) {
  await done(node.userCaller(user).settled.post('/api/slots/hold', space.body({ slots })));
}

async function book(node, user, space, slots) {
  await hold(node, user, space, slots);
  await done(node.userCaller(user).settled.post('/api/slots/book', space.body({ slots })));
}

/** The notifications of a client, each once. */
const distinct = (client) => [...new Map(client.all('slot_taken').map((told) => [told.id, told])).values()];

/** Waits for one more loss of the user, which comes after whatever the user was told for nothing, and gives all. */
async function allOf(client, node, user) {
  const space = freshSpace();
  await hold(node, user, space, [1]);
  const last = await put(node, '/api/slots/1', space.body({ status: 'blocked' }));
  await client.first('slot_taken', ({ spazioId, version }) => spazioId === space.number && version === last.version);
  return distinct(client).filter(({ spazioId }) => spazioId !== space.number);
}

for (const [name, [first, second]] of Object.entries(stores)) {
  describe(`on ${name}`, () => {
    test('who loses slots to staff is told on every device, and nobody else is', async () => {
      const space = freshSpace();
      const [anna, bruno, carla] = [freshNumber(), freshNumber(), freshNumber()];
      const [phone, desk, other, passer] = await Promise.all([
        first.user(anna),
        second.user(anna),
        second.user(bruno),
        first.user(carla),
      ]);
      await hold(first, anna, space, [1, 2]);
      await book(second, anna, space, [3]);
      await book(first, bruno, space, [5]);
      const at = await put(second, '/api/slots', space.body({ slots: [1, 3, 4, 5], status: 'blocked' }));
      for (const client of [phone, desk]) {
        assert.deepEqual(await client.first('slot_taken'), notice(space, at, [1, 3], 'blocked'));
      }
      assert.deepEqual(await other.first('slot_taken'), notice(space, at, [5], 'blocked'));
      assert.deepEqual(await allOf(passer, first, carla), []);
      assert.equal((await allOf(phone, second, anna)).length, 1);
    });

    test('a booking for another member, a release and a slot made free tell who had it', async () => {
      const space = freshSpace();
      const [anna, bruno] = [freshNumber(), freshNumber()];
      const client = await first.user(anna);
      await book(first, anna, space, [1, 2, 3]);
      const staff = second.staffCaller();
      const replaced = await put(second, '/api/slots/1', space.body({ status: 'booked', id_utente: bruno }));
      const released = await done(staff.settled.post('/api/slots/2/release', space.body()));
      const freed = await put(second, '/api/slots/3', space.body({ status: 'available' }));
      const told = await eventually(() => distinct(client).length >= 3 && distinct(client), 'three losses');
      const expected = [
        notice(space, replaced, [1], 'booked'),
        notice(space, released, [2], 'available'),
        notice(space, freed, [3], 'available'),
      ];
      assert.deepEqual(told.sort((left, right) => left.version - right.version), expected);
    });

    test('what a user lets go of, also through staff, and what stays the user’s, is not taken', async () => {
      const space = freshSpace();
      const anna = freshNumber();
      const client = await first.user(anna);
      await book(first, anna, space, [1, 2]);
      await hold(first, anna, space, [3, 4, 5]);
      await done(first.userCaller(anna).settled.post('/api/slots/3/release', space.body()));
      await put(second, '/api/slots/1', space.body({ status: 'booked', data: { paid: true } }));
      await put(second, '/api/slots/4', space.body({ status: 'booked', id_utente: anna }));
      const service = second.staffCaller('servizio');
      await done(service.settled.post('/api/slots/2/release', space.body({ id_utente: anna })));
      await done(service.settled.post('/api/slots/5/book', space.body()));
      assert.deepEqual(await allOf(client, second, anna), []);
    });

    test('who is away is told at the next connection, once', async () => {
      const space = freshSpace();
      const anna = freshNumber();
      await book(first, anna, space, [7]);
      const at = await put(first, '/api/slots/7', space.body({ status: 'blocked' }));
      const client = await second.user(anna);
      assert.deepEqual(await client.first('slot_taken'), notice(space, at, [7], 'blocked'));
      assert.equal((await allOf(client, first, anna)).length, 1);
    });

    test('a repeat under an Idempotency-Key tells nobody again', async () => {
      const space = freshSpace();
      const anna = freshNumber();
      const client = await first.user(anna);
      await book(first, anna, space, [1]);
      const key = { 'idempotency-key': `k${anna}` };
      const ask = () => second.staffCaller().put('/api/slots/1', space.body({ status: 'blocked' }), key);
      const block = () => done(settled(ask, 'an answer under the key'));
      const at = await block();
      assert.deepEqual(await block(), at);
      assert.deepEqual(await allOf(client, second, anna), [notice(space, at, [1], 'blocked')]);
    });

    test('nobody may send the name', async () => {
      const body = { event: 'slot_taken', data: {} };
      for (const path of [`/api/users/${freshNumber()}/notify`, '/api/broadcast']) {
        const answer = await first.staffCaller().post(path, body);
        assert.deepEqual([answer.status, answer.body.code], [422, 'reserved_event'], path);
      }
    });
  });
}

/**
 * Has staff block a slot of a user through a node whose Redis takes the act, but whose every other word from then on is
 * lost; then kills that node.
 */
async function blockAndDie(node, proxy, witness, space) {
  // Redis knows the script by then, so the node sends it by its hash alone.
  await put(witness, '/api/slots/9', space.body({ status: 'blocked' }));
  proxy.look = (chunk, near) => {
    // Only the script of the act has the status that staff sets.
    if (!chunk.includes('\r\nblocked\r\n')) return;
    setImmediate(() => {
      for (const socket of proxy.sockets) socket.lost = true;
      proxy.server.close();
      near.lost = true;
    });
  };
  const asked = fetch(`${node.url}/api/slots/1`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${staffToken()}`, 'content-type': 'application/json' },
    body: JSON.stringify(space.body({ status: 'blocked' })),
  });
  asked.catch(() => {});
  await eventually(async () => (await witness.entry(space, 1)).status === 'blocked', 'the act in the store');
  await node.kill();
  await asked.catch(() => {});
}

test('an act whose answer is lost: the node itself tells, without a walk', async () => {
  const server = await startRedis();
  const proxy = await startTcpProxy(() => [server.port]);
  const node = await startSlotcast({
    settings: { REDIS_URL: `redis://127.0.0.1:${proxy.port}`, SLOT_TIMER_INTERVAL: '600000' },
  });
  const [space, anna] = [freshSpace(), freshNumber()];
  await book(node, anna, space, [1]);
  await put(node, '/api/slots/9', space.body({ status: 'blocked' }));
  proxy.look = (chunk) => {
    if (!chunk.includes('\r\nblocked\r\n')) return;
    proxy.look = undefined;
    // The connections stay silent from here on; new ones pass.
    setImmediate(() => {
      for (const socket of proxy.sockets) socket.lost = true;
    });
  };
  // Whether the act was answered or not, it is done once.
  const answer = await node.staffCaller().put('/api/slots/1', space.body({ status: 'blocked' }));
  assert.ok([200, 503].includes(answer.status), answer.text);
  const at = await node.board(space);
  const client = await node.user(anna);
  assert.deepEqual(await client.first('slot_taken'), notice(space, at, [1], 'blocked'));
  await node.stop();
  proxy.close();
  await server.kill();
});

test('a node that dies right after the act: the next walk of another node tells', async () => {
  const server = await startRedis();
  const proxy = await startTcpProxy(() => [server.port]);
  const witness = await startSlotcast({ settings: { REDIS_URL: server.url, SLOT_TIMER_INTERVAL: '1000' } });
  const dying = await startSlotcast({ settings: { REDIS_URL: `redis://127.0.0.1:${proxy.port}`, SLOT_TIMER_INTERVAL: '0' } });
  const [space, anna] = [freshSpace(), freshNumber()];
  await book(witness, anna, space, [1]);
  const client = await witness.user(anna);
  await blockAndDie(dying, proxy, witness, space);
  const { epoch, version } = await witness.board(space);
  assert.deepEqual(await client.first('slot_taken'), notice(space, { epoch, version }, [1], 'blocked'));
  const left = () => server.command('KEYS', '*:taken');
  await eventually(async () => (await left()).trim() === '', 'nothing is left to be told');
  await witness.stop();
  proxy.close();
  await server.kill();
});

test('a node that dies right after the act, where no node walks: `slotcast sweep` tells', async () => {
  const server = await startRedis();
  const proxy = await startTcpProxy(() => [server.port]);
  const witness = await startSlotcast({ settings: { REDIS_URL: server.url, SLOT_TIMER_INTERVAL: '0' } });
  const dying = await startSlotcast({ settings: { REDIS_URL: `redis://127.0.0.1:${proxy.port}`, SLOT_TIMER_INTERVAL: '0' } });
  const [space, anna] = [freshSpace(), freshNumber()];
  await book(witness, anna, space, [1]);
  const client = await witness.user(anna);
  await blockAndDie(dying, proxy, witness, space);
  assert.deepEqual(client.all('slot_taken'), []);
  const { epoch, version } = await witness.board(space);
  await sweepByCommand({ REDIS_URL: server.url });
  assert.deepEqual(await client.first('slot_taken'), notice(space, { epoch, version }, [1], 'blocked'));
  await witness.stop();
  proxy.close();
  await server.kill();
});

test('a file whose node dies right after the act tells when it is opened again', async () => {
  const node = await startSlotcast();
  const [space, anna] = [freshSpace(), freshNumber()];
  await book(node, anna, space, [1]);
  const at = await put(node, '/api/slots/1', space.body({ status: 'blocked' }));
  await node.kill();
  const again = await startSlotcast({ dataDir: node.dataDir, port: node.port });
  const client = await again.user(anna);
  assert.deepEqual(await client.first('slot_taken'), notice(space, at, [1], 'blocked'));
  await again.stop();
});
