// A node behind a narrow link catches up with a thousand large changes, and closes no viewer for it.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { day, freshSpace, range } from './lib/fixtures.mjs';
import { startLinks } from './lib/links.mjs';
import { eventually, inLanes } from './lib/waiting.mjs';

const CHANGES = 1_000;
const DATA = 'x'.repeat(8_192);

/** How long the test may take on a busy machine. Over the link alone it takes seconds. */
const DEADLINE_MS = 180_000;

const settings = { SLOTCAST_USER_RATE: '0', SLOTCAST_EVENT_RATE: '0' };
const cluster = await startCluster({ nodes: 1, settings });
after(() => cluster.stop());

for (const bytesPerSecond of [8_000_000, 4_000_000, 1_000_000]) {
  test(`a thousand missed changes of 8 KiB come over ${bytesPerSecond / 1e6} MB/s`, async (t) => {
    const links = await startLinks([cluster.redis.port]);
    const node = await cluster.addNode({ REDIS_URL: links.urlOf(cluster.redis.url) });
    t.after(async () => {
      await cluster.killNode(node);
      links.heal();
      links.close();
    });
    const space = freshSpace({ date: day(3) });
    const viewer = await node.user(7);
    const joined = await viewer.join(space, { date: space.date });
    await viewer.first('slots_status_update');

    links.cut();
    const staff = cluster.nodes[0].staffCaller();
    await inLanes(8, range(1, CHANGES), async (change) => {
      const body = space.body({ status: change % 2 ? 'booked' : 'blocked', data: { filler: DATA } });
      const { status, text } = await staff.settled.put(`/api/slots/${1 + (change % 9)}`, body);
      assert.equal(status, 200, text);
    });
    const start = Date.now();
    links.throttle(bytesPerSecond);
    const last = await staff.settled.put('/api/slots/5', space.body({ status: 'available' }));
    const shows = ({ payload }) => payload.version >= last.data.version;
    await eventually(() => viewer.events.some(shows), 'the last change', DEADLINE_MS);
    t.diagnostic(`caught up after ${Date.now() - start} ms`);
    assert.deepEqual(viewer.disconnects, [], 'the viewer was not closed for the burst');
    assertInOrder(viewer, joined);

    const changes = await node.staffCaller().settled.get(
      `${space.path}/changes?epoch=${joined.epoch}&version=${last.data.version - 1_000}`,
    );
    assert.equal(changes.status, 200, changes.text.slice(0, 200));
    assert.equal(changes.data.changes.length, 1_000);
    await node.ready();
  });
}

// Staff's data of all its days takes longer than the second that a call may take.
test('a space with megabytes of data is read, watched and acted on over 0.2 MB/s', async (t) => {
  const links = await startLinks([cluster.redis.port]);
  const node = await cluster.addNode({ REDIS_URL: links.urlOf(cluster.redis.url) });
  t.after(async () => {
    await cluster.killNode(node);
    links.heal();
    links.close();
  });
  const space = freshSpace({ date: day(3) });
  const staff = cluster.nodes[0].staffCaller();
  await staff.settled.put(space.path, { opens: '09:00', closes: '18:00', slotMinutes: 15 });
  const slots = range(1, 36).flatMap((slot) => range(3, 10).map((ahead) => ({ slot, date: day(ahead) })));
  await inLanes(4, slots, async ({ slot, date }) => {
    const body = space.body({ date, status: 'booked', data: { filler: 'x'.repeat(7_000) } });
    const { status, text } = await staff.settled.put(`/api/slots/${slot}`, body);
    assert.equal(status, 200, text);
  });
  // The node knows nothing of the space yet.
  links.throttle(200_000);
  const isWhole = (entries) => entries.filter(({ filler }) => filler?.length === 7_000).length === 36;
  const { status, text, data } = await node.staffCaller().settled.get(space.boardPath());
  assert.equal(status, 200, text.slice(0, 200));
  assert.ok(isWhole(data.slots));
  const viewer = await node.user(7);
  await viewer.join(space, { date: day(4) });
  assert.ok(isWhole((await viewer.first('slots_status_update', undefined, DEADLINE_MS)).slotsStatus));
  const schedule = { opens: '09:00', closes: '18:00', slotMinutes: 20 };
  const trial = await node.staffCaller().settled.put(`${space.path}?dryRun=true`, schedule);
  assert.equal(trial.status, 200, trial.text.slice(0, 200));
  // Only the slot at 09:00 stays where it was. The others move or go.
  assert.deepEqual(trial.data.affected.map(({ date, slots: { length } }) => [date, length]), range(3, 10).map((ahead) => [day(ahead), 36]));
  const held = await node.userCaller(7).settled.post('/api/slots/1/hold', space.body({ date: day(11) }));
  assert.equal(held.status, 200, held.text);
});

/** Asserts that every update follows the one before it, or a snapshot. */
function assertInOrder(viewer, joined) {
  let at = joined.version;
  for (const { name, payload } of viewer.events) {
    if (name === 'slot_update') assert.equal(payload.version, at + 1);
    if (name === 'slots_status_update') assert.ok(payload.version >= at);
    if (payload.version !== undefined) at = payload.version;
  }
}
