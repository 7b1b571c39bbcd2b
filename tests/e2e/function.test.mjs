// The scheduled function's binary, asked as the platform asks it, on a Redis that it shares with a node.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { freshSpace } from './lib/fixtures.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { FUNCTION_URL, SCHEDULED, startFunction } from './lib/runtime_api.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { sweepByCommand, undisturbed } from './lib/stalls.mjs';
import { eventually, sleep, within } from './lib/waiting.mjs';

const redis = await startRedis();
// The node frees nothing itself, so the function has freed every freed slot.
const slotcast = await startSlotcast({ settings: { REDIS_URL: redis.url, SLOT_TIMER_INTERVAL: '0' } });
const lambda = await startFunction({ REDIS_URL: redis.url });

after(async () => {
  await lambda.stop();
  await slotcast.stop();
  await redis.kill();
});

/** Holds slots for a second, and waits until the second has passed. */
async function leaveEndedHolds(space, slots, node = slotcast) {
  const held = await node.userCaller(7).settled.post('/api/slots/hold', space.body({ slots, holdSeconds: 1 }));
  assert.equal(held.status, 200, held.text);
  await sleep(Math.max(0, Date.parse(held.data.heldUntil) - Date.now()) + 20);
}

/** The report of a sweep. An earlier sweep that failed may have freed holds that are in no report. */
function assertReport(report, { freed, spaces }, failed = 0) {
  assert.deepEqual(Object.keys(report).sort(), ['freed', 'oldestLateMs', 'spaces', 'tookMs']);
  if (failed > 0) assert.ok(report.freed <= freed && report.spaces <= spaces, JSON.stringify(report));
  else assert.deepEqual([report.freed, report.spaces], [freed, spaces]);
}

test('the first answer comes soon after the start', async (t) => {
  const started = await startFunction({ REDIS_URL: redis.url });
  try {
    const answer = await started.sweep();
    assert.equal(answer.outcome, 'response', answer.text);
    t.diagnostic(`from the start of the process to its first answer: ${(answer.at - started.startedAt).toFixed(1)} ms`);
  } finally {
    await started.stop();
  }
});

test('a schedule frees what has ended, and the clients of nodes hear of it', async () => {
  const space = freshSpace();
  const client = await slotcast.user(8);
  await client.join(space);
  await leaveEndedHolds(space, [1, 2]);
  const answer = await lambda.sweep();
  assert.equal(answer.outcome, 'response', answer.text);
  assertReport(answer.json, { freed: 2, spaces: 1 }, answer.failed);
  assert.ok(answer.json.oldestLateMs > 0 || answer.failed > 0, answer.text);
  assert.equal((await client.first('slot_update', (update) => update.status === 'available')).slotId, 1);
  const freed = await client.first('slots_freed');
  assert.deepEqual([freed.count, freed.spaces[0].slots], [2, [1, 2]]);
  assert.equal((await slotcast.entry(space, 1)).status, 'available');
  assertReport((await lambda.sweep()).json, { freed: 0, spaces: 0 });
});

test('an HTTP event is answered with 200 and the report', async () => {
  await leaveEndedHolds(freshSpace(), [3]);
  const { outcome, json, text, failed } = await lambda.sweep(FUNCTION_URL);
  assert.deepEqual([outcome, json.statusCode, json.headers['content-type']], ['response', 200, 'application/json'], text);
  assertReport(JSON.parse(json.body), { freed: 1, spaces: 1 }, failed);
});

test('what is not JSON is a failed invocation, and the next one is served', async () => {
  assert.equal((await lambda.invoke('not json')).outcome, 'error');
  assert.equal((await lambda.sweep()).outcome, 'response');
});

test('invocations share one connection, and a lost one is made again', async () => {
  const connectionsMade = async () => Number(/total_connections_received:(\d+)/.exec(await redis.command('INFO', 'stats'))[1]);
  const measure = async () => {
    await lambda.sweep();
    const before = await connectionsMade();
    for (let round = 0; round < 5; round += 1) assert.equal((await lambda.sweep()).outcome, 'response');
    return (await connectionsMade()) - before;
  };
  // The connection that asks this question.
  assert.equal(await undisturbed([slotcast, { log: () => lambda.log }], measure), 1);

  // The platform may freeze the process between two invocations for longer than the network remembers its connections.
  lambda.child.kill('SIGSTOP');
  await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
  lambda.child.kill('SIGCONT');
  const thawed = await lambda.sweep();
  assert.equal(thawed.outcome, 'response', thawed.text);
});

test('a store that does not answer fails the invocation before the platform would end it', async () => {
  const goOn = redis.freeze();
  try {
    const answer = await lambda.invoke(SCHEDULED, { timeout: 10_000 });
    assert.equal(answer.outcome, 'error', answer.text);
    assert.equal(answer.json.errorType, 'SweepFailed');
    assert.ok(answer.timeLeft > 0, `${answer.timeLeft} ms left`);
  } finally {
    goOn();
  }
});

test('without Redis a schedule fails, a call is 503, and both work again with it', async () => {
  await redis.kill();
  const failed = await lambda.invoke(SCHEDULED);
  assert.equal(failed.outcome, 'error', failed.text);
  assert.equal(failed.json.errorType, 'SweepFailed');
  const refused = await lambda.invoke(FUNCTION_URL);
  assert.deepEqual([refused.outcome, refused.json.statusCode], ['response', 503], refused.text);
  assert.deepEqual(Object.keys(JSON.parse(refused.json.body)).sort(), ['code', 'detail', 'error', 'success']);
  assert.equal(JSON.parse(refused.json.body).code, 'unavailable');
  await redis.start();
  await eventually(async () => (await lambda.invoke(SCHEDULED)).outcome === 'response', 'a sweep after the outage');
});

test('logs are JSON, name the request, and have no secret', async () => {
  await redis.command('ACL', 'SETUSER', 'sweeper', 'on', '>a-password-for-redis', '+@all', '~*', '&*');
  const url = `redis://sweeper:a-password-for-redis@127.0.0.1:${redis.port}`;
  const started = await startFunction({ REDIS_URL: url, SLOTCAST_LOG: 'debug' });
  try {
    const first = await started.sweep();
    assert.equal(first.outcome, 'response');
    await redis.command('ACL', 'SETUSER', 'sweeper', 'resetpass', '>another');
    await redis.command('CLIENT', 'KILL', 'USER', 'sweeper');
    const refused = await started.invoke(SCHEDULED);
    assert.equal(refused.outcome, 'error', refused.text);
    const swept = started.lines().find((line) => line.message === 'swept');
    assert.equal(swept?.span?.requestId, `request-${1 + first.failed}`, started.log);
    assert.doesNotMatch(started.log + refused.text, /a-password-for-redis/);
  } finally {
    await started.stop();
  }
});

/** Lets a user do everything except INFO. Gives the address to use. */
async function uninformedUrl() {
  await redis.command('ACL', 'SETUSER', 'uninformed', 'on', '>pw', '+@all', '-info', '~*', '&*');
  return `redis://uninformed:pw@127.0.0.1:${redis.port}`;
}

test('where INFO is refused in scripts to all, the function and the command sweep all the same', async () => {
  const settings = { REDIS_URL: await uninformedUrl(), SLOTCAST_REDIS_PREFIX: 'uninformed' };
  const node = await startSlotcast({ settings: { ...settings, SLOT_TIMER_INTERVAL: '0' } });
  const started = await startFunction(settings);
  try {
    await leaveEndedHolds(freshSpace(), [1], node);
    const answer = await started.sweep();
    assert.equal(answer.outcome, 'response', answer.text);
    assertReport(answer.json, { freed: 1, spaces: 1 }, answer.failed);
    await leaveEndedHolds(freshSpace(), [1, 2], node);
    const { failed, ...report } = await sweepByCommand({ ...settings, JWT_SECRET: undefined });
    assertReport(report, { freed: 2, spaces: 1 }, failed);
  } finally {
    await started.stop();
    await node.stop();
  }
});

test('where INFO is refused to the function alone, it frees nothing and says what to allow', async () => {
  const space = freshSpace();
  const started = await startFunction({ REDIS_URL: await uninformedUrl() });
  try {
    await leaveEndedHolds(space, [1]);
    const { version } = await slotcast.board(space);
    const answer = await started.sweep();
    assert.equal(answer.outcome, 'error', answer.text);
    assert.match(answer.text, /may not use INFO.*ACL SETUSER <user> \+info/);
    assert.equal((await slotcast.board(space)).version, version);
  } finally {
    await started.stop();
  }
  const swept = await lambda.sweep();
  assertReport(swept.json, { freed: 1, spaces: 1 }, swept.failed);
});

for (const [name, settings, expected] of [
  ['without REDIS_URL', {}, /REDIS_URL must be set/],
  ['with a REDIS_URL of another kind', { REDIS_URL: 'http://:geheim@cache' }, /REDIS_URL must be SCHEME:\/\/HOST:PORT/],
]) {
  test(`${name} the start fails, and the platform is told why`, async () => {
    const started = await startFunction(settings);
    const { json, text } = await within(started.failedStart, () => `a failed start (log: ${started.log})`);
    assert.match(json.errorMessage, expected);
    assert.equal(json.errorType, 'Runtime.FailedStart');
    assert.deepEqual(await within(started.exited, 'the end of the function'), { code: 1, signal: null });
    assert.match(started.log, expected);
    assert.doesNotMatch(started.log + text, /geheim/);
    await started.stop();
  });
}
