// A slot whose start passes changes its status at that instant, without a write, for the clients that asked for the day.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { day, freshNumber, freshSpace, zoneFarFromMidnight } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { sleep } from './lib/waiting.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const timezone = zoneFarFromMidnight();

/** A space with a slot each minute of today, and the number of the slot that starts next. */
async function minuteSpace() {
  const space = freshSpace({ date: day(0, timezone) });
  const schedule = { timezone, opens: '00:00', closes: '24:00', slotMinutes: 1 };
  const put = await slotcast.staffCaller().put(space.path, schedule);
  assert.equal(put.status, 200, put.text);
  return space;
}

/** The number of the first slot that has not started. */
async function nextSlot(space) {
  const { slots } = await slotcast.board(space);
  return slots.find((entry) => entry.status !== 'past').id_slot;
}

/** Waits for the next minute when this one is about to end, so that the test falls into one minute. */
async function earlyInAMinute() {
  const left = 60_000 - (Date.now() % 60_000);
  if (left < 15_000) await sleep(left + 100);
}

test('a slot that starts is past in a snapshot, for the sockets that asked for its day', async () => {
  const space = await minuteSpace();
  await earlyInAMinute();
  const next = await nextSlot(space);
  const [asked, joinedOnly, otherDay] = [
    await slotcast.user(freshNumber()),
    await slotcast.user(freshNumber()),
    await slotcast.user(freshNumber()),
  ];
  const { version } = await asked.join(space, { date: space.date });
  const first = await asked.first('slots_status_update');
  assert.equal(first.slotsStatus[next - 1].status, 'available');
  assert.equal(first.slotsStatus[next - 2].status, 'past');
  assert.equal(first.slotsStatus[next - 2].title, 'Orario passato');
  await joinedOnly.join(space);
  await otherDay.join(space, { date: day(3, timezone) });
  await slotcast.userCaller(freshNumber()).post(`/api/slots/${next}/hold`, space.body());
  await slotcast.staffCaller().put(`/api/slots/${next + 1}`, space.body({ status: 'booked' }));

  const started = await asked.first(
    'slots_status_update',
    (snapshot) => snapshot.slotsStatus[next - 1].status === 'past',
    100_000,
  );
  assert.equal(started.date, space.date);
  assert.ok(started.version >= version + 2);
  assert.equal(started.slotsStatus[next].status, 'booked', 'what is booked does not become past');
  const board = await slotcast.board(space);
  assert.equal(board.slots[next - 1].status, 'past');
  assert.deepEqual(joinedOnly.all('slots_status_update'), []);
  assert.equal(otherDay.all('slots_status_update').length, 1, 'the one of its joining');
});

test('a slot that has started is past for every act, and a hold never lasts beyond the start', async () => {
  const space = await minuteSpace();
  await earlyInAMinute();
  const next = await nextSlot(space);
  const user = slotcast.userCaller(freshNumber());
  const held = await user.post(`/api/slots/${next}/hold`, space.body({ holdSeconds: 600 }));
  assert.equal(held.status, 200, held.text);
  assert.ok(Date.parse(held.data.heldUntil) - Date.now() <= 60_000, 'it ends at the start of the slot');
  assert.equal(Date.parse(held.data.heldUntil) % 60_000, 0);
  for (const slot of [next - 1, 1]) {
    const refused = await user.post(`/api/slots/${slot}/hold`, space.body());
    assert.equal(refused.status, 422, refused.text);
    assert.equal(refused.body.code, 'past');
  }
  const several = await user.post('/api/slots/hold', space.body({ slots: [next - 1, next + 1] }));
  assert.equal(several.body.code, 'past');
  assert.deepEqual(several.body.conflicts, [next - 1]);
  const update = await slotcast.staffCaller().put(`/api/slots/${next - 1}`, space.body({ status: 'available' }));
  assert.equal(update.body.code, 'past');
  const yesterday = await user.post('/api/slots/5/hold', space.body({ date: day(-2, timezone) }));
  assert.equal(yesterday.body.code, 'past');
});
