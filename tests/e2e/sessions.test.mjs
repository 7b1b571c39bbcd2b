// The life of a token on a live connection: warned, replaced, and ended.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { freshNumber, freshSpace } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { secondsNow, userToken } from './lib/tokens.mjs';
import { sleep } from './lib/waiting.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const staff = slotcast.staffCaller();

// These tests mostly wait, so they run at the same time.
describe('the end of a token', { concurrency: true }, () => {
  test('a token that ends soon is warned of at once, and its socket ends ten seconds after it', async () => {
    const exp = secondsNow() + 3;
    const client = slotcast.connect({ token: userToken(7, { exp }) });
    await client.connected();
    assert.deepEqual(await client.first('token_expiring'), { expiresAt: new Date(exp * 1000).toISOString() });
    assert.equal(await client.disconnected(60_000), 'io server disconnect');
    assert.ok(Date.now() >= (exp + 10) * 1000 - 50, 'not before ten seconds after its end');
    assert.equal(client.all('token_expiring').length, 1, 'warned once');
  });

  test('a refreshed token keeps the connection beyond the first one\'s end', async () => {
    const user = freshNumber();
    const exp = secondsNow() + 1;
    const client = slotcast.connect({ token: userToken(user, { exp }) });
    await client.connected();
    await client.first('token_expiring');
    const answer = await client.call('refresh_token', { token: userToken(user) });
    assert.equal(answer.ok, true, JSON.stringify(answer));
    await sleep((exp + 12) * 1000 - Date.now());
    assert.deepEqual(client.disconnects, []);
    assert.equal((await client.call('join_space', { spazioId: freshNumber(), sedeId: 1 })).ok, true);
  });
});

test('a token with more than a minute left is not warned of', async () => {
  const client = await slotcast.user(7);
  await client.join(freshSpace());
  assert.deepEqual(client.all('token_expiring'), []);
});

test('a refresh to another user, or with a bad token, is refused and the connection stays', async () => {
  const user = freshNumber();
  const client = await slotcast.user(user);
  for (const token of [userToken(freshNumber()), userToken(user, { exp: secondsNow() - 60 }), 'x', '', 7, null]) {
    const answer = await client.call('refresh_token', { token });
    assert.equal(answer.ok, false, JSON.stringify(token));
    assert.ok(['unauthorized', 'forbidden', 'malformed'].includes(answer.error.code), answer.error.code);
  }
  client.emit('refresh_token', { token: userToken(freshNumber()) });
  assert.equal((await client.first('space_error')).event, 'refresh_token');
  assert.equal((await client.call('hold_slot', freshSpace().event({ slots: [1] }))).ok, true);
});

test('a refresh with fewer sedi leaves the rooms that are no longer allowed', async () => {
  const user = freshNumber();
  const [lost, kept] = [freshSpace({ site: 1 }), freshSpace({ site: 2 })];
  const client = await slotcast.user(user);
  const control = await slotcast.user(freshNumber());
  await client.join(lost);
  await client.join(kept);
  await control.join(lost);
  assert.equal((await client.call('refresh_token', { token: userToken(user, { sedi: [2] }) })).ok, true);
  await staff.put('/api/slots/1', lost.body({ status: 'blocked' }));
  await control.first('slot_update');
  await staff.put('/api/slots/1', kept.body({ status: 'blocked' }));
  await client.first('slot_update', (update) => update.data.sedeId === 2);
  assert.equal((await client.call('sync', kept.event())).ok, true);
  assert.deepEqual(client.all('slot_update').map((update) => update.data.sedeId), [2]);
  assert.equal((await client.call('join_space', lost.event())).error.code, 'forbidden');
  assert.equal((await client.call('hold_slot', lost.event({ slots: [2] }))).error.code, 'forbidden');
});

test('a refresh may bring another role', async () => {
  const user = freshNumber();
  const client = await slotcast.user(user);
  assert.equal((await client.call('watch_stats', {})).error.code, 'forbidden');
  const answer = await client.call('refresh_token', { token: userToken(user, { ruolo: 'gestore' }) });
  assert.equal(answer.ok, true);
  assert.equal((await client.call('watch_stats', {})).ok, true);
});
