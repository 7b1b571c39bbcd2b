// The binary's other commands, and what its configuration refuses.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { freshSpace } from './lib/fixtures.mjs';
import { PlatformProcess } from './lib/platforms.mjs';
import { runCommand, startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { SECRET } from './lib/tokens.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

test('the token command makes tokens that the node takes', async () => {
  const slotcast = await startSlotcast();
  try {
    const make = async (...options) => {
      const made = await runCommand(['token', ...options]);
      assert.equal(made.code, 0, made.stderr);
      assert.match(made.stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/, 'stdout is the token alone');
      return made.stdout.trim();
    };
    const client = slotcast.connect({ token: await make('--user', '7') });
    assert.equal((await client.connected()).userId, 7);
    const staff = slotcast.caller(await make('--user', '9', '--role', 'gestore', '--ttl', '24h'));
    assert.equal((await staff.get('/api/stats')).status, 200);
    const inSites = slotcast.caller(await make('--user', '8', '--sites', '2,3'));
    assert.equal((await inSites.post('/api/slots/1/hold', freshSpace({ site: 3 }).body())).status, 200);
    assert.equal((await inSites.post('/api/slots/1/hold', freshSpace({ site: 1 }).body())).body.code, 'forbidden');
    const claims = JSON.parse(Buffer.from((await make('--user', '7', '--ttl', '24h')).split('.')[1], 'base64url'));
    assert.ok(Math.abs(claims.exp - Date.now() / 1000 - 86_400) < 120, String(claims.exp));
  } finally {
    await slotcast.stop();
  }
});

test('the token command needs the secret and a user', async () => {
  const noSecret = await runCommand(['token', '--user', '7'], { JWT_SECRET: undefined });
  assert.notEqual(noSecret.code, 0);
  assert.match(noSecret.stderr, /JWT_SECRET/);
  assert.equal(noSecret.stdout, '');
  assert.notEqual((await runCommand(['token'])).code, 0);
  assert.notEqual((await runCommand(['token', '--user', '7', '--ttl', 'a while'])).code, 0);
});

test('the sweep command says on a locked file to use the call, and sweeps a free one', async () => {
  const space = freshSpace();
  const slotcast = await startSlotcast({ settings: { SLOT_TIMER_INTERVAL: '0' } });
  const settings = { SLOTCAST_DATA_DIR: slotcast.dataDir, JWT_SECRET: undefined };
  const held = await slotcast.userCaller(7).post('/api/slots/hold', space.body({ slots: [1, 2], holdSeconds: 1 }));
  assert.equal(held.status, 200, held.text);
  const locked = await runCommand(['sweep'], settings);
  assert.notEqual(locked.code, 0);
  assert.match(locked.stderr, /POST \/api\/sweep/);
  assert.equal(locked.stdout, '');
  await slotcast.stop();
  await sleep(Math.max(0, Date.parse(held.data.heldUntil) - Date.now()) + 10);
  const swept = await runCommand(['sweep'], settings);
  assert.equal(swept.code, 0, swept.stderr);
  const report = JSON.parse(swept.stdout);
  assert.deepEqual(Object.keys(report).sort(), ['freed', 'oldestLateMs', 'spaces', 'tookMs']);
  assert.equal(report.freed, 2);
  assert.equal(report.spaces, 1);
  const again = JSON.parse((await runCommand(['sweep'], settings)).stdout);
  assert.equal(again.freed, 0);

  const restarted = await startSlotcast({ dataDir: slotcast.dataDir });
  try {
    const board = await restarted.board(space);
    assert.equal(board.version, held.data.version + 2, 'what the command freed is in the log');
    const client = await restarted.user(8);
    const { epoch, version } = held.data;
    await client.join(space, { since: { epoch, version } });
    const updates = await client.many('slot_update', 2);
    assert.deepEqual(updates.map((update) => update.status), ['available', 'available']);
  } finally {
    await restarted.stop();
  }
});

test('a bad setting is named with its source, and nothing starts', async () => {
  const bad = {
    PORT: ['http', '-1', '70000'],
    SLOT_HOLD_DURATION: ['0', 'long', '-5'],
    SLOT_HOLD_MAX: ['x'],
    SLOT_TIMER_INTERVAL: ['soon'],
    SLOTCAST_STORE: ['sqlite'],
    SLOTCAST_ENV: ['staging'],
    SLOTCAST_FREED_TO: ['nobody'],
    SLOTCAST_ADMIN_ADDR: ['9090x'],
    SLOTCAST_OPEN_CATALOG: ['maybe'],
    JWT_SECRET: ['short'],
    JWT_ALGORITHM: ['none', 'HS512'],
  };
  for (const [name, values] of Object.entries(bad)) {
    for (const value of values) {
      for (const command of ['serve', 'check-config']) {
        const settings = { PORT: '0', SLOTCAST_DATA_DIR: temporaryFolder(), [name]: value };
        const refused = await runCommand([command], settings);
        assert.notEqual(refused.code, 0, `${command} ${name}=${value}`);
        assert.match(refused.stdout + refused.stderr, new RegExp(name), `${command} ${name}=${value}`);
        if (name === 'JWT_SECRET') assert.ok(!(refused.stdout + refused.stderr).includes(value), 'no secret is shown');
      }
    }
  }
});

test('a bad setting in the file is named with the file', async () => {
  const cwd = temporaryFolder();
  const file = join(cwd, 'slotcast.toml');
  for (const text of ['SLOT_HOLD_DURATION = "long"\n', 'NO_SUCH_SETTING = 1\n', 'PORT = \n']) {
    writeFileSync(file, text);
    const refused = await runCommand(['check-config'], {}, { cwd });
    assert.notEqual(refused.code, 0, text);
    assert.match(refused.stdout + refused.stderr, /slotcast\.toml/, text);
  }
  writeFileSync(file, 'SLOT_HOLD_DURATION = 20\n');
  assert.equal((await runCommand(['check-config'], {}, { cwd })).code, 0);
  const elsewhere = await runCommand(['check-config'], { SLOTCAST_CONFIG: join(cwd, 'absent.toml') });
  assert.notEqual(elsewhere.code, 0, 'a named file must be there');
});

test('check-config is content with the defaults', async () => {
  const checked = await runCommand(['check-config']);
  assert.equal(checked.code, 0, checked.stdout + checked.stderr);
  assert.ok(!(checked.stdout + checked.stderr).includes(SECRET));
});

test('production refuses what is unsafe', async () => {
  const production = { SLOTCAST_ENV: 'production', PORT: '0', SLOTCAST_DATA_DIR: temporaryFolder() };
  const noSecret = await runCommand(['serve'], { ...production, SLOTCAST_STORE: 'embedded', JWT_SECRET: undefined });
  assert.notEqual(noSecret.code, 0);
  assert.match(noSecret.stdout + noSecret.stderr, /JWT_SECRET/);
  const unnamedStore = await runCommand(['serve'], production);
  assert.notEqual(unnamedStore.code, 0);
  assert.match(unnamedStore.stdout + unnamedStore.stderr, /SLOTCAST_STORE|REDIS_URL/);
});

test('production logs JSON, and its catalog is closed', async () => {
  const slotcast = await startSlotcast({
    settings: { SLOTCAST_ENV: 'production', SLOTCAST_STORE: 'embedded', HOST: '127.0.0.1' },
  });
  try {
    const refused = await slotcast.caller().get(freshSpace().boardPath());
    assert.equal(refused.body.code, 'space_not_found');
    await slotcast.user(7);
    const lines = await eventually(() => {
      // The last line may be incomplete.
      const whole = slotcast.log().split('\n').slice(0, -1);
      return whole.length > 0 && whole;
    }, 'log lines');
    for (const line of lines) assert.equal(typeof JSON.parse(line), 'object', line);
  } finally {
    await slotcast.stop();
  }
});

test('without a secret, development prints a token that works', async () => {
  const slotcast = await startSlotcast({ settings: { JWT_SECRET: undefined } });
  try {
    const [token] = await eventually(() => slotcast.log().match(/[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}/), 'a token');
    const client = slotcast.connect({ token });
    assert.ok('userId' in (await client.connected()));
  } finally {
    await slotcast.stop();
  }
});

test('help and version are told', async () => {
  const help = await runCommand(['--help']);
  assert.equal(help.code, 0);
  for (const command of ['serve', 'sweep', 'token', 'check-config', 'openapi']) assert.ok(help.stdout.includes(command));
  assert.match((await runCommand(['--version'])).stdout, /^slotcast \d/);
  assert.notEqual((await runCommand(['brew'])).code, 0);
});

test('the sweep command with an interval goes on after an outage of the store, until it is told to end', async (t) => {
  const cluster = await startCluster({ nodes: 1, settings: { SLOT_TIMER_INTERVAL: '0' } });
  t.after(() => cluster.stop());
  const [node] = cluster.nodes;
  const sweeper = new PlatformProcess(['/usr/local/bin/slotcast', 'sweep', '--every', '1s'], { REDIS_URL: cluster.redis.url });
  const reports = () => sweeper.output.stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  await eventually(() => reports().length >= 2, 'two sweeps');
  await cluster.redis.kill();
  await eventually(() => /will try again at the next interval/.test(sweeper.output.stderr), 'a sweep that fails');
  await cluster.redis.start();
  await cluster.ready();
  const space = freshSpace();
  const client = await node.user(7);
  await client.join(space);
  const before = sweeper.output.stderr.length;
  const held = await node.userCaller(7).settled.post('/api/slots/1/hold', space.body({ holdSeconds: 1 }));
  assert.equal(held.status, 200, held.text);
  assert.deepEqual((await client.first('slots_freed')).spaces[0].slots, [1]);
  client.close();
  const { exit } = await sweeper.leave('SIGINT');
  assert.deepEqual(exit, { code: 0, signal: null }, sweeper.output.stderr);
  const freed = reports().reduce((sum, report) => sum + report.freed, 0);
  // A failed sweep may have freed holds that no report counts.
  const hasFailed = /will try again at the next interval/.test(sweeper.output.stderr.slice(before));
  assert.ok(freed === 1 || (hasFailed && freed === 0), `${freed} freed: ${sweeper.output.stderr}`);
});

test('the health check says by its exit code what the node answers', async () => {
  const node = await startSlotcast();
  const settings = { PORT: String(node.port) };
  const probe = (...options) => runCommand(['healthcheck', ...options], settings);
  const good = await probe();
  assert.deepEqual(good, { code: 0, stdout: '', stderr: '' });
  assert.equal((await probe('--path', '/readyz')).code, 0);
  const wrong = await probe('--path', '/nowhere');
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /answers 404 to \/nowhere/);
  await node.stop();
  const gone = await probe();
  assert.equal(gone.code, 1);
  assert.match(gone.stderr, /no node answers on 127\.0\.0\.1:/);
});
