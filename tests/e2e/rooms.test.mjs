// Rooms of spaces: joining, leaving, live updates, snapshots, and catching up by version.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { TRANSPORTS } from './lib/client.mjs';
import { TIMESTAMP, day, freshNumber, freshSpace, range, timeless, versions } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';

const slotcast = await startSlotcast({ settings: { SLOTCAST_USER_RATE: '0' } });
after(() => slotcast.stop());

const staff = slotcast.staffCaller();

/** Makes `count` changes to a space, and gives the last answer's data. */
async function change(space, count = 1, slot = 1) {
  let data;
  for (let index = 0; index < count; index += 1) {
    const answer = await staff.put(`/api/slots/${slot}`, space.body({ status: index % 2 ? 'available' : 'blocked' }));
    assert.equal(answer.status, 200, answer.text);
    data = answer.data;
  }
  return data;
}

for (const [name, transports] of Object.entries(TRANSPORTS)) {
  describe(`over ${name}`, () => {
    test('joining answers with the room and where the space stands', async () => {
      const space = freshSpace();
      const client = await slotcast.user(7, { transports });
      const joined = await client.join(space);
      assert.deepEqual(Object.keys(joined).sort(), [
        'epoch',
        'recovered',
        'room',
        'sedeId',
        'spazioId',
        'timestamp',
        'version',
      ]);
      assert.equal(joined.room, space.room);
      assert.equal(joined.spazioId, space.number);
      assert.equal(joined.sedeId, space.site);
      assert.match(joined.timestamp, TIMESTAMP);
      assert.equal(typeof joined.epoch, 'string');
      assert.equal(joined.version, (await slotcast.board(space)).version);
      assert.equal(joined.recovered, false);
    });

    test('a board is shown whole, however much data its slots carry', async () => {
      const space = freshSpace();
      const spec = { opens: '00:00', closes: '24:00', slotMinutes: 30 };
      assert.equal((await staff.put(space.path, spec)).status, 200);
      // Together this is nearly as much data as a day may have.
      const data = { note: 'x'.repeat(5_400) };
      for (const slot of range(1, 48)) {
        const { status, text } = await staff.put(`/api/slots/${slot}`, space.body({ status: 'blocked', data }));
        assert.equal(status, 200, text);
      }
      const client = await slotcast.user(7, { transports });
      await client.join(space, { date: space.date });
      const snapshot = await client.first('slots_status_update');
      assert.deepEqual(snapshot.slotsStatus.map(({ note }) => note?.length), range(1, 48).map(() => 5_400));
      const changed = await change(space);
      await client.first('slot_update', ({ version }) => version === changed.version);
      assert.deepEqual(client.disconnects, []);
      client.close();
    });

    test('a change reaches the room with exactly the fields of the contract', async () => {
      const space = freshSpace();
      const client = await slotcast.user(7, { transports });
      const joined = await client.join(space);
      const held = await slotcast.userCaller(8).post('/api/slots/3/hold', space.body());
      assert.equal(held.status, 200, held.text);
      const update = await client.first('slot_update');
      assert.match(update.timestamp, TIMESTAMP);
      assert.deepEqual(update, {
        type: 'slot_update',
        slotId: 3,
        status: 'occupied',
        data: {
          id: 3,
          id_slot: 3,
          spazioId: space.number,
          sedeId: space.site,
          date: space.date,
          orario: '11:00',
          status: 'occupied',
          held_until: held.data.heldUntil,
          expires_at: held.data.heldUntil,
        },
        timestamp: update.timestamp,
        epoch: joined.epoch,
        version: joined.version + 1,
      });
      assert.doesNotMatch(JSON.stringify(client.events), /id_utente|holdToken/);
    });

    test('leaving is confirmed, and updates end', async () => {
      const [left, kept] = [freshSpace(), freshSpace()];
      const client = await slotcast.user(7, { transports });
      await client.join(left);
      await client.join(kept);
      client.emit('leave_space', { spazioId: left.number, sedeId: left.site });
      const confirmed = await client.first('left_space');
      assert.deepEqual(Object.keys(confirmed).sort(), ['room', 'sedeId', 'spazioId', 'timestamp']);
      assert.equal(confirmed.room, left.room);
      await change(left);
      await change(kept);
      await client.first('slot_update', (update) => update.data.spazioId === kept.number);
      assert.equal((await client.call('sync', kept.event())).ok, true);
      assert.deepEqual(client.all('slot_update').map((update) => update.data.spazioId), [kept.number]);
    });

    test('since replays exactly what was missed, then nothing', async () => {
      const space = freshSpace();
      const { epoch, version } = await change(space, 2);
      await change(space, 5);
      const client = await slotcast.user(7, { transports });
      const joined = await client.join(space, { since: { epoch, version } });
      assert.equal(joined.recovered, true);
      assert.equal(joined.version, version + 5);
      await change(space);
      const updates = await client.many('slot_update', 6);
      assert.deepEqual(versions(updates), range(version + 1, version + 6));
      assert.deepEqual(client.all('slots_status_update'), [], 'a replay comes without a snapshot');
      assert.ok(updates.every((update) => update.epoch === epoch));
    });
  });
}

test('ids are taken as numbers and as strings of digits, and sent as numbers', async () => {
  const client = await slotcast.user(7);
  const spazioId = freshNumber();
  const acknowledged = await client.call('join_space', { spazioId: String(spazioId), sedeId: '1' });
  assert.equal(acknowledged.ok, true, JSON.stringify(acknowledged));
  const joined = await client.first('joined_space');
  assert.strictEqual(joined.spazioId, spazioId);
  assert.strictEqual(joined.sedeId, 1);
});

test('joining with a date brings the snapshot of that day after joined_space', async () => {
  const space = freshSpace();
  await slotcast.userCaller(8).post('/api/slots/hold', space.body({ slots: [1, 2] }));
  await slotcast.userCaller(8).post('/api/slots/2/book', space.body());
  await change(space, 1, 9);
  const client = await slotcast.user(7);
  const joined = await client.join(space, { date: space.date });
  const snapshot = await client.first('slots_status_update');
  assert.deepEqual(client.events.map((event) => event.name), [
    'connection_confirmed',
    'joined_space',
    'slots_status_update',
  ]);
  assert.deepEqual(Object.keys(snapshot).sort(), [
    'date',
    'epoch',
    'sedeId',
    'slotsStatus',
    'spazioId',
    'timeZone',
    'timestamp',
    'type',
    'version',
  ]);
  assert.equal(snapshot.type, 'slots_status_update');
  assert.equal(snapshot.spazioId, space.number);
  assert.equal(snapshot.sedeId, space.site);
  assert.equal(snapshot.date, space.date);
  assert.equal(snapshot.epoch, joined.epoch);
  assert.equal(snapshot.version, joined.version);
  const [occupied, booked, free] = snapshot.slotsStatus.map(timeless);
  assert.match(occupied.held_until, TIMESTAMP);
  assert.deepEqual(occupied, {
    id_slot: 1,
    orario: '09:00',
    status: 'occupied',
    title: 'Slot occupato',
    held_until: occupied.held_until,
    expires_at: occupied.held_until,
  });
  assert.deepEqual(booked, { id_slot: 2, orario: '10:00', status: 'booked', title: 'Slot prenotato' });
  assert.deepEqual(free, { id_slot: 3, orario: '11:00', status: 'available', title: 'Slot disponibile' });
  assert.deepEqual(timeless(snapshot.slotsStatus.at(-1)), {
    id_slot: 9,
    orario: '17:00',
    status: 'blocked',
    title: 'Slot chiuso',
  });
  assert.equal(snapshot.slotsStatus.length, 9);
});

test('joining without date and since brings no snapshot', async () => {
  const space = freshSpace();
  const client = await slotcast.user(7);
  await client.join(space);
  await change(space);
  await client.first('slot_update');
  assert.deepEqual(client.all('slots_status_update'), []);
});

test('since the newest version brings nothing', async () => {
  const space = freshSpace();
  const { epoch, version } = await change(space);
  const client = await slotcast.user(7);
  const joined = await client.join(space, { date: space.date, since: { epoch, version } });
  assert.equal(joined.recovered, true);
  await change(space);
  await client.first('slot_update');
  assert.deepEqual(versions(client.all('slot_update')), [version + 1]);
  assert.deepEqual(client.all('slots_status_update'), []);
});

test('since another epoch, or a version not reached yet, brings a snapshot', async () => {
  const space = freshSpace();
  const { epoch, version } = await change(space);
  for (const since of [{ epoch: 'another', version }, { epoch, version: version + 1 }]) {
    const client = await slotcast.user(7);
    const joined = await client.join(space, { date: space.date, since });
    assert.equal(joined.recovered, false, JSON.stringify(since));
    const snapshot = await client.first('slots_status_update');
    assert.equal(snapshot.epoch, epoch);
    assert.equal(snapshot.version, version);
    assert.deepEqual(client.all('slot_update'), []);
  }
});

test('since before what the log keeps brings a snapshot under the same epoch', async () => {
  const space = freshSpace();
  await staff.put(space.path, { opens: '00:00', closes: '24:00', slotMinutes: 15 });
  const { epoch, version } = await change(space, 1, 96);
  const user = slotcast.userCaller(7);
  const slots = range(1, 32);
  for (let changes = 0; changes <= 1024; changes += 64) {
    assert.equal((await user.post('/api/slots/hold', space.body({ slots }))).status, 200);
    assert.equal((await user.post('/api/slots/release', space.body({ slots }))).status, 200);
  }
  const head = (await slotcast.board(space)).version;
  const late = await slotcast.user(8);
  assert.equal((await late.join(space, { date: space.date, since: { epoch, version } })).recovered, false);
  const snapshot = await late.first('slots_status_update');
  assert.equal(snapshot.epoch, epoch);
  assert.equal(snapshot.version, head);
  assert.deepEqual(late.all('slot_update'), []);

  const within = await slotcast.user(8);
  const since = { epoch, version: head - 1024 };
  assert.equal((await within.join(space, { date: space.date, since })).recovered, true);
  assert.deepEqual(versions(await within.many('slot_update', 1024)), range(head - 1023, head));
  assert.deepEqual(within.all('slots_status_update'), []);
});

test('sync brings the day that is asked for, and since works as in joining', async () => {
  const space = freshSpace();
  const { epoch, version } = await change(space, 3);
  const client = await slotcast.user(7);
  await client.join(space);
  const other = day(9);
  assert.equal((await client.call('sync', space.event({ date: other }))).ok, true);
  assert.equal((await client.first('slots_status_update')).date, other);
  client.forget();
  const acknowledged = await client.call('sync', space.event({ since: { epoch, version: version - 2 } }));
  assert.equal(acknowledged.ok, true);
  assert.deepEqual(versions(await client.many('slot_update', 2)), [version - 1, version]);
  assert.deepEqual(client.all('slots_status_update'), []);
});

test('sync of a space that was not joined changes no membership', async () => {
  const [joined, synced] = [freshSpace(), freshSpace()];
  const client = await slotcast.user(7);
  await client.join(joined);
  await client.call('sync', synced.event());
  await change(synced);
  await change(joined);
  await client.first('slot_update', (update) => update.data.spazioId === joined.number);
  assert.deepEqual(client.all('slot_update').map((update) => update.data.spazioId), [joined.number]);
});

test('many changes at once reach every socket in version order, once, without a gap', async () => {
  const space = freshSpace();
  const watchers = [];
  for (const transports of Object.values(TRANSPORTS)) {
    watchers.push(await slotcast.user(7, { transports }), await slotcast.user(7, { transports }));
  }
  const starts = await Promise.all(watchers.map((watcher) => watcher.join(space)));
  const callers = range(1, 9).map((slot) => [slot, slotcast.userCaller(100 + slot)]);
  await Promise.all(
    callers.map(async ([slot, caller]) => {
      for (let round = 0; round < 10; round += 1) {
        assert.equal((await caller.post(`/api/slots/${slot}/hold`, space.body())).status, 200);
        assert.equal((await caller.post(`/api/slots/${slot}/release`, space.body())).status, 200);
      }
    }),
  );
  const head = (await slotcast.board(space)).version;
  assert.equal(head, starts[0].version + 180);
  for (const watcher of watchers) {
    const updates = await watcher.many('slot_update', 180);
    assert.deepEqual(versions(updates), range(starts[0].version + 1, head));
  }
});

test('a socket that joins while changes run starts with no gap after joined_space', async () => {
  const space = freshSpace();
  const caller = slotcast.userCaller(8);
  let running = true;
  const changes = (async () => {
    while (running) {
      await caller.post('/api/slots/1/hold', space.body());
      await caller.post('/api/slots/1/release', space.body());
    }
  })();
  const clients = await Promise.all(range(1, 20).map((user) => slotcast.user(200 + user)));
  const starts = await Promise.all(clients.map((client) => client.join(space, { date: space.date })));
  running = false;
  await changes;
  const head = (await change(space)).version;
  for (const [index, client] of clients.entries()) {
    await client.first('slot_update', (update) => update.version === head);
    assert.deepEqual(versions(client.all('slot_update')), range(starts[index].version + 1, head));
    assert.equal(client.all('slots_status_update')[0].version, starts[index].version);
  }
});

test('two sockets of one user each hear the room, and closing one leaves the other', async () => {
  const space = freshSpace();
  const [first, second] = [await slotcast.user(7), await slotcast.user(7)];
  await first.join(space);
  await second.join(space);
  await change(space);
  await first.first('slot_update');
  await second.first('slot_update');
  first.close();
  const { version } = await change(space);
  await second.first('slot_update', (update) => update.version === version);
});

test('joining twice is joining once', async () => {
  const space = freshSpace();
  const client = await slotcast.user(7);
  await client.join(space);
  await client.join(space);
  const { version } = await change(space, 2);
  await client.first('slot_update', (update) => update.version === version);
  assert.deepEqual(versions(client.all('slot_update')), [version - 1, version]);
});

test('leaving a room that was not joined does no harm', async () => {
  const client = await slotcast.user(7);
  const answer = await client.call('leave_space', { spazioId: freshNumber(), sedeId: 1 });
  assert.equal(typeof answer.ok, 'boolean');
  assert.equal((await client.call('join_space', { spazioId: freshNumber(), sedeId: 1 })).ok, true);
});

test('a token with sedi enters only these', async () => {
  const client = slotcast.connect({ token: userToken(7, { sedi: [1, 3] }) });
  await client.connected();
  assert.equal((await client.call('join_space', { spazioId: freshNumber(), sedeId: 3 })).ok, true);
  const refused = await client.call('join_space', { spazioId: freshNumber(), sedeId: 2 });
  assert.equal(refused.ok, false);
  assert.equal(refused.error.code, 'forbidden');
  client.emit('join_space', { spazioId: freshNumber(), sedeId: 2 });
  const error = await client.first('space_error');
  assert.deepEqual(Object.keys(error).sort(), ['code', 'detail', 'event', 'message']);
  assert.equal(error.event, 'join_space');
  assert.equal(error.code, 'forbidden');
});

test('staff sends the board of a day to the room', async () => {
  const space = freshSpace();
  const client = await slotcast.user(7);
  await client.join(space);
  const outside = await slotcast.user(8);
  const date = day(11);
  assert.equal((await staff.post(`${space.path}/broadcast`, { date })).status, 200);
  const snapshot = await client.first('slots_status_update');
  assert.equal(snapshot.date, date);
  assert.equal(snapshot.slotsStatus.length, 9);
  assert.deepEqual(outside.all('slots_status_update'), []);
  const refused = await slotcast.userCaller(7).post(`${space.path}/broadcast`, { date });
  assert.equal(refused.status, 403);
  assert.equal(refused.body.code, 'forbidden');
});

test('an unregistered space does not exist where the catalog is closed', async () => {
  const closed = await startSlotcast({ settings: { SLOTCAST_OPEN_CATALOG: 'false' } });
  try {
    const space = freshSpace();
    const client = await closed.user(7);
    const refusals = [
      (await client.call('join_space', { spazioId: space.number, sedeId: 1 })).error.code,
      (await client.call('hold_slot', space.event({ slots: [1] }))).error.code,
      (await closed.caller().get(space.boardPath())).body.code,
      (await closed.userCaller(7).post('/api/slots/1/hold', space.body())).body.code,
    ];
    assert.deepEqual(refusals, Array(4).fill('space_not_found'));
    assert.equal((await closed.staffCaller().put(space.path, { name: 'Sala' })).status, 200);
    assert.equal((await client.call('join_space', { spazioId: space.number, sedeId: 1 })).ok, true);
  } finally {
    await closed.stop();
  }
});
