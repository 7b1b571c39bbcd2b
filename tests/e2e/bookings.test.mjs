// Bookings against the built program: a user's own on every node, a site's day for staff, cancelling, and what a space
// tells of itself.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { day, freshNumber, freshSpace } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';

const settings = { SLOT_CANCEL_UNTIL: '60' };
const cluster = await startCluster({ nodes: 2, settings });
const alone = await startSlotcast({ settings });
after(() => Promise.all([cluster.stop(), alone.stop()]));

const stores = { redis: cluster.nodes, embedded: [alone, alone] };

for (const [name, [first, second]] of Object.entries(stores)) {
  describe(`on ${name}`, () => {
    test('what is booked on one node is told, and cancelled, on another', async () => {
      const spaces = [freshSpace(), freshSpace({ date: day(3) }), freshSpace({ site: 2 })];
      const user = freshNumber();
      const [here, there] = [first.userCaller(user), second.userCaller(user)];
      for (const space of spaces) {
        for (const act of ['hold', 'book']) {
          const answer = await here.settled.post(`/api/slots/${act}`, space.body({ slots: [2] }));
          assert.equal(answer.status, 200, answer.text);
        }
      }
      const listed = async () => (await there.settled.get('/api/bookings')).data.bookings;
      const own = await listed();
      assert.deepEqual(own.map(({ spazioId }) => spazioId), [spaces[1], spaces[0], spaces[2]].map(({ number }) => number));
      const [{ startsAt, cancelUntil, orario, slotId }] = own;
      assert.deepEqual([Date.parse(startsAt) - Date.parse(cancelUntil), orario, slotId], [3_600_000, '10:00', 2]);

      const watching = await first.user(user);
      await watching.join(spaces[0], { date: spaces[0].date });
      const snapshot = await watching.first('slots_status_update');
      assert.equal(snapshot.slotsStatus[1].cancelUntil, own[1].cancelUntil);
      const cancelled = await watching.call('release_slot', spaces[0].event({ slots: [2] }));
      assert.equal(cancelled.ok, true, JSON.stringify(cancelled));
      const update = await watching.first('slot_update');
      assert.deepEqual([update.status, 'mine' in update.data], ['available', false]);
      assert.deepEqual((await listed()).map(({ sedeId }) => sedeId), [1, 2]);

      const ofDay = await second.staffCaller().settled.get(`/api/bookings?sedeId=2&date=${spaces[2].date}`);
      const entry = ofDay.data.entries.find(({ spazioId }) => spazioId === spaces[2].number);
      assert.deepEqual([entry.slotId, entry.status, entry.id_utente], [2, 'booked', user]);
    });

    test('a booking that keeps its time is listed under the label that it has since', async () => {
      const space = freshSpace({ site: 8 });
      const [user, staff] = [freshNumber(), first.staffCaller()];
      const put = async (spec) => assert.equal((await staff.settled.put(space.path, spec)).status, 200);
      await put({});
      for (const act of ['hold', 'book']) await first.userCaller(user).settled.post(`/api/slots/${act}`, space.body({ slots: [2] }));
      const listed = async () => (await second.userCaller(user).settled.get('/api/bookings')).data.bookings;
      const [before] = await listed();
      // The slots start at the same instants in another time zone.
      await put({ timezone: 'Europe/London', opens: '08:00', closes: '17:00' });
      assert.deepEqual(await listed(), [{ ...before, orario: '09:00' }]);
      const released = await staff.settled.post('/api/slots/2/release', space.body());
      assert.equal(released.status, 200, released.text);
      assert.deepEqual(await listed(), []);
    });

    test('spaces are listed, and say how long holds last', async () => {
      const space = freshSpace({ site: 9 });
      const put = await first.staffCaller().settled.put(space.path, { name: 'Campo', holdMinutes: 2 });
      assert.equal(put.status, 200, put.text);
      const { data } = await second.caller().settled.get('/api/spaces?sedeId=9');
      assert.deepEqual(data.spaces.filter(({ spazioId }) => spazioId === space.number), [
        { sedeId: 9, spazioId: space.number, name: 'Campo', timezone: 'Europe/Rome', opens: '09:00', closes: '18:00', slotMinutes: 60, holdMinutes: 2 },
      ]);
      const user = second.userCaller(freshNumber());
      const held = await user.settled.post('/api/slots/1/hold', space.body());
      assert.ok(Date.parse(held.data.heldUntil) - Date.now() <= 120_000, held.text);
      const longer = await user.settled.post('/api/slots/2/hold', space.body({ holdSeconds: 121 }));
      assert.deepEqual([longer.status, longer.body.code], [422, 'bad_hold_seconds']);
    });
  });
}
