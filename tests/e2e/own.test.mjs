// Only the user who has a slot is told `mine`. It is on each event, whichever device and node made the hold. Nobody else's
// payload differs by a byte.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { TIMESTAMP, freshNumber, freshSpace } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually } from './lib/waiting.mjs';

const OWN = ['mine', 'holdToken', 'heldAt', 'extendableUntil', 'cancelUntil'];

const cluster = await startCluster({ nodes: 2 });
const alone = await startSlotcast();
after(() => Promise.all([cluster.stop(), alone.stop()]));

const stores = { redis: cluster.nodes, embedded: [alone, alone] };

/** The frames of an event as they arrived, with their text. */
const framesOf = (client, event) => client.frames.filter((frame) => frame.includes(`["${event}",`));

/** Removes the fields that only the owner is told. */
function without(entry) {
  return Object.fromEntries(Object.entries(entry).filter(([key]) => !OWN.includes(key)));
}

const ownOf = (entry) => Object.fromEntries(Object.entries(entry).filter(([key]) => OWN.includes(key)));

/** An update or a snapshot without the fields that only the owner is told. */
function asForAll(payload) {
  if (payload.type === 'slot_update') return { ...payload, data: without(payload.data) };
  return { ...payload, slotsStatus: payload.slotsStatus.map(without) };
}

async function reaches(client, version) {
  const last = () => Math.max(0, ...[...client.all('slot_update'), ...client.all('slots_status_update')].map((one) => one.version));
  await eventually(() => last() >= version, () => `version ${version}, not ${last()}`);
}

for (const [name, [first, second]] of Object.entries(stores)) {
  describe(`on ${name}`, () => {
    test('a hold is marked as own on each device of its user, on every node, and on no other', async () => {
      const space = freshSpace();
      const user = freshNumber();
      const other = freshNumber();
      const [phone, desk, passer] = await Promise.all([first.user(user), second.user(user), second.user(other)]);
      for (const client of [phone, desk, passer]) await client.join(space, { date: space.date });
      const [caller, staff] = [second.userCaller(user), first.staffCaller()];
      const act = async (what, body) => {
        const answer = await caller.settled.post(`/api/slots/${what}`, space.body(body));
        assert.equal(answer.status, 200, answer.text);
        return answer.data;
      };
      const held = await act('hold', { slots: [2, 3] });
      await act('book', { slots: [3] });
      await act('extend', { slots: [2] });
      await act('release', { slots: [2] });
      const taken = await staff.settled.putOnce('/api/slots/3', space.body({ status: 'blocked', data: { '"data":{': 'x' } }));
      assert.equal(taken.status, 200, taken.text);
      for (const client of [phone, desk, passer]) await reaches(client, taken.data.version);

      const own = phone.all('slot_update').map(({ slotId, data }) => [slotId, ownOf(data)]);
      const hold = own[0][1];
      assert.deepEqual(Object.keys(hold), ['mine', 'holdToken', 'heldAt', 'extendableUntil']);
      assert.deepEqual([hold.mine, hold.holdToken], [true, held.holdToken]);
      assert.match(hold.heldAt, TIMESTAMP);
      assert.equal(Date.parse(hold.extendableUntil) - Date.parse(hold.heldAt), 60 * 60_000);
      assert.deepEqual(own, [[2, hold], [3, hold], [3, { mine: true, cancelUntil: null }], [2, hold], [2, {}], [3, {}]]);
      assert.deepEqual(framesOf(phone, 'slot_update'), framesOf(desk, 'slot_update'));

      const told = passer.all('slot_update');
      assert.deepEqual(told, phone.all('slot_update').map(asForAll));
      assert.deepEqual(told.map(({ data }) => ownOf(data)), told.map(() => ({})));
      const { data: log } = await staff.settled.get(`${space.path}/changes?epoch=${told[0].epoch}&version=0`);
      const texts = log.changes.map(({ payload }) => `2["slot_update",${JSON.stringify(payload)}]`);
      assert.deepEqual(framesOf(passer, 'slot_update'), texts, 'byte for byte what the log has for everybody');
    });

    test('snapshots and replays mark what is own', async () => {
      const space = freshSpace();
      const user = freshNumber();
      const [phone, passer, stranger] = await Promise.all([first.user(user), first.user(freshNumber()), first.user(freshNumber())]);
      const { epoch } = await passer.join(space, { date: space.date });
      // Staff's data looks like an entry, so only its place tells that it is none.
      const trap = { note: { id_slot: 3, orario: '10:00' } };
      await first.staffCaller().settled.putOnce('/api/slots/2', space.body({ status: 'blocked', data: trap }));
      const hold = (number, who) => second.userCaller(who).settled.post(`/api/slots/${number}/hold`, space.body());
      const { data: held } = await hold(3, user);
      const { data: last } = await hold(4, freshNumber());

      // This node may hear of the hold later than the other node answered it.
      await reaches(passer, last.version);
      await phone.join(space, { date: space.date });
      await stranger.join(space, { date: space.date });
      const shown = await phone.first('slots_status_update', ({ version }) => version === last.version);
      const own = shown.slotsStatus.filter((entry) => 'mine' in entry);
      assert.deepEqual(own.map(({ id_slot: slot, mine, holdToken }) => [slot, mine, holdToken]), [[3, true, held.holdToken]]);
      const toStranger = await stranger.first('slots_status_update');
      assert.deepEqual(asForAll(shown).slotsStatus, toStranger.slotsStatus);
      assert.deepEqual(toStranger.slotsStatus.map(ownOf), toStranger.slotsStatus.map(() => ({})));
      assert.deepEqual([shown.timeZone, toStranger.timeZone], ['Europe/Rome', 'Europe/Rome']);

      for (const client of [phone, stranger]) {
        client.forget();
        await client.join(space, { since: { epoch, version: 0 } });
        await client.many('slot_update', 3);
      }
      assert.deepEqual(phone.all('slot_update').map(({ data }) => 'mine' in data), [false, true, false]);
      assert.deepEqual(phone.all('slot_update').map(asForAll), stranger.all('slot_update'));
      assert.deepEqual(framesOf(stranger, 'slot_update'), framesOf(passer, 'slot_update'));
    });
  });
}

test('a board over HTTP tells its time, and to its user what is own', async () => {
  const space = freshSpace();
  const user = freshNumber();
  const { data: held } = await alone.userCaller(user).post('/api/slots/1/hold', space.body());
  const { data: board } = await alone.userCaller(user).get(space.boardPath());
  assert.equal(board.timeZone, 'Europe/Rome');
  assert.match(board.timestamp, TIMESTAMP);
  const [first, second] = board.slots;
  assert.deepEqual([first.mine, first.holdToken], [true, held.holdToken]);
  assert.equal(Date.parse(first.endsAt), Date.parse(second.startsAt));
  assert.equal(Date.parse(first.endsAt) - Date.parse(first.startsAt), 60 * 60_000);
  assert.match(first.startsAt, TIMESTAMP);
  const { slots } = await alone.board(space);
  assert.deepEqual(slots.map(ownOf), slots.map(() => ({})));
});

test('a day on which an hour comes twice has two slots of one name, told apart by their start', async () => {
  const space = freshSpace();
  const spec = { opens: '00:00', closes: '06:00', timezone: 'Europe/Rome' };
  assert.equal((await alone.staffCaller().put(space.path, spec)).status, 200);
  const { slots } = await alone.board(space, { date: '2027-10-31' });
  const twice = slots.filter(({ orario }) => orario === '02:00');
  assert.deepEqual(twice.map(({ startsAt }) => startsAt), ['2027-10-31T00:00:00.000Z', '2027-10-31T01:00:00.000Z']);
});
