// Leaving and coming back: SIGTERM and SIGINT, restarts on the same data, and data that must not be touched.

import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { TRANSPORTS } from './lib/client.mjs';
import { freshSpace, range, versions } from './lib/fixtures.mjs';
import { runCommand, startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually, within } from './lib/waiting.mjs';

/** The stock client as a page uses it: it reconnects by itself. */
const RECONNECTING = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 250 };

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`after ${signal} the node ends well, and its clients come back by themselves`, async () => {
    const space = freshSpace();
    const first = await startSlotcast({ settings: { SLOTCAST_DRAIN_TIME: '8' } });
    const clients = range(1, 12).map((index) => {
      const transports = Object.values(TRANSPORTS)[index % 3];
      return first.connect({ token: userToken(100 + index), transports, ...RECONNECTING });
    });
    await Promise.all(clients.map((client) => client.connected()));
    const joined = await clients[0].join(space);
    const held = await first.userCaller(7).post('/api/slots/1/hold', space.body());

    first.child.kill(signal);
    const asked = Date.now();
    const exit = await within(first.exited, 'the end');
    console.log(`ended ${Date.now() - asked} ms after ${signal}`);
    assert.deepEqual(exit, { code: 0, signal: null });
    assert.ok(Date.now() - asked < 8_000 + 5_000, 'within the drain time, and what a busy machine needs');
    first.assertNoPanic();
    for (const client of clients) {
      const reason = await client.disconnected();
      assert.ok(['transport close', 'transport error'].includes(reason), reason);
      assert.equal(client.socket.active, true, 'it will come back');
    }

    const second = await startSlotcast({ dataDir: first.dataDir, port: first.port });
    try {
      await Promise.all(clients.map((client) => client.many('connection_confirmed', 2)));
      const since = { epoch: joined.epoch, version: joined.version };
      assert.equal((await clients[0].join(space, { since })).recovered, true);
      assert.equal((await clients[0].many('slot_update', 1)).at(-1).version, held.data.version);
      assert.equal((await second.entry(space, 1)).held_until, held.data.heldUntil);
      const { holdToken } = held.data;
      assert.equal((await second.userCaller(7).post('/api/slots/1/book', space.body({ holdToken }))).status, 200);
    } finally {
      for (const client of clients) client.close();
      await second.stop();
    }
  });
}

test('while it drains, a handshake is told to come back, as any refusal is told', async () => {
  const node = await startSlotcast({ settings: { SLOTCAST_DRAIN_TIME: '10', SLOTCAST_DRAIN_GRACE: '5' } });
  node.child.kill('SIGTERM');
  await eventually(async () => (await node.caller().get('/readyz')).status === 503, 'a node that drains');
  const { status, headers, body } = await node.caller().get('/socket.io/?EIO=4&transport=polling');
  assert.deepEqual([status, headers.get('retry-after')], [503, '1']);
  assert.deepEqual([body.success, body.code, typeof body.error], [false, 'draining', 'string']);
  await within(node.exited, 'the end');
});

test('a second node on the same file is refused with a clear message, and the first serves on', async () => {
  const first = await startSlotcast();
  try {
    const second = await runCommand(['serve'], { PORT: '0', SLOTCAST_DATA_DIR: first.dataDir });
    assert.notEqual(second.code, 0);
    assert.match(second.stdout + second.stderr, /locked|in use|another process/i);
    const space = freshSpace();
    assert.equal((await first.userCaller(7).post('/api/slots/1/hold', space.body())).status, 200);
  } finally {
    await first.stop();
  }
});

/** The store's file in a folder. */
function storeFile(folder) {
  const files = readdirSync(folder).map((name) => join(folder, name));
  const [largest] = files.filter((file) => statSync(file).isFile()).sort((a, b) => statSync(b).size - statSync(a).size);
  return largest;
}

test('a corrupt file is a clear error at start, and is left as it is', async () => {
  const node = await startSlotcast();
  await node.userCaller(7).post('/api/slots/1/hold', freshSpace().body());
  await node.stop();
  const file = storeFile(node.dataDir);
  const garbage = Buffer.alloc(8_192, 'not a store ');
  writeFileSync(file, garbage);
  const refused = await runCommand(['serve'], { PORT: '0', SLOTCAST_DATA_DIR: node.dataDir });
  assert.notEqual(refused.code, 0);
  assert.ok((refused.stdout + refused.stderr).includes(node.dataDir), 'the message names the file');
  assert.doesNotMatch(refused.stdout + refused.stderr, /panicked/);
  assert.deepEqual(readFileSync(file), garbage);
});

test('a restored copy of the file takes a new epoch, and since brings a snapshot', async () => {
  const space = freshSpace();
  const original = await startSlotcast();
  const held = await original.userCaller(7).post('/api/slots/1/hold', space.body());
  await original.stop();
  const folder = temporaryFolder();
  const file = storeFile(original.dataDir);
  copyFileSync(file, join(folder, file.slice(original.dataDir.length + 1)));
  const restored = await startSlotcast({ dataDir: folder });
  try {
    const client = await restored.user(8);
    const { epoch, version } = held.data;
    const joined = await client.join(space, { date: space.date, since: { epoch, version } });
    assert.equal(joined.recovered, false);
    assert.notEqual(joined.epoch, epoch);
    const snapshot = await client.first('slots_status_update');
    assert.equal(snapshot.slotsStatus[0].status, 'occupied');
    const next = await restored.userCaller(8).post('/api/slots/2/hold', space.body());
    assert.ok(next.data.version > version, 'versions go on');
    assert.deepEqual(versions(await client.many('slot_update', 1)), [next.data.version]);
  } finally {
    await restored.stop();
  }
});

test('a port that is taken is a clear error', async () => {
  const node = await startSlotcast();
  try {
    const refused = await runCommand(['serve'], { PORT: String(node.port), SLOTCAST_DATA_DIR: temporaryFolder() });
    assert.notEqual(refused.code, 0);
    assert.match(refused.stdout + refused.stderr, new RegExp(String(node.port)));
    await eventually(async () => (await fetch(`${node.url}/readyz`)).status === 200, 'the first node');
  } finally {
    await node.stop();
  }
});
