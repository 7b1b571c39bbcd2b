// The catalog: registering, changing and removing spaces, their days, and the log of their changes.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { day, freshNumber, freshSpace, range, versions } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';

const slotcast = await startSlotcast({ settings: { SLOTCAST_MAX_DAYS: '800' } });
after(() => slotcast.stop());

const staff = slotcast.staffCaller();

const SCHEDULE = {
  name: 'Sala riunioni',
  timezone: 'Europe/Rome',
  opens: '08:00',
  closes: '20:00',
  slotMinutes: 30,
  closures: [{ weekday: 'sunday' }, '2099-12-25', { from: '2099-08-10', to: '2099-08-21' }],
};

/** The first day of `month` or later, in the coming years, that `matches`. */
function firstDay(matches) {
  for (let offset = 2; offset < 790; offset += 1) {
    const date = new Date(Date.now() + offset * 86_400_000);
    if (matches(date)) return date.toISOString().slice(0, 10);
  }
  throw new Error('no such day');
}

/** The last Sunday of a month, which changes the clocks of Europe in March (3) and October (10). */
const isClockChange = (month) => (date) =>
  date.getUTCMonth() === month - 1 && date.getUTCDay() === 0 && date.getUTCDate() > 24;

test('a space is registered, read by anyone, and its days follow its schedule', async () => {
  const space = freshSpace();
  const put = await staff.put(space.path, SCHEDULE);
  assert.equal(put.status, 200, put.text);
  const read = await slotcast.caller().get(space.path);
  assert.equal(read.status, 200, read.text);
  for (const [key, value] of Object.entries(SCHEDULE)) assert.deepEqual(read.data[key], value, key);
  const weekday = firstDay((date) => date.getUTCDay() === 3);
  const board = await slotcast.board(space, { date: weekday });
  assert.equal(board.count, 24);
  assert.deepEqual([board.slots[0].orario, board.slots[1].orario, board.slots[23].orario], ['08:00', '08:30', '19:30']);
  const sunday = await slotcast.board(space, { date: firstDay((date) => date.getUTCDay() === 0) });
  assert.equal(sunday.count, 0);
  assert.deepEqual(sunday.slots, []);
});

test('an absent field has the default schedule\'s value', async () => {
  const space = freshSpace();
  assert.equal((await staff.put(space.path, { slotMinutes: 90 })).status, 200);
  const { data } = await slotcast.caller().get(space.path);
  assert.equal(data.timezone, 'Europe/Rome');
  assert.equal(data.opens, '09:00');
  assert.equal(data.closes, '18:00');
  assert.equal(data.slotMinutes, 90);
  assert.equal((await slotcast.board(space)).count, 6);
});

test('the days of the clock change have 23 and 25 hours, and nine is nine on both', async () => {
  const always = freshSpace();
  await staff.put(always.path, { opens: '00:00', closes: '24:00' });
  const spring = await slotcast.board(always, { date: firstDay(isClockChange(3)) });
  assert.equal(spring.count, 23);
  assert.deepEqual(spring.slots.slice(0, 4).map((entry) => entry.orario), ['00:00', '01:00', '03:00', '04:00']);
  const autumn = await slotcast.board(always, { date: firstDay(isClockChange(10)) });
  assert.equal(autumn.count, 25);
  assert.deepEqual(autumn.slots.slice(0, 5).map((entry) => entry.orario), ['00:00', '01:00', '02:00', '02:00', '03:00']);
  const plain = freshSpace();
  for (const month of [3, 10]) {
    const board = await slotcast.board(plain, { date: firstDay(isClockChange(month)) });
    assert.equal(board.count, 9);
    assert.equal(board.slots[0].orario, '09:00');
  }
});

test('a change of the schedule takes a version and sends snapshots to the room', async () => {
  const space = freshSpace();
  const client = await slotcast.user(7);
  const { version, epoch } = await client.join(space, { date: space.date });
  await client.first('slots_status_update');
  client.forget();
  await staff.put(space.path, { slotMinutes: 30 });
  const snapshot = await client.first('slots_status_update');
  assert.equal(snapshot.epoch, epoch);
  assert.equal(snapshot.version, version + 1);
  assert.equal(snapshot.slotsStatus.length, 18);
  const held = await slotcast.userCaller(8).post('/api/slots/18/hold', space.body());
  assert.equal(held.data.version, version + 2);
  const update = await client.first('slot_update');
  assert.equal(update.version, version + 2);
  assert.equal(update.data.orario, '17:30');
});

test('a change that moves or removes a taken slot of the future is space_in_use', async () => {
  const user = slotcast.userCaller(freshNumber());
  const take = {
    occupied: (space) => user.post('/api/slots/9/hold', space.body()),
    booked: (space) => staff.put('/api/slots/9', space.body({ status: 'booked' })),
    blocked: (space) => staff.put('/api/slots/9', space.body({ status: 'blocked' })),
  };
  for (const [status, act] of Object.entries(take)) {
    const space = freshSpace();
    assert.equal((await act(space)).status, 200);
    const { version } = await slotcast.board(space);
    const changes = [{ slotMinutes: 30 }, { opens: '10:00' }, { closes: '17:00' }, { closures: [space.date] }];
    for (const change of changes) {
      const refused = await staff.put(space.path, change);
      assert.equal(refused.status, 409, `${status} ${JSON.stringify(change)}: ${refused.text}`);
      assert.equal(refused.body.code, 'space_in_use');
    }
    assert.equal((await slotcast.board(space)).version, version);
    for (const change of [{ name: 'Altro nome' }, { closes: '19:00' }]) {
      const taken = await staff.put(space.path, change);
      assert.equal(taken.status, 200, `${status} ${JSON.stringify(change)}: ${taken.text}`);
    }
  }
});

test('a removed space is as if it was never registered, but its version goes on', async () => {
  const space = freshSpace();
  await staff.put(space.path, { slotMinutes: 30 });
  const { version, epoch } = await slotcast.board(space);
  const removed = await staff.delete(space.path);
  assert.equal(removed.status, 200, removed.text);
  const board = await slotcast.board(space);
  assert.equal(board.epoch, epoch);
  assert.equal(board.version, version + 1);
  assert.equal(board.count, 9);
  await staff.put(space.path, { slotMinutes: 30 });
  assert.equal((await slotcast.board(space)).version, version + 2);
});

test('removing a space with a taken slot of the future is space_in_use', async () => {
  const space = freshSpace();
  await staff.put(space.path, { slotMinutes: 30 });
  await slotcast.userCaller(freshNumber()).post('/api/slots/18/hold', space.body());
  const refused = await staff.delete(space.path);
  assert.equal(refused.status, 409, refused.text);
  assert.equal(refused.body.code, 'space_in_use');
});

test('a schedule that does not hold together is malformed, and names the field', async () => {
  const space = freshSpace();
  const bad = {
    timezone: [{ timezone: 'Europe/Atlantis' }, { timezone: '' }, { timezone: 7 }],
    opens: [{ opens: '18:00', closes: '09:00' }, { opens: '9:00' }, { opens: '25:00' }, { opens: 9 }],
    closes: [{ closes: '24:01' }, { closes: null }],
    slotMinutes: [{ slotMinutes: 0 }, { slotMinutes: -5 }, { slotMinutes: 1.5 }, { slotMinutes: 1441 }],
    closures: [{ closures: ['2026-02-30'] }, { closures: [{ weekday: 'domenica' }] }, { closures: 'mai' }],
    name: [{ name: 'x'.repeat(300) }, { name: 3 }],
    apre: [{ apre: '09:00' }],
  };
  for (const [field, specs] of Object.entries(bad)) {
    for (const spec of specs) {
      const refused = await staff.put(space.path, spec);
      assert.equal(refused.status, 400, `${JSON.stringify(spec)}: ${refused.text}`);
      assert.equal(refused.body.code, 'malformed');
      assert.ok(refused.body.error.includes(field), `${field} in ${refused.body.error}`);
    }
  }
  assert.equal((await slotcast.board(space)).version, 0);
});

test('sedeId may be left out where exactly one registered space has the id', async () => {
  const space = freshSpace({ site: 41 });
  const path = `/api/slots/${space.number}/${space.date}`;
  const none = await slotcast.caller().get(path);
  assert.equal(none.status, 400, none.text);
  assert.equal(none.body.code, 'sede_required');
  await staff.put(space.path, { slotMinutes: 30 });
  const one = await slotcast.caller().get(path);
  assert.equal(one.status, 200, one.text);
  assert.equal(one.data.sedeId, 41);
  assert.equal(one.data.count, 18);
  await staff.put(`/api/spaces/42/${space.number}`, {});
  assert.equal((await slotcast.caller().get(path)).body.code, 'sede_required');
  await staff.delete(`/api/spaces/42/${space.number}`);
  assert.equal((await slotcast.caller().get(path)).data.sedeId, 41);
});

test('staff reads the log of changes after a version', async () => {
  const space = freshSpace();
  const client = await slotcast.user(7);
  const { epoch, version } = await client.join(space);
  for (const slot of range(1, 5)) await staff.put(`/api/slots/${slot}`, space.body({ status: 'blocked' }));
  await client.many('slot_update', 5);
  const read = await staff.get(`${space.path}/changes?epoch=${epoch}&version=${version + 2}`);
  assert.equal(read.status, 200, read.text);
  assert.equal(read.data.epoch, epoch);
  assert.equal(read.data.version, version + 5);
  assert.deepEqual(versions(read.data.changes), range(version + 3, version + 5));
  const none = await staff.get(`${space.path}/changes?epoch=${epoch}&version=${version + 5}`);
  assert.deepEqual(none.data.changes, []);
});

test('a log that does not reach back is gone', async () => {
  const space = freshSpace();
  await staff.put('/api/slots/1', space.body({ status: 'blocked' }));
  const { epoch, version } = await slotcast.board(space);
  for (const query of [`epoch=another&version=${version}`, `epoch=${epoch}&version=${version + 1}`]) {
    const gone = await staff.get(`${space.path}/changes?${query}`);
    assert.equal(gone.status, 410, gone.text);
    assert.equal(gone.body.code, 'gone');
  }
  for (const query of ['', 'epoch=x', 'version=1', `epoch=${epoch}&version=-1`, `epoch=${epoch}&version=x`]) {
    const refused = await staff.get(`${space.path}/changes?${query}`);
    assert.equal(refused.body.code, 'malformed', query);
  }
});

test('a registered space is read with its names, another one has the default schedule', async () => {
  const space = freshSpace();
  const read = await slotcast.caller().get(space.path);
  assert.ok([200, 404].includes(read.status), read.text);
  assert.equal((await slotcast.board(space)).count, 9, 'either way its days are those of the default');
  assert.equal((await slotcast.board(space, { date: day(2) })).count, 9);
});
