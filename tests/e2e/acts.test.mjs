// Holding, booking, releasing and extending: over HTTP and by event, with repeats, keys and refusals.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { TIMESTAMP, freshNumber, freshSpace, range, timeless, versions } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

/** A user that no other test has, so that no limit is shared. */
function freshUser() {
  const id = freshNumber();
  return { id, http: slotcast.userCaller(id), connect: () => slotcast.user(id) };
}

function assertRefused(answer, status, code, conflicts) {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.body.success, false);
  assert.equal(answer.body.code, code);
  assert.ok(answer.body.error.length > 0);
  assert.deepEqual(answer.body.conflicts, conflicts);
}

/** A watcher in the space's room. */
async function watch(space) {
  const watcher = await slotcast.user(freshNumber());
  const { version } = await watcher.join(space);
  return { watcher, version };
}

/** The events that the watcher got. A last change of another slot shows that all of them have arrived. */
async function updatesUntilNow(watcher, space, slot = 9) {
  const { data } = await slotcast.staffCaller().put(`/api/slots/${slot}`, space.body({ status: 'blocked' }));
  await watcher.first('slot_update', (update) => update.version === data.version);
  return watcher.all('slot_update').filter((update) => update.version < data.version);
}

describe('over HTTP', () => {
  test('a slot is held, extended, booked, and each act tells its version', async () => {
    const space = freshSpace();
    const user = freshUser();
    const { watcher, version } = await watch(space);
    const before = Date.now();

    const held = await user.http.post('/api/slots/2/hold', space.body({ holdSeconds: 600 }));
    assert.equal(held.status, 200, held.text);
    assert.equal(held.body.success, true);
    assert.deepEqual(Object.keys(held.data).sort(), [
      'epoch',
      'expires_at',
      'heldUntil',
      'holdToken',
      'slotId',
      'status',
      'version',
    ]);
    assert.strictEqual(held.data.slotId, 2);
    assert.equal(held.data.status, 'occupied');
    assert.match(held.data.heldUntil, TIMESTAMP);
    assert.equal(held.data.expires_at, held.data.heldUntil);
    assert.equal(held.data.version, version + 1);
    const lasts = Date.parse(held.data.heldUntil) - before;
    assert.ok(lasts >= 600_000 - 1 && lasts < 600_000 + 30_000, `a hold of 600 s ends after ${lasts} ms`);

    const extended = await user.http.post('/api/slots/2/extend', space.body({ holdSeconds: 900 }));
    assert.equal(extended.status, 200, extended.text);
    assert.deepEqual(Object.keys(extended.data).sort(), Object.keys(held.data).sort());
    assert.equal(extended.data.holdToken, held.data.holdToken);
    assert.equal(extended.data.version, version + 2);
    assert.ok(extended.data.heldUntil > held.data.heldUntil);

    const booked = await user.http.post('/api/slots/2/book', space.body({ holdToken: held.data.holdToken }));
    assert.equal(booked.status, 200, booked.text);
    assert.deepEqual(booked.data, { slotId: 2, status: 'booked', epoch: held.data.epoch, version: version + 3 });

    const updates = await updatesUntilNow(watcher, space);
    assert.deepEqual(versions(updates), range(version + 1, version + 3));
    assert.deepEqual(updates.map((update) => update.status), ['occupied', 'occupied', 'booked']);
    assert.equal(updates[1].data.held_until, extended.data.heldUntil);
    assert.equal('held_until' in updates[2].data, false);
  });

  test('a held slot is released and free for the next', async () => {
    const space = freshSpace();
    const [first, second] = [freshUser(), freshUser()];
    const held = await first.http.post('/api/slots/1/hold', space.body());
    const released = await first.http.post('/api/slots/1/release', space.body());
    assert.deepEqual(released.data, {
      slotId: 1,
      status: 'available',
      epoch: held.data.epoch,
      version: held.data.version + 1,
    });
    assert.equal((await second.http.post('/api/slots/1/hold', space.body())).status, 200);
  });

  test('the board shows own slots as mine to a user, whose they are to staff, and neither to others', async () => {
    const space = freshSpace();
    const [user, other] = [freshUser(), freshUser()];
    const held = await user.http.post('/api/slots/1/hold', space.body({ holdSeconds: 300 }));
    await user.http.post('/api/slots/2/hold', space.body());
    await user.http.post('/api/slots/2/book', space.body());

    const anyone = await slotcast.caller().get(space.boardPath());
    assert.equal(anyone.status, 200);
    assert.deepEqual(Object.keys(anyone.data).sort(), [
      'count',
      'date',
      'epoch',
      'idSpazio',
      'sedeId',
      'slots',
      'timeZone',
      'timestamp',
      'version',
    ]);
    assert.strictEqual(anyone.data.idSpazio, space.number);
    assert.strictEqual(anyone.data.sedeId, space.site);
    assert.equal(anyone.data.date, space.date);
    assert.equal(anyone.data.count, 9);
    assert.equal(anyone.data.slots.length, 9);
    assert.deepEqual(timeless(anyone.data.slots[0]), {
      id_slot: 1,
      orario: '09:00',
      status: 'occupied',
      title: 'Slot occupato',
      held_until: held.data.heldUntil,
      expires_at: held.data.heldUntil,
      minutes_remaining: 5,
    });
    assert.deepEqual(timeless(anyone.data.slots[1]), {
      id_slot: 2,
      orario: '10:00',
      status: 'booked',
      title: 'Slot prenotato',
    });
    assert.doesNotMatch(anyone.text, /mine|id_utente/);

    const own = (await user.http.get(space.boardPath())).data.slots;
    assert.deepEqual(own.map((entry) => entry.mine), [true, true, ...Array(7).fill(undefined)]);
    assert.doesNotMatch(JSON.stringify(own), /id_utente/);
    assert.doesNotMatch((await other.http.get(space.boardPath())).text, /mine|id_utente/);

    const staffs = (await slotcast.staffCaller().get(space.boardPath())).data.slots;
    assert.deepEqual(staffs.map((entry) => entry.id_utente), [user.id, user.id, ...Array(7).fill(undefined)]);
  });

  test('a user sees own live holds with token and end', async () => {
    const space = freshSpace();
    const user = freshUser();
    assert.equal((await user.http.get('/api/holds')).status, 200);
    const held = await user.http.post('/api/slots/hold', space.body({ slots: [4, 5] }));
    const holds = await user.http.get('/api/holds');
    assert.equal(holds.status, 200);
    assert.ok(holds.text.includes(held.data.holdToken), holds.text);
    assert.ok(holds.text.includes(held.data.heldUntil), holds.text);
    const others = await freshUser().http.get('/api/holds');
    assert.doesNotMatch(others.text, new RegExp(held.data.holdToken));
    await user.http.post('/api/slots/release', space.body({ slots: [4, 5] }));
    assert.doesNotMatch((await user.http.get('/api/holds')).text, new RegExp(held.data.holdToken));
  });

  test('several slots are taken in one act, one update a slot in ascending order', async () => {
    const space = freshSpace();
    const user = freshUser();
    const { watcher, version } = await watch(space);
    const held = await user.http.post('/api/slots/hold', space.body({ slots: [5, 3, 4] }));
    assert.equal(held.status, 200, held.text);
    assert.deepEqual(Object.keys(held.data).sort(), [
      'epoch',
      'expires_at',
      'heldUntil',
      'holdToken',
      'slots',
      'status',
      'version',
    ]);
    assert.deepEqual([...held.data.slots].sort(), [3, 4, 5]);
    assert.equal(held.data.version, version + 3);
    const extended = await user.http.post('/api/slots/extend', space.body({ slots: [3, 4, 5], holdSeconds: 60 }));
    assert.equal(extended.data.version, version + 6);
    const booked = await user.http.post('/api/slots/book', space.body({ slots: [3, 5] }));
    assert.equal(booked.data.version, version + 8);
    const released = await user.http.post('/api/slots/release', space.body({ slots: [4] }));
    assert.equal(released.data.version, version + 9);

    const updates = await updatesUntilNow(watcher, space);
    assert.deepEqual(versions(updates), range(version + 1, version + 9));
    assert.deepEqual(updates.map((update) => update.slotId), [3, 4, 5, 3, 4, 5, 3, 5, 4]);
  });

  test('an act on several slots takes all or none, and names what stood in the way', async () => {
    const space = freshSpace();
    const [first, second] = [freshUser(), freshUser()];
    await first.http.post('/api/slots/hold', space.body({ slots: [2, 4] }));
    const { version } = await slotcast.board(space);
    assertRefused(
      await second.http.post('/api/slots/hold', space.body({ slots: [1, 2, 3, 4] })),
      409,
      'slot_unavailable',
      [2, 4],
    );
    assertRefused(await first.http.post('/api/slots/book', space.body({ slots: [1, 2] })), 404, 'not_held', [1]);
    assertRefused(await first.http.post('/api/slots/release', space.body({ slots: [4, 5] })), 404, 'not_held', [5]);
    const board = await slotcast.board(space);
    assert.equal(board.version, version, 'a refused act writes nothing');
    assert.equal(board.slots[0].status, 'available');
  });

  test('what others hold, booked or closed is refused', async () => {
    const space = freshSpace();
    const [owner, other] = [freshUser(), freshUser()];
    await owner.http.post('/api/slots/1/hold', space.body());
    await owner.http.post('/api/slots/2/hold', space.body());
    await owner.http.post('/api/slots/2/book', space.body());
    await slotcast.staffCaller().put('/api/slots/3', space.body({ status: 'blocked' }));
    for (const slot of [1, 2, 3]) {
      const answer = await other.http.post(`/api/slots/${slot}/hold`, space.body());
      assert.equal(answer.status, 409, answer.text);
      assert.equal(answer.body.code, 'slot_unavailable');
      for (const act of ['book', 'release', 'extend']) {
        const refused = await other.http.post(`/api/slots/${slot}/${act}`, space.body());
        assert.equal(refused.status, 404, refused.text);
        assert.equal(refused.body.code, 'not_held');
      }
    }
    const rebooked = await owner.http.post('/api/slots/2/release', space.body());
    assert.equal(rebooked.body.code, 'not_held', 'a user does not release what is booked');
  });

  test('a holdToken must be the one of the hold', async () => {
    const space = freshSpace();
    const user = freshUser();
    const held = await user.http.post('/api/slots/1/hold', space.body());
    for (const act of ['book', 'release', 'extend']) {
      const answer = await user.http.post(`/api/slots/1/${act}`, space.body({ holdToken: 'f'.repeat(32) }));
      assert.equal(answer.status, 410, answer.text);
      assert.equal(answer.body.code, 'hold_expired');
    }
    const { holdToken } = held.data;
    assert.equal((await user.http.post('/api/slots/1/book', space.body({ holdToken }))).status, 200);
  });

  test('a repeated hold or book answers as the first time and emits nothing', async () => {
    const space = freshSpace();
    const user = freshUser();
    const { watcher, version } = await watch(space);
    const held = await user.http.post('/api/slots/hold', space.body({ slots: [1, 2] }));
    const again = await user.http.post('/api/slots/hold', space.body({ slots: [2, 1] }));
    assert.equal(again.status, 200, again.text);
    assert.deepEqual({ ...again.data, slots: [] }, { ...held.data, slots: [] });
    const booked = await user.http.post('/api/slots/book', space.body({ slots: [1, 2] }));
    const bookedAgain = await user.http.post('/api/slots/book', space.body({ slots: [1, 2] }));
    assert.deepEqual(bookedAgain.data, booked.data);
    assert.deepEqual(versions(await updatesUntilNow(watcher, space)), range(version + 1, version + 4));
  });

  test('a hold of some own slots and others is refused with the own ones as conflicts', async () => {
    const space = freshSpace();
    const user = freshUser();
    await user.http.post('/api/slots/hold', space.body({ slots: [1, 2] }));
    for (const [slots, conflicts] of [[[1, 2, 3], [1, 2]], [[2, 3], [2]], [[1], [1]]]) {
      assertRefused(await user.http.post('/api/slots/hold', space.body({ slots })), 409, 'slot_unavailable', conflicts);
    }
  });

  test('a second release is not_held', async () => {
    const space = freshSpace();
    const user = freshUser();
    await user.http.post('/api/slots/1/hold', space.body());
    assert.equal((await user.http.post('/api/slots/1/release', space.body())).status, 200);
    assertRefused(await user.http.post('/api/slots/1/release', space.body()), 404, 'not_held', [1]);
  });

  test('an act without a token is unauthorized', async () => {
    const space = freshSpace();
    for (const act of ['hold', 'book', 'release', 'extend']) {
      for (const token of [undefined, 'nonsense']) {
        assertRefused(await slotcast.caller(token).post(`/api/slots/1/${act}`, space.body()), 401, 'unauthorized');
      }
    }
    assertRefused(await slotcast.caller().get('/api/holds'), 401, 'unauthorized');
  });

  test('a user whose sedi leave a site out does not act there', async () => {
    const space = freshSpace({ site: 2 });
    const elsewhere = slotcast.userCaller(freshNumber(), { sedi: [1] });
    assertRefused(await elsewhere.post('/api/slots/1/hold', space.body()), 403, 'forbidden');
    const here = slotcast.userCaller(freshNumber(), { sedi: ['2'] });
    assert.equal((await here.post('/api/slots/1/hold', space.body())).status, 200);
  });
});

describe('with an Idempotency-Key', () => {
  test('the same call is answered as the first time, also when the state has moved on', async () => {
    const space = freshSpace();
    const user = freshUser();
    const key = { 'idempotency-key': 'key-1' };
    const held = await user.http.post('/api/slots/1/hold', space.body(), key);
    assert.equal(held.status, 200, held.text);
    await user.http.post('/api/slots/1/release', space.body());
    const { version } = await slotcast.board(space);
    const again = await user.http.post('/api/slots/1/hold', space.body(), key);
    assert.equal(again.status, 200, again.text);
    assert.deepEqual(again.data, held.data);
    const board = await slotcast.board(space);
    assert.equal(board.version, version, 'nothing was done again');
    assert.equal(board.slots[0].status, 'available');
  });

  test('extend and release repeat as the first time', async () => {
    const space = freshSpace();
    const user = freshUser();
    await user.http.post('/api/slots/1/hold', space.body({ holdSeconds: 60 }));
    const extend = () => user.http.post('/api/slots/1/extend', space.body(), { 'idempotency-key': 'e' });
    assert.deepEqual((await extend()).data, (await extend()).data);
    const release = () => user.http.post('/api/slots/1/release', space.body(), { 'idempotency-key': 'r' });
    const released = await release();
    const again = await release();
    assert.equal(again.status, 200, again.text);
    assert.deepEqual(again.data, released.data);
  });

  test('another body under the same key is idempotency_mismatch', async () => {
    const space = freshSpace();
    const user = freshUser();
    const key = { 'idempotency-key': 'key-2' };
    await user.http.post('/api/slots/1/hold', space.body(), key);
    assertRefused(await user.http.post('/api/slots/2/hold', space.body(), key), 422, 'idempotency_mismatch');
    const other = await freshUser().http.post('/api/slots/2/hold', space.body(), key);
    assert.equal(other.status, 200, 'a key is one user\'s');
  });

  test('a refusal is not stored', async () => {
    const space = freshSpace();
    const [owner, user] = [freshUser(), freshUser()];
    await owner.http.post('/api/slots/1/hold', space.body());
    const key = { 'idempotency-key': 'key-3' };
    assertRefused(await user.http.post('/api/slots/1/hold', space.body(), key), 409, 'slot_unavailable', [1]);
    await owner.http.post('/api/slots/1/release', space.body());
    assert.equal((await user.http.post('/api/slots/1/hold', space.body(), key)).status, 200);
  });

  test('the same key sent many times at once acts once', async () => {
    const space = freshSpace();
    const user = freshUser();
    const { watcher, version } = await watch(space);
    const call = () => user.http.post('/api/slots/1/hold', space.body(), { 'idempotency-key': 'at-once' });
    const answers = await Promise.all(range(1, 20).map(call));
    for (const answer of answers) {
      assert.equal(answer.status, 200, answer.text);
      assert.deepEqual(answer.data, answers[0].data);
    }
    assert.deepEqual(versions(await updatesUntilNow(watcher, space)), [version + 1]);
  });
});

describe('by event', () => {
  test('the acknowledgement has the fields of the HTTP answer', async () => {
    const space = freshSpace();
    const { watcher, version } = await watch(space);
    const client = await freshUser().connect();
    const held = await client.call('hold_slot', space.event({ slots: [2, 1], holdSeconds: 300 }));
    assert.equal(held.ok, true, JSON.stringify(held));
    assert.deepEqual(Object.keys(held).sort(), [
      'epoch',
      'expires_at',
      'heldUntil',
      'holdToken',
      'ok',
      'slots',
      'status',
      'version',
    ]);
    assert.equal(held.version, version + 2);
    const { holdToken } = held;
    const extended = await client.call('extend_hold', space.event({ slots: [1, 2], holdToken, holdSeconds: 600 }));
    assert.equal(extended.ok, true);
    assert.ok(extended.heldUntil > held.heldUntil);
    const booked = await client.call('book_slot', space.event({ slots: [1], holdToken }));
    assert.deepEqual(booked, { ok: true, slots: [1], status: 'booked', epoch: held.epoch, version: version + 5 });
    const released = await client.call('release_slot', space.event({ slots: [2] }));
    assert.deepEqual(released, {
      ok: true,
      slots: [2],
      status: 'available',
      epoch: held.epoch,
      version: version + 6,
    });
    assert.deepEqual(versions(await updatesUntilNow(watcher, space)), range(version + 1, version + 6));
  });

  test('a refusal is acknowledged with code, message and conflicts', async () => {
    const space = freshSpace();
    const [owner, other] = [await freshUser().connect(), await freshUser().connect()];
    await owner.call('hold_slot', space.event({ slots: [1, 2] }));
    const refused = await other.call('hold_slot', space.event({ slots: [2, 3] }));
    assert.deepEqual(Object.keys(refused).sort(), ['error', 'ok']);
    assert.equal(refused.ok, false);
    assert.deepEqual(Object.keys(refused.error).sort(), ['code', 'conflicts', 'detail', 'message']);
    assert.equal(refused.error.code, 'slot_unavailable');
    assert.deepEqual(refused.error.conflicts, [2]);
    assert.equal((await other.call('book_slot', space.event({ slots: [1] }))).error.code, 'not_held');
    assert.equal((await other.call('extend_hold', space.event({ slots: [1] }))).error.code, 'not_held');
    assert.equal((await other.call('release_slot', space.event({ slots: [1] }))).error.code, 'not_held');
    const wrongToken = await owner.call('book_slot', space.event({ slots: [1], holdToken: 'x' }));
    assert.equal(wrongToken.error.code, 'hold_expired');
  });

  test('without an acknowledgement a refusal is a space_error', async () => {
    const space = freshSpace();
    const client = await freshUser().connect();
    client.emit('release_slot', space.event({ slots: [1] }));
    const error = await client.first('space_error');
    assert.deepEqual(Object.keys(error).sort(), ['code', 'detail', 'event', 'message']);
    assert.equal(error.event, 'release_slot');
    assert.equal(error.code, 'not_held');
    assert.equal(typeof error.message, 'string');
  });

  test('an act without an acknowledgement is done, and its success is the update', async () => {
    const space = freshSpace();
    const client = await freshUser().connect();
    await client.join(space);
    client.emit('hold_slot', space.event({ slots: [1] }));
    client.emit('book_slot', space.event({ slots: [1] }));
    const updates = await client.many('slot_update', 2);
    assert.deepEqual(updates.map((update) => update.status), ['occupied', 'booked']);
    assert.deepEqual(client.all('space_error'), []);
  });

  test('events of one socket take effect in the order in which they were sent', async () => {
    const space = freshSpace();
    const client = await freshUser().connect();
    const answers = [];
    for (let round = 0; round < 10; round += 1) {
      answers.push(client.call('hold_slot', space.event({ slots: [1] })));
      answers.push(client.call('release_slot', space.event({ slots: [1] })));
    }
    const done = await Promise.all(answers);
    assert.ok(done.every((answer) => answer.ok), JSON.stringify(done.find((answer) => !answer.ok)));
    assert.deepEqual(versions(done), range(done[0].version, done[0].version + 19));
  });

  test('an unknown event is refused with unknown_event', async () => {
    const client = await freshUser().connect();
    const refused = await client.call('make_coffee', {});
    assert.equal(refused.ok, false);
    assert.equal(refused.error.code, 'unknown_event');
    client.emit('make_tea', { sugar: 2 });
    const error = await client.first('space_error');
    assert.equal(error.event, 'make_tea');
    assert.equal(error.code, 'unknown_event');
  });
});

describe('for a user, by the role servizio', () => {
  test('a service holds, extends, books and releases for a user', async () => {
    const space = freshSpace();
    const user = freshUser();
    const service = slotcast.staffCaller('servizio');
    const body = (more) => space.body({ id_utente: user.id, ...more });
    const held = await service.post('/api/slots/1/hold', body());
    assert.equal(held.status, 200, held.text);
    assert.equal((await user.http.get(space.boardPath())).data.slots[0].mine, true);
    assert.ok((await user.http.get('/api/holds')).text.includes(held.data.holdToken));
    assert.equal((await service.post('/api/slots/1/extend', body({ holdSeconds: 60 }))).status, 200);
    assert.equal((await service.post('/api/slots/1/book', body())).status, 200);
    const staffs = await slotcast.staffCaller().get(space.boardPath());
    assert.equal(staffs.data.slots[0].id_utente, user.id);
    assert.equal((await service.post('/api/slots/hold', body({ slots: [2, 3] }))).status, 200);
    assert.equal((await service.post('/api/slots/release', body({ slots: [2, 3] }))).status, 200);
  });

  test('a service books or releases what anybody holds', async () => {
    const space = freshSpace();
    const [first, second] = [freshUser(), freshUser()];
    await first.http.post('/api/slots/1/hold', space.body());
    await second.http.post('/api/slots/2/hold', space.body());
    const service = slotcast.staffCaller('servizio');
    assert.equal((await service.post('/api/slots/book', space.body({ slots: [1, 2] }))).status, 200);
    assert.equal((await first.http.get(space.boardPath())).data.slots[0].mine, true);
    assert.equal((await service.post('/api/slots/1/release', space.body())).status, 200);
    assert.equal((await slotcast.entry(space, 1)).status, 'available');
  });

  test('a service naming the wrong user does not touch what another holds', async () => {
    const space = freshSpace();
    await freshUser().http.post('/api/slots/1/hold', space.body());
    const service = slotcast.staffCaller('servizio');
    const refused = await service.post('/api/slots/1/book', space.body({ id_utente: freshNumber() }));
    assert.equal(refused.body.code, 'not_held');
  });

  test('nobody else acts for a user', async () => {
    const space = freshSpace();
    const victim = freshUser();
    for (const caller of [freshUser().http, slotcast.staffCaller('gestore')]) {
      await caller.post('/api/slots/1/hold', space.body({ id_utente: victim.id }));
    }
    assert.notEqual((await victim.http.get(space.boardPath())).data.slots[0].mine, true);
    assert.doesNotMatch((await victim.http.get('/api/holds')).text, /holdToken/);
  });
});

test('500 users who hold the same slot at once: one gets it, and one update tells', async () => {
  const space = freshSpace();
  const { watcher, version } = await watch(space);
  const callers = range(1, 500).map((index) => slotcast.userCaller(50_000 + index));
  // A busy machine may not begin with some of the calls in time. These calls are repeated.
  const answers = await Promise.all(callers.map((caller) => caller.settled.post('/api/slots/1/hold', space.body())));
  const count = (status) => answers.filter((answer) => answer.status === status).length;
  assert.deepEqual({ taken: count(200), refused: count(409) }, { taken: 1, refused: 499 });
  for (const answer of answers.filter(({ status }) => status === 409)) {
    assertRefused(answer, 409, 'slot_unavailable', [1]);
  }
  assert.deepEqual(versions(await updatesUntilNow(watcher, space)), [version + 1]);
});
