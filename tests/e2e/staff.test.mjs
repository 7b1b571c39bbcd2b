// Staff updates with data, and what each role may do.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { freshNumber, freshSpace, range, timeless, versions } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { signToken, staffToken, userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const staff = slotcast.staffCaller();

/** JSON that a parser with floats or sorted maps would change. */
const DIGITS = '{"z":1.0,"a":1e2,"big":123456789012345678901234567890,"tiny":1E-7,"neg":-0.0,"s":"è 🦀 \\u00e8","n":null,"deep":{"y":[1.50,{"x":2.0}],"b":true}}';

/** The members of DIGITS as they must appear in any answer. */
const MEMBERS = DIGITS.slice(1, -1);

test('staff sets a status, and the answer tells the version', async () => {
  const space = freshSpace();
  const { version } = await slotcast.board(space);
  for (const [index, status] of ['blocked', 'booked', 'available'].entries()) {
    const answer = await staff.put('/api/slots/1', space.body({ status }));
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(answer.data, { slotId: 1, status, epoch: answer.data.epoch, version: version + index + 1 });
    assert.equal((await slotcast.entry(space, 1)).status, status);
  }
});

test('an update that changes nothing takes a version and is broadcast all the same', async () => {
  const space = freshSpace();
  const client = await slotcast.user(7);
  const { version } = await client.join(space);
  for (let time = 0; time < 3; time += 1) await staff.put('/api/slots/1', space.body({ status: 'available' }));
  assert.deepEqual(versions(await client.many('slot_update', 3)), range(version + 1, version + 3));
});

test('staff takes a slot from its holder, who then holds nothing', async () => {
  const space = freshSpace();
  const user = slotcast.userCaller(freshNumber());
  await user.post('/api/slots/1/hold', space.body());
  assert.equal((await staff.put('/api/slots/1', space.body({ status: 'blocked' }))).status, 200);
  assert.equal((await user.post('/api/slots/1/book', space.body())).body.code, 'not_held');
  assert.equal((await slotcast.entry(space, 1)).status, 'blocked');
});

test('data passes through digit for digit: in the update, the snapshot and the board', async () => {
  const space = freshSpace();
  const client = await slotcast.user(7);
  await client.join(space);
  const body = JSON.stringify(space.body({ status: 'blocked' })).replace(/\}$/, `,"data":${DIGITS}}`);
  const put = await staff.put('/api/slots/4', body);
  assert.equal(put.status, 200, put.text);
  await client.first('slot_update');
  await client.call('sync', space.event());
  await client.first('slots_status_update');
  const frame = (name) => client.frames.find((text) => text.startsWith(`2["${name}"`));
  assert.ok(frame('slot_update').includes(MEMBERS), frame('slot_update'));
  assert.ok(frame('slots_status_update').includes(MEMBERS), frame('slots_status_update'));
  const board = await slotcast.caller().get(space.boardPath());
  assert.ok(board.text.includes(MEMBERS), board.text);
  const polling = await slotcast.user(8, { transports: ['polling'] });
  await polling.join(space, { date: space.date });
  await polling.first('slots_status_update');
  assert.ok(polling.frames.some((text) => text.includes(MEMBERS)), 'over polling too');
});

test('data cannot override a key of the protocol', async () => {
  const space = freshSpace();
  const client = await slotcast.user(7);
  await client.join(space);
  const data = {
    id: 99,
    id_slot: 99,
    spazioId: 99,
    sedeId: 99,
    date: '1999-01-01',
    orario: '00:00',
    status: 'available',
    title: 'x',
    held_until: 'x',
    expires_at: 'x',
    mine: true,
    id_utente: 99,
    minutes_remaining: 99,
    nota: 'resta',
  };
  assert.equal((await staff.put('/api/slots/2', space.body({ status: 'booked', data }))).status, 200);
  const update = await client.first('slot_update');
  assert.deepEqual(update.data, {
    id: 2,
    id_slot: 2,
    spazioId: space.number,
    sedeId: space.site,
    date: space.date,
    orario: '10:00',
    status: 'booked',
    nota: 'resta',
  });
  assert.deepEqual(timeless(await slotcast.entry(space, 2)), {
    id_slot: 2,
    orario: '10:00',
    status: 'booked',
    title: 'Slot prenotato',
    nota: 'resta',
  });
  const text = client.frames.find((frame) => frame.startsWith('2["slot_update"'));
  assert.equal(text.match(/"status"/g).length, 2, 'no key is there twice');
});

test('data stays until the next change of the slot', async () => {
  const space = freshSpace();
  const put = (more) => staff.put('/api/slots/1', space.body(more));
  await put({ status: 'available', data: { nota: 'promozione' } });
  assert.equal((await slotcast.entry(space, 1)).nota, 'promozione');
  await slotcast.userCaller(freshNumber()).post('/api/slots/2/hold', space.body());
  assert.equal((await slotcast.entry(space, 1)).nota, 'promozione', 'a change of another slot leaves it');
  await slotcast.userCaller(freshNumber()).post('/api/slots/1/hold', space.body());
  assert.equal('nota' in (await slotcast.entry(space, 1)), false);
  await put({ status: 'blocked', data: { nota: 'lavori' } });
  await put({ status: 'blocked' });
  assert.equal('nota' in (await slotcast.entry(space, 1)), false);
});

test('only staff updates slots, and only to the three statuses', async () => {
  const space = freshSpace();
  for (const caller of [slotcast.userCaller(7), slotcast.userCaller(7, { ruolo: 'cliente' })]) {
    const refused = await caller.put('/api/slots/1', space.body({ status: 'blocked' }));
    assert.equal(refused.status, 403, refused.text);
    assert.equal(refused.body.code, 'forbidden');
  }
  assert.equal((await slotcast.caller().put('/api/slots/1', space.body({ status: 'blocked' }))).status, 401);
  for (const status of ['occupied', 'past', 'free', '', null, 1, undefined]) {
    const refused = await staff.put('/api/slots/1', space.body({ status }));
    assert.equal(refused.status, 400, refused.text);
    assert.equal(refused.body.code, 'malformed');
  }
  for (const data of [[], 'text', 1, true]) {
    const refused = await staff.put('/api/slots/1', space.body({ status: 'blocked', data }));
    assert.equal(refused.body.code, 'malformed', JSON.stringify(data));
  }
  assert.equal((await slotcast.entry(space, 1)).status, 'available');
});

test('every staff role updates slots, a responsabile only within its sedi', async () => {
  const space = freshSpace({ site: 5 });
  const put = (caller) => caller.put('/api/slots/1', space.body({ status: 'blocked' }));
  for (const role of ['gestore', 'amministratore', 'admin', 'servizio']) {
    assert.equal((await put(slotcast.staffCaller(role))).status, 200, role);
  }
  assert.equal((await put(slotcast.staffCaller('responsabile', { sedi: [4, 5] }))).status, 200);
  for (const claims of [{ sedi: [4] }, { sedi: [] }, {}]) {
    const refused = await put(slotcast.staffCaller('responsabile', claims));
    assert.equal(refused.status, 403, JSON.stringify(claims));
    assert.equal(refused.body.code, 'forbidden');
  }
  const elsewhere = await put(slotcast.staffCaller('gestore', { sedi: [4] }));
  assert.equal(elsewhere.status, 403, 'sedi bind every role');
});

test('a responsabile registers spaces and sends boards within its sedi only', async () => {
  const responsabile = slotcast.staffCaller('responsabile', { sedi: [5] });
  const [own, other] = [freshSpace({ site: 5 }), freshSpace({ site: 6 })];
  assert.equal((await responsabile.put(own.path, { name: 'Sala' })).status, 200);
  assert.equal((await responsabile.put(other.path, { name: 'Sala' })).status, 403);
  assert.equal((await responsabile.post(`${own.path}/broadcast`, { date: own.date })).status, 200);
  assert.equal((await responsabile.post(`${other.path}/broadcast`, { date: own.date })).status, 403);
  assert.equal((await responsabile.get(`${other.path}/changes?epoch=x&version=0`)).status, 403);
  assert.equal((await responsabile.delete(other.path)).status, 403);
  assert.equal((await responsabile.post('/api/broadcast', { event: 'avviso', data: {} })).status, 403);
});

test('what is for staff is refused to users and strangers', async () => {
  const space = freshSpace();
  const calls = [
    ['PUT', '/api/slots/1', space.body({ status: 'blocked' })],
    ['PUT', space.path, { name: 'x' }],
    ['DELETE', space.path],
    ['GET', `${space.path}/changes?epoch=x&version=0`],
    ['POST', `${space.path}/broadcast`, { date: space.date }],
    ['POST', '/api/users/7/notify', { event: 'avviso', data: {} }],
    ['POST', '/api/users/7/disconnect'],
    ['POST', '/api/broadcast', { event: 'avviso', data: {} }],
    ['POST', '/api/sweep'],
    ['GET', '/api/stats'],
  ];
  for (const [method, path, body] of calls) {
    const byUser = await slotcast.userCaller(freshNumber()).call(method, path, body);
    assert.equal(byUser.status, 403, `${method} ${path}: ${byUser.text}`);
    assert.equal(byUser.body.code, 'forbidden');
    const byStranger = await slotcast.caller().call(method, path, body);
    assert.equal(byStranger.status, 401, `${method} ${path}: ${byStranger.text}`);
    assert.equal(byStranger.body.code, 'unauthorized');
  }
});

test('staff with sedi are staff there only, in every call', async () => {
  const own = freshSpace({ site: 5 });
  for (const role of ['responsabile', 'gestore', 'amministratore', 'admin', 'servizio']) {
    const bound = slotcast.staffCaller(role, { sedi: [5] });
    for (const [method, path, body] of [
      ['get', '/api/stats'],
      ['post', '/api/broadcast', { event: 'avviso', data: {} }],
      ['post', '/api/users/7/notify', { event: 'avviso', data: {} }],
      ['post', '/api/users/7/disconnect', {}],
      ['post', '/api/sweep', {}],
      ['put', '/api/slots/1', freshSpace({ site: 6 }).body({ status: 'blocked' })],
      ['put', freshSpace({ site: 6 }).path, { name: 'Sala' }],
      ['post', `${freshSpace({ site: 6 }).path}/broadcast`, { date: own.date }],
    ]) {
      const answer = await bound[method](path, body);
      assert.equal(answer.status, 403, `${role} ${path}: ${answer.text}`);
      assert.equal(answer.body.code, 'forbidden');
    }
    assert.equal((await bound.put('/api/slots/1', own.body({ status: 'blocked' }))).status, 200, role);
    const client = slotcast.connect({ token: staffToken(role, { sedi: [5] }) });
    await client.connected();
    assert.equal((await client.call('watch_stats', {})).error.code, 'forbidden', role);
    client.close();
  }
});

test('a token whose sedi restrict nothing by a slip is refused', async () => {
  const exp = Math.floor(Date.now() / 1000) + 3600;
  for (const claims of [
    { id_utente: 7, exp, sedi: null },
    { id_utente: 7, exp, nbf: null },
    [exp, null, 7, 'admin', null],
    [exp, null, 7, 'admin', [1]],
    [],
  ]) {
    const token = signToken(claims);
    const refused = await slotcast.caller(token).get('/api/holds');
    assert.equal(refused.status, 401, JSON.stringify(claims));
    const client = slotcast.connect({ token });
    assert.equal(await client.refused(), 'Token non valido', JSON.stringify(claims));
  }
});

test('a socket whose token has sedi hears of slots freed there only', async () => {
  const [here, there] = [freshSpace({ site: 5 }), freshSpace({ site: 6 })];
  const bound = slotcast.connect({ token: userToken(71, { sedi: [5] }) });
  const elsewhere = slotcast.connect({ token: userToken(72, { sedi: [99] }) });
  const free = await slotcast.user(73);
  await Promise.all([bound.connected(), elsewhere.connected()]);
  const holder = slotcast.userCaller(74);
  for (const [space, slots] of [[here, [1, 2]], [there, [3]]]) {
    assert.equal((await holder.post('/api/slots/hold', space.body({ slots, holdSeconds: 1 }))).status, 200);
  }
  const numbers = (client) => client.all('slots_freed').flatMap(({ spaces }) => spaces.map(({ spazioId }) => spazioId));
  await eventually(() => [here, there].every(({ number }) => numbers(free).includes(number)), 'both are heard of');
  // A broadcast that is sent afterwards arrives afterwards.
  assert.equal((await slotcast.staffCaller().post('/api/broadcast', { event: 'fine', data: {} })).status, 200);
  await Promise.all([bound.first('fine'), elsewhere.first('fine')]);
  assert.deepEqual(numbers(bound), [here.number]);
  assert.equal(bound.all('slots_freed').reduce((sum, { count }) => sum + count, 0), 2);
  assert.deepEqual(elsewhere.all('slots_freed'), []);
});
