// Backup and restoration by the commands of the operations guide: bookings survive the loss of the store, and no
// client takes old for new.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { freshSpace } from './lib/fixtures.mjs';
import { runGuide } from './lib/guide.mjs';
import { startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { eventually } from './lib/waiting.mjs';

/** Fills a space before the backup: a booking, a held slot, and staff's data. */
async function fill(node) {
  const space = freshSpace();
  const schedule = { name: 'Sala grande', timezone: 'Europe/Rome', opens: '08:00', closes: '20:00', slotMinutes: 60 };
  const staff = node.staffCaller();
  assert.equal((await staff.settled.put(space.path, schedule)).status, 200);
  assert.equal((await node.userCaller(7).settled.post('/api/slots/1/hold', space.body())).status, 200);
  assert.equal((await node.userCaller(7).settled.post('/api/slots/1/book', space.body())).status, 200);
  const held = await node.userCaller(8).settled.post('/api/slots/2/hold', space.body());
  assert.equal(held.status, 200);
  const note = { note: 'manutenzione' };
  assert.equal((await staff.settled.put('/api/slots/3', space.body({ status: 'blocked', data: note }))).status, 200);
  return { space, held: held.data };
}

/** Makes changes after the backup, which are lost with the store. Returns the position that a client then has. */
async function actLater(node, space) {
  const later = await node.userCaller(9).settled.post('/api/slots/4/hold', space.body());
  assert.equal(later.status, 200);
  const { epoch, version } = later.data;
  return { epoch, version };
}

/** The board is that of the backup, under a new epoch, and a client with an old position is told so. */
async function assertRestored(node, { space, held, since }) {
  const board = await node.board(space);
  assert.deepEqual(board.slots.slice(0, 4).map(({ status }) => status), ['booked', 'occupied', 'blocked', 'available']);
  assert.equal(board.slots[2].note, 'manutenzione');
  assert.equal(board.count, 12, 'the schedule is there, too');
  assert.notEqual(board.epoch, since.epoch);

  const client = await node.user(9);
  const joined = await client.join(space, { date: space.date, since });
  assert.equal(joined.recovered, false, 'what it knows is not what is stored');
  const snapshot = await client.first('slots_status_update');
  assert.equal(snapshot.epoch, board.epoch);
  assert.equal(snapshot.slotsStatus[3].status, 'available', 'what was lost does not pass as held');

  // The hold goes on for its user, with the token from before, and versions go on.
  const booked = await node.userCaller(8).settled.post('/api/slots/2/book', space.body({ holdToken: held.holdToken }));
  assert.equal(booked.status, 200, booked.text);
  assert.ok(booked.data.version > board.version);
  assert.equal(booked.data.epoch, board.epoch);
  await client.first('slot_update', ({ version }) => version === booked.data.version);
  client.close();
}

test('embedded: what was backed up survives the loss of the data folder', async () => {
  const node = await startSlotcast();
  const { space, held } = await fill(node);
  await node.stop();
  const backup = join(temporaryFolder(), 'backup');
  await runGuide('backup-embedded', { SLOTCAST_DATA_DIR: node.dataDir, BACKUP: backup });

  const second = await startSlotcast({ dataDir: node.dataDir });
  const since = await actLater(second, space);
  await second.kill();
  rmSync(node.dataDir, { recursive: true });

  await runGuide('restore-embedded', { SLOTCAST_DATA_DIR: node.dataDir, BACKUP: backup });
  const restored = await startSlotcast({ dataDir: node.dataDir });
  try {
    assert.match(restored.log(), /beginning a new epoch/);
    await assertRestored(restored, { space, held, since });
  } finally {
    await restored.stop();
  }
});

test('embedded: a volume that went back in time, with its mark, is noticed', async () => {
  const node = await startSlotcast();
  const { space, held } = await fill(node);
  await node.stop();
  const files = ['slotcast.redb', 'slotcast.mark'].map((name) => join(node.dataDir, name));
  const snapshot = files.map((file) => readFileSync(file));
  const second = await startSlotcast({ dataDir: node.dataDir });
  const since = await actLater(second, space);
  await second.stop();
  // Restores all files as they were, with their inodes.
  files.forEach((file, index) => writeFileSync(file, snapshot[index]));
  await runGuide('restore-embedded-volume', { SLOTCAST_DATA_DIR: node.dataDir });
  const restored = await startSlotcast({ dataDir: node.dataDir });
  try {
    await assertRestored(restored, { space, held, since });
  } finally {
    await restored.stop();
  }
});

test('embedded: a copy put over the file in place is noticed as well', async () => {
  const node = await startSlotcast();
  const { space, held } = await fill(node);
  await node.stop();
  const backup = join(temporaryFolder(), 'backup');
  await runGuide('backup-embedded', { SLOTCAST_DATA_DIR: node.dataDir, BACKUP: backup });
  const second = await startSlotcast({ dataDir: node.dataDir });
  const since = await actLater(second, space);
  await second.stop();
  // Unlike in the guide, the old file is not removed. It keeps its inode, and the mark beside it is ahead of it.
  await runGuide('restore-embedded', { SLOTCAST_DATA_DIR: node.dataDir, BACKUP: backup });
  const restored = await startSlotcast({ dataDir: node.dataDir });
  try {
    await assertRestored(restored, { space, held, since });
  } finally {
    await restored.stop();
  }
});

/** A folder with `valkey-server` and `valkey-cli` under the names that the guide uses. */
function pathWithValkey() {
  const programs = join(temporaryFolder(), 'bin');
  mkdirSync(programs);
  const find = (name) => process.env.PATH.split(delimiter).map((path) => join(path, name)).find(existsSync);
  for (const kind of ['server', 'cli']) {
    symlinkSync(find(`valkey-${kind}`) ?? find(`redis-${kind}`), join(programs, `valkey-${kind}`));
  }
  return programs + delimiter + process.env.PATH;
}

test('Redis: what was backed up survives the loss of the store, while the nodes run on', async (t) => {
  const cluster = await startCluster({ nodes: 2 });
  t.after(() => cluster.stop());
  const { redis, nodes } = cluster;
  const { space, held } = await fill(nodes[0]);
  const watcher = await nodes[1].user(30);
  await watcher.join(space, { date: space.date });
  const backup = join(temporaryFolder(), 'backup');
  const environment = { PATH: pathWithValkey(), REDIS_URL: redis.url, BACKUP: backup, VALKEY_DATA: redis.folder };
  await runGuide('backup-valkey', environment);
  assert.deepEqual(readdirSync(backup), ['dump.rdb']);
  const since = await actLater(nodes[0], space);
  // The change comes by itself, or in the snapshot of the new epoch that the backup begins.
  const heard = () => [...watcher.all('slot_update'), ...watcher.all('slots_status_update')];
  await eventually(() => heard().some(({ version }) => version === since.version), 'what was done after the backup');

  await redis.kill();
  rmSync(redis.folder, { recursive: true });
  await runGuide('restore-valkey', environment);
  await redis.start();
  assert.match(await redis.command('CONFIG', 'GET', 'appendonly'), /yes/);
  await cluster.ready();
  // A client that stayed connected is told without asking, before any event of the new epoch.
  const { epoch } = await nodes[0].board(space);
  assert.notEqual(epoch, since.epoch);
  assert.equal((await nodes[1].board(space)).epoch, epoch);
  const snapshot = await watcher.first('slots_status_update', (one) => one.epoch === epoch);
  assert.equal(snapshot.slotsStatus[3].status, 'available');
  await assertRestored(nodes[0], { space, held, since });
  assert.deepEqual(watcher.disconnects, []);

  // Restored data is durable at once.
  await redis.kill();
  await redis.start();
  await cluster.ready();
  const after = await nodes[1].board(space);
  assert.deepEqual(after.slots.slice(0, 2).map(({ status }) => status), ['booked', 'booked']);
});
