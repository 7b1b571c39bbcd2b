// What an operator may type, and how the program answers: settings, logs, signals, metrics.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { day, freshSpace } from './lib/fixtures.mjs';
import { BINARY, killAtExit, runCommand, startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { SECRET, staffToken, userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

/** A good configuration of production. */
const production = () => ({
  SLOTCAST_ENV: 'production',
  SLOTCAST_STORE: 'embedded',
  SLOTCAST_DATA_DIR: temporaryFolder(),
  SLOTCAST_ADMIN_ADDR: '127.0.0.1:0',
  CORS_ORIGIN: 'https://www.example.org',
  HOST: '127.0.0.1',
  PORT: '0',
  SLOTCAST_ANONYMOUS_RATE: undefined,
});

const check = async (settings, ...options) => {
  const { code, stdout, stderr } = await runCommand(['check-config', ...options], settings);
  return { code, said: stdout + stderr, stdout };
};

test('production has no default of CORS_ORIGIN, and says so', async () => {
  const settings = { ...production(), CORS_ORIGIN: undefined };
  const { code, said } = await check(settings);
  assert.equal(code, 0, said);
  assert.match(said, /warning: CORS_ORIGIN is not set/);
  const { PORT: _, SLOTCAST_ADMIN_ADDR: __, ...served } = settings;
  const node = await startSlotcast({ settings: served });
  try {
    assert.match(node.log(), /CORS_ORIGIN is not set/);
    for (const origin of ['http://localhost:3000', 'https://coworking-mio-1.onrender.com', 'http://localhost:5173']) {
      const answer = await fetch(`${node.url}/api/holds`, { headers: { origin } });
      await answer.text();
      assert.equal(answer.headers.get('access-control-allow-origin'), null, origin);
    }
  } finally {
    await node.stop();
  }
});

test("development lets Vite's pages call", async () => {
  const node = await startSlotcast();
  try {
    const answer = await fetch(`${node.url}/api/holds`, { headers: { origin: 'http://localhost:5173' } });
    await answer.text();
    assert.equal(answer.headers.get('access-control-allow-origin'), 'http://localhost:5173');
  } finally {
    await node.stop();
  }
});

test('origins have any scheme and are matched exactly, and patterns are refused', async () => {
  const settings = { CORS_ORIGIN: 'capacitor://localhost,tauri://localhost' };
  const node = await startSlotcast({ settings });
  try {
    for (const [origin, allowed] of [
      ['capacitor://localhost', true],
      ['tauri://localhost', true],
      ['ionic://localhost', false],
      ['capacitor://localhost:80', false],
      ['http://localhost', false],
    ]) {
      const answer = await fetch(`${node.url}/api/holds`, { headers: { origin } });
      await answer.text();
      assert.equal(answer.headers.get('access-control-allow-origin'), allowed ? origin : null, origin);
    }
  } finally {
    await node.stop();
  }
  const pattern = await check({ CORS_ORIGIN: 'https://*.example.com' });
  assert.equal(pattern.code, 64, pattern.said);
  assert.match(pattern.said, /CORS_ORIGIN must name each origin in full: "[^"]*" is a pattern/);
});

test('misspelt names near ours are found', async () => {
  const { code, said } = await check({ CORS_ORIGINS: 'x', REDIS_URI: 'x', JWT_SECRETS: 'x' });
  assert.equal(code, 0, said);
  for (const [slip, meant] of [
    ['CORS_ORIGINS', 'CORS_ORIGIN'],
    ['REDIS_URI', 'REDIS_URL'],
    ['JWT_SECRETS', 'JWT_SECRET'],
  ]) {
    assert.match(said, new RegExp(`warning: ${slip} \\(environment\\) is not a setting; did you mean ${meant}\\?`));
  }
  // The output has the warning that explains the error.
  const failed = await check({ ...production(), SLOTCAST_STORE: undefined, REDIS_URI: 'redis://h' });
  assert.equal(failed.code, 64);
  assert.match(failed.said, /did you mean REDIS_URL/);
});

test('check-config finds what serve would refuse', async () => {
  const file = join(temporaryFolder(), 'file');
  writeFileSync(file, '');
  const locked = join(temporaryFolder(), 'taken');
  mkdirSync(join(locked, 'slotcast.redb'), { recursive: true });
  for (const [settings, said] of [
    [{ JWT_SECRET: undefined }, /JWT_SECRET must be set in production/],
    [{ JWT_SECRET: 'x'.repeat(48) }, /JWT_SECRET must not be/],
    [{ JWT_SECRET: 'change-me-please-change-me-please-now' }, /JWT_SECRET must not be a placeholder/],
    [{ SLOTCAST_DATA_DIR: '/proc/slotcast' }, /SLOTCAST_DATA_DIR/],
    [{ SLOTCAST_DATA_DIR: file }, /SLOTCAST_DATA_DIR/],
    [{ SLOTCAST_DATA_DIR: locked }, /SLOTCAST_DATA_DIR/],
  ]) {
    const checked = await check({ ...production(), ...settings });
    assert.equal(checked.code, 64, `${JSON.stringify(settings)}: ${checked.said}`);
    assert.match(checked.said, said);
    const served = await runCommand(['serve'], { ...production(), ...settings });
    assert.notEqual(served.code, 0, JSON.stringify(settings));
  }
});

test('check-config warns, --strict takes warnings for errors, and --json is for programs', async () => {
  const strict = await check(production(), '--strict');
  assert.equal(strict.code, 0, strict.said);
  for (const [name, value] of [
    ['SLOTCAST_ADMIN_ADDR', '0.0.0.0:9090'],
    ['SLOTCAST_ADMIN_ADDR', '[::]:9090'],
    ['SLOTCAST_USER_RATE', '0'],
    ['SLOTCAST_ANONYMOUS_RATE', '0'],
    ['SLOTCAST_EVENT_RATE', '0'],
    ['JWT_SECRET', `${SECRET}\n`],
    ['JWT_SECRET', `"${SECRET}"`],
  ]) {
    const settings = { ...production(), [name]: value };
    const plain = await check(settings);
    assert.equal(plain.code, 0, plain.said);
    assert.match(plain.said, new RegExp(`warning: ${name}`));
    assert.equal((await check(settings, '--strict')).code, 64);
    const json = await check(settings, '--json', '--strict');
    const report = JSON.parse(json.stdout);
    assert.equal(report.good, false);
    assert.deepEqual(report.findings.map(({ severity }) => severity), ['warning'], json.stdout);
    assert.ok(report.findings[0].text.startsWith(name), json.stdout);
    assert.equal(report.settings.find((setting) => setting.name === 'HOST').value, '"127.0.0.1"');
    assert.ok(!json.stdout.includes(SECRET), 'no secret is shown');
  }
  const wrong = JSON.parse((await check({ PORT: 'x' }, '--json')).stdout);
  assert.deepEqual([wrong.good, wrong.findings[0].severity], [false, 'error']);
});

test('a REDIS_URL that cannot be dialled is refused by name before anything starts', async () => {
  for (const [url, said] of [
    ['redis://h:6379?family=0', /the parameter family/],
    ['redis://h:6379\n', /a newline at its end/],
    ['redis://h:6379/abc', /number of a database/],
    ['"redis://h:6379"', /quotes around it/],
    ['redis://h:0', /port/],
  ]) {
    for (const command of ['serve', 'sweep', 'check-config']) {
      const refused = await runCommand([command], { REDIS_URL: url, SLOTCAST_DATA_DIR: temporaryFolder() });
      assert.equal(refused.code, 64, `${command} ${url}: ${refused.stderr}`);
      assert.match(refused.stdout + refused.stderr, /REDIS_URL/, `${command} ${url}`);
      assert.match(refused.stdout + refused.stderr, said, `${command} ${url}`);
    }
  }
});

test('a secret with a newline at its end is warned of in the log', async () => {
  const node = await startSlotcast({ settings: { JWT_SECRET: `${SECRET}\n` } });
  try {
    assert.match(node.log(), /WARN.*JWT_SECRET \(environment\) has a newline at its end/);
  } finally {
    await node.stop();
  }
});

test('a fatal error at start is JSON where the log is JSON', async () => {
  const file = join(temporaryFolder(), 'file');
  writeFileSync(file, '');
  for (const settings of [
    { ...production(), JWT_SECRET: undefined },
    { ...production(), PORT: 'x', SLOT_HOLD_MAX: 'x' },
    { ...production(), SLOTCAST_DATA_DIR: file },
  ]) {
    const failed = await runCommand(['serve'], settings);
    assert.notEqual(failed.code, 0);
    const lines = failed.stderr.trimEnd().split('\n').map((line) => JSON.parse(line));
    const { level, message, timestamp } = lines.at(-1);
    assert.equal(level, 'ERROR', failed.stderr);
    assert.match(message, /JWT_SECRET|PORT|SLOTCAST_DATA_DIR/);
    assert.match(timestamp, /^\d{4}-\d\d-\d\dT.*Z$/);
  }
  const plain = await runCommand(['serve'], { PORT: 'x' });
  assert.match(plain.stderr, /^slotcast: the configuration is wrong/);
});

test('SIGHUP drains as SIGTERM does', async () => {
  const node = await startSlotcast();
  const client = await node.user(7);
  node.child.kill('SIGHUP');
  assert.match(await client.disconnected(), /transport/, 'as for a node that leaves, so that clients come back');
  await node.stop('SIGHUP');
  assert.match(node.log(), /leaving/);
});

// Under nohup the end of the terminal must not end the node.
test('a SIGHUP that is ignored from the start stays ignored', async () => {
  const settings = { ...process.env, JWT_SECRET: SECRET, PORT: '0', SLOTCAST_ADMIN_ADDR: '127.0.0.1:0' };
  const words = ['-c', 'trap "" HUP && exec "$0" serve', BINARY];
  const cwd = temporaryFolder();
  const child = spawn('sh', words, { cwd, env: { ...settings, SLOTCAST_DATA_DIR: cwd }, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((done) => child.once('close', (code, signal) => done({ code, signal })));
  killAtExit(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk));
  await eventually(() => said.includes('listening'), 'a node that listens');
  child.kill('SIGHUP');
  // Signals are handled in order. If the first signal had ended the node, the log would name it.
  child.kill('SIGTERM');
  assert.deepEqual(await ended, { code: 0, signal: null }, said);
  assert.match(said, /signal="SIGTERM"/);
});

test('the version and build_info tell the commit, and /metrics what the process takes', async () => {
  const { stdout } = await runCommand(['--version']);
  const [, version, commit] = stdout.match(/^slotcast (\S+) \(([0-9a-f]{7,}\+?|unknown)\)\n$/) ?? [];
  assert.ok(version, stdout);
  const node = await startSlotcast();
  try {
    const metrics = await (await fetch(`http://127.0.0.1:${node.adminPort}/metrics`)).text();
    assert.ok(metrics.includes(`slotcast_build_info{commit="${commit}",version="${version}"} 1`), metrics.slice(0, 500));
    for (const name of ['resident_memory_bytes', 'cpu_seconds_total', 'open_fds', 'start_time_seconds']) {
      assert.match(metrics, new RegExp(`^process_${name} [0-9.e+]+$`, 'm'));
    }
  } finally {
    await node.stop();
  }
});

test('no level of the log shows a token', async () => {
  const node = await startSlotcast({ settings: { SLOTCAST_LOG: 'trace' } });
  const [user, staff] = [userToken(7), staffToken()];
  const signature = (token) => token.split('.')[2];
  try {
    for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
      const client = node.connect({ token: user, transports });
      await client.connected();
      assert.equal((await client.call('refresh_token', { token: userToken(7, { nbf: 1 }) })).ok, true);
      client.close();
    }
    const byQuery = node.connect({ query: { token: user } });
    await byQuery.connected();
    await node.caller(user).post('/api/slots/1/hold', freshSpace().body());
    await node.caller(staff).get('/api/stats');
    await node.caller(`${user}x`).get('/api/holds');
    const log = await eventually(() => node.log().includes('a token was refused') && node.log(), 'a refused token');
    for (const token of [user, staff, userToken(7, { nbf: 1 })]) {
      assert.ok(!log.includes(signature(token)), log.split('\n').find((line) => line.includes(signature(token))));
      assert.ok(!log.includes(token.split('.')[1]), 'nor what is signed');
    }
  } finally {
    await node.stop();
  }
});

test('users are logged as numbers or as a digest that is the same on every node, or as the operator says', async () => {
  const mail = 'anna@example.org';
  const seen = async (settings) => {
    const node = await startSlotcast({ settings });
    try {
      for (const user of [7, mail]) {
        const client = await node.user(user);
        assert.equal((await client.call('join_space', freshSpace().event())).ok, true);
        await node.staffCaller().post(`/api/users/${encodeURIComponent(user)}/notify`, { event: 'avviso', data: {} });
        await client.first('avviso');
      }
      const log = await eventually(() => (node.log().match(/joined/g) ?? []).length >= 2 && node.log(), 'both joined');
      return { log, ids: [...new Set(log.match(/user\.id=\S+/g))] };
    } finally {
      await node.stop();
    }
  };
  const byDefault = await seen({});
  assert.ok(!byDefault.log.includes('anna'), 'no address is logged');
  const [number, digest] = byDefault.ids;
  assert.equal(number, 'user.id=7');
  assert.match(digest, /^user\.id=digest-[0-9a-f]{16}$/);
  assert.deepEqual((await seen({})).ids, byDefault.ids, 'under the same secret');
  assert.deepEqual((await seen({ SLOTCAST_LOG_USERS: 'plain' })).ids, ['user.id=7', `user.id=${mail}`]);
  assert.deepEqual((await seen({ SLOTCAST_LOG_USERS: 'none' })).ids, ['user.id=-']);
  const all = (await seen({ SLOTCAST_LOG_USERS: 'digest' })).ids;
  assert.equal(all.length, 2);
  assert.equal(all[1], digest);
  assert.match(all[0], /digest-/);
  assert.notEqual((await seen({ JWT_SECRET: undefined, SLOTCAST_LOG_USERS: 'x' }).catch(() => ({ ids: [] }))).ids[1], digest);
});

test('a day that is an hour shorter has its slots, the last one shorter, and none after closing', async () => {
  const node = await startSlotcast({ settings: { SLOTCAST_MAX_DAYS: '3650' } });
  const board = async (schedule, date) => {
    const space = freshSpace({ date });
    assert.equal((await node.staffCaller().put(space.path, schedule)).status, 200);
    const { slots } = await node.board(space);
    return { space, starts: slots.map(({ orario }) => orario) };
  };
  try {
    const [rome, spring, autumn] = ['Europe/Rome', ...changesOfTheClock()];
    for (const [opens, closes, slotMinutes, starts] of [
      ['00:00', '24:00', 1440, ['00:00']],
      ['00:00', '08:00', 480, ['00:00']],
      ['00:00', '24:00', 720, ['00:00', '13:00']],
      ['00:00', '02:30', 30, ['00:00', '00:30', '01:00', '01:30']],
      ['02:30', '05:00', 30, ['03:00', '03:30', '04:00', '04:30']],
    ]) {
      const { space, starts: seen } = await board({ timezone: rome, opens, closes, slotMinutes }, spring);
      assert.deepEqual(seen, starts, `${opens}-${closes} / ${slotMinutes}`);
      const booked = await node.staffCaller().put(`/api/slots/${starts.length}`, space.body({ status: 'booked' }));
      assert.equal(booked.status, 200, booked.text);
    }
    const whole = { opens: '00:00', closes: '24:00' };
    assert.equal((await board({ ...whole, timezone: rome, slotMinutes: 60 }, spring)).starts.length, 23);
    assert.equal((await board({ ...whole, timezone: rome, slotMinutes: 60 }, autumn)).starts.length, 25);
  } finally {
    await node.stop();
  }
});

/** The next days on which Rome puts its clock forward, and back. */
function changesOfTheClock() {
  const hours = (offset) => {
    const zone = (date) =>
      new Intl.DateTimeFormat('en-US', { timeZone: 'Europe/Rome', timeZoneName: 'longOffset' })
        .format(new Date(`${date}T00:00:00Z`))
        .slice(-5, -3);
    return Number(zone(day(offset + 1))) - Number(zone(day(offset)));
  };
  // From one last Sunday of a month to that of the next year it is 364 or 371 days.
  const next = (change) => day(Array.from({ length: 371 }, (_, index) => index + 1).find((offset) => hours(offset) === change));
  return [next(1), next(-1)];
}
