// Nodes that fail under load, and connections between them and everyone else: clients that watch miss nothing.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { TRANSPORTS } from './lib/client.mjs';
import { startCluster } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { Follower } from './lib/follower.mjs';
import { freePort } from './lib/ports.mjs';
import { startHttpProxy, startTcpProxy } from './lib/proxy.mjs';
import { Scene } from './lib/scene.mjs';
import { PROBE_MS, runCommand } from './lib/slotcast.mjs';
import { DEADLINE_MS, eventually, sleep } from './lib/waiting.mjs';

test('a node is killed: its clients go to another, and miss nothing', async (t) => {
  const scene = await Scene.start(t, { proxy: startTcpProxy });
  for (const _ of range(1, 2)) {
    await scene.cluster.killNode(scene.cluster.nodes[0]);
    await scene.acts(60);
  }
  await scene.check();
  const moved = scene.followers.filter(({ client }) => client.disconnects.length > 0);
  assert.ok(moved.length >= 2, 'clients had to move');
  scene.assertNoNeedlessSnapshots();
});

for (const [name, proxy, transports] of [
  ['websocket', startTcpProxy, TRANSPORTS.websocket],
  ['polling', startHttpProxy, TRANSPORTS.polling],
]) {
  test(`all nodes are replaced one by one: clients over ${name} miss nothing`, async (t) => {
    const scene = await Scene.start(t, { proxy, transports });
    for (const old of scene.cluster.nodes) {
      await scene.cluster.addNode();
      await scene.cluster.stopNode(old);
      await scene.acts(40);
    }
    const records = await scene.check();
    for (const { client } of scene.followers) assert.ok(client.disconnects.length > 0, 'it had to move');
    const odd = records.filter(({ status }) => status !== undefined && status >= 500 && status !== 503);
    assert.deepEqual(odd, []);
    scene.assertNoNeedlessSnapshots();
  });
}

test('a subscription is half open, and nobody says so: what it missed is found', async (t) => {
  const scene = await Scene.start(t);
  const link = await startTcpProxy(() => [scene.cluster.redis.port]);
  t.after(() => link.close());
  // The commands of a connection show whether it subscribes.
  const subscribed = new Set();
  link.look = (chunk, near, far) => {
    if (/SUBSCRIBE/i.test(chunk)) subscribed.add({ near, far });
  };
  const node = await scene.cluster.addNode({ REDIS_URL: `redis://127.0.0.1:${link.port}` });
  const follower = new Follower(node.url, scene.spaces, { user: 650 });
  scene.followers.push(follower);
  await follower.ready();
  await scene.acts(60);
  const cut = [...subscribed];
  assert.ok(cut.length > 0, 'there are subscriptions');
  const heard = follower.client.all('slot_update').length;
  for (const { near, far } of cut) near.lost = far.lost = true;
  await scene.acts(60);
  await eventually(() => follower.client.all('slot_update').length > heard + 60, 'events in spite of it', DEADLINE_MS);
  assert.ok(link.dropped > 0, 'packets were dropped');
  await scene.check();
  scene.assertAllStayedConnected();
  scene.assertNoNeedlessSnapshots();
});

test('clients whose connections break again and again miss nothing, and holds end meanwhile', async (t) => {
  const scene = await Scene.start(t, { restless: 4, shortHolds: 0.5 });
  for (const _ of range(1, 8)) {
    await scene.cluster.redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await scene.acts(40);
  }
  await scene.check();
  scene.assertNoNeedlessSnapshots();
});

test('the node of polling clients is killed: they go on through another', async (t) => {
  const scene = await Scene.start(t, { proxy: startHttpProxy, transports: TRANSPORTS.polling });
  await scene.cluster.killNode(scene.cluster.nodes[0]);
  await scene.acts(60);
  await scene.check();
  scene.assertNoNeedlessSnapshots();
});

// These tests mostly wait, so they run at the same time.
describe('a node stands still', { concurrency: true }, () => {
  /** The pause is long enough that everything that is missed can still be told. */
  const pause = 300;

  for (const [seconds, whose, options] of [
    [20, 'its clients get what they missed', {}],
    [15, 'its polling clients too', { proxy: startHttpProxy, transports: TRANSPORTS.polling }],
  ]) {
    test(`for ${seconds} s and goes on: ${whose}`, async (t) => {
      const scene = await Scene.start(t, { pause, ...options });
      const [frozen, ...others] = scene.cluster.nodes;
      scene.targets = () => others;
      const goOn = scene.cluster.freezeNode(frozen);
      t.after(goOn);
      await sleep(seconds * 1_000);
      goOn();
      scene.targets = () => scene.cluster.nodes;
      await scene.acts(60);
      await scene.check();
      scene.assertNoNeedlessSnapshots();
    });
  }

  test('while more happens than a polling client is sent at once: what it is not told it is shown', async (t) => {
    const scene = await Scene.start(t, { pause, proxy: startHttpProxy, transports: TRANSPORTS.polling });
    const [frozen, ...others] = scene.cluster.nodes;
    scene.targets = () => others;
    const goOn = scene.cluster.freezeNode(frozen);
    t.after(goOn);
    await scene.changeMuch(400);
    goOn();
    scene.targets = () => scene.cluster.nodes;
    await scene.acts(20);
    // A client without room for everything that it missed gets a snapshot.
    await scene.check();
  });
});

test('a node that starts before Redis serves as soon as Redis is there', async (t) => {
  const cluster = await startCluster({ nodes: 0 });
  t.after(() => cluster.stop());
  await cluster.redis.kill();
  const starting = cluster.addNode();
  await sleep(2_000);
  assert.equal(cluster.nodes.length, 0, 'not ready without Redis');
  await cluster.redis.start();
  const node = await starting;
  assert.equal((await fetch(`${node.url}/healthz`)).status, 200);
  assert.equal((await node.userCaller(7).settled.post('/api/slots/1/hold', freshSpace().body())).status, 200);
});

test('a node whose Redis does not come says why, and waits for it without serving', async (t) => {
  const url = `redis://:geheim@127.0.0.1:${await freePort()}`;
  const port = await freePort();
  let node;
  const onStart = (child) => {
    node = child;
  };
  const ended = runCommand(['serve'], { REDIS_URL: url, PORT: String(port) }, { onStart });
  t.after(() => node.kill('SIGKILL'));
  const probe = (path) => fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(PROBE_MS) }).catch(() => undefined);
  await eventually(async () => (await probe('/healthz'))?.status === 503, 'an answer that says no');
  assert.deepEqual(await (await probe('/readyz')).json(), { status: 'unavailable', obstacles: ['store_never_reached'] });
  const refused = await probe('/api/spaces/1/1/slots?date=2026-11-23');
  assert.deepEqual([refused.status, (await refused.json()).code], [503, 'unavailable']);
  node.kill('SIGTERM');
  const { code, stdout, stderr } = await ended;
  assert.equal(code, 0);
  assert.match(stdout + stderr, /does not answer.*REDIS_URL/);
  assert.doesNotMatch(stdout + stderr, /geheim/);
});

test('notifications come in order, each once, while subscriptions are killed and Redis is frozen', async (t) => {
  const cluster = await startCluster();
  t.after(() => cluster.stop());
  const users = range(1, 3).map(() => freshNumber());
  const clients = await Promise.all(cluster.nodes.flatMap((node) => users.map((user) => node.user(user))));
  let sent = 0;
  const acknowledged = [];
  const notifyAll = async (count) => {
    for (const _ of range(1, count)) {
      sent += 1;
      const n = sent;
      const answers = await Promise.all(
        users.map((user) => cluster.next.staffCaller().post(`/api/users/${user}/notify`, { event: 'avviso', data: { n } })),
      );
      answers.forEach(({ status }, index) => status === 200 && acknowledged.push({ user: users[index], n }));
      await sleep(20);
    }
  };
  const sending = notifyAll(200);
  for (const _ of range(1, 4)) {
    await sleep(400);
    await cluster.redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
  }
  const goOn = cluster.redis.freeze();
  await sleep(3_000);
  goOn();
  await sending;
  await eventually(() => cluster.ready().then(() => true), 'nodes that serve');
  const end = sent;
  const lastOf = (user) => acknowledged.findLast((one) => one.user === user)?.n ?? 0;
  await eventually(async () => {
    await notifyAll(1);
    return users.every((user) => lastOf(user) > end);
  }, 'one more that is acknowledged, for each user');
  for (const [index, client] of clients.entries()) {
    const user = users[index % users.length];
    await client.first('avviso', ({ n }) => n === lastOf(user));
    const numbers = client.all('avviso').map(({ n }) => n);
    const ascending = [...new Set(numbers)].sort((left, right) => left - right);
    assert.deepEqual(numbers, ascending, 'in order, each once');
    const missing = acknowledged.filter((one) => one.user === user && !numbers.includes(one.n));
    assert.deepEqual(missing, []);
  }
});

test('a follower itself notices a gap, a repetition, a snapshot that is old or needless, and an epoch that was not announced', () => {
  const space = freshSpace();
  const of = (payload) => ({ spazioId: space.number, sedeId: space.site, date: space.date, ...payload });
  const update = (epoch, version) => ['slot_update', { slotId: 1, status: 'booked', epoch, version, data: of() }];
  const snapshot = (epoch, version) => ['slots_status_update', of({ slotsStatus: [], epoch, version })];
  const after = (...events) => {
    const follower = new Follower('http://127.0.0.1:1', [space], { autoConnect: false });
    for (const [name, payload] of [['joined_space', of({ epoch: 'a', version: 4 })], ...events]) {
      for (const listener of follower.client.socket.listeners(name)) listener(payload);
    }
    return follower;
  };
  const faultsOf = (...events) => after(...events).faults.length;
  assert.equal(faultsOf(snapshot('a', 5), update('a', 6), snapshot('b', 2), update('b', 3)), 0);
  assert.equal(faultsOf(update('a', 6)), 1);
  assert.equal(faultsOf(update('a', 5), update('a', 5)), 1);
  assert.equal(faultsOf(update('a', 5), snapshot('a', 4)), 1);
  assert.equal(faultsOf(update('b', 5)), 1);
  const needlessOf = (...events) => after(...events).of(space).needless.length;
  assert.equal(needlessOf(snapshot('a', 4), update('a', 5), snapshot('b', 5), snapshot('b', 1_100)), 0);
  assert.equal(needlessOf(snapshot('a', 4), update('a', 5), snapshot('a', 6)), 1);
});
