// `dryRun=true`: what a change of a schedule would move or remove, without the change.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { day, freshNumber, freshSpace } from './lib/fixtures.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { startSlotcast } from './lib/slotcast.mjs';

const redis = await startCluster({ nodes: 2 });
const shards = await startCluster({ nodes: 2, store: await startRedisCluster() });
const alone = await startSlotcast();
after(() => Promise.all([redis.stop(), shards.stop(), alone.stop()]));

const stores = { redis: redis.nodes, 'a Cluster': shards.nodes, 'the embedded store': [alone, alone] };

const DAYTIME = { opens: '09:00', closes: '18:00' };
/** Moves each slot by half an hour. */
const LATER = { opens: '09:30', closes: '18:30' };

async function done(asked) {
  const answer = await asked;
  assert.equal(answer.status, 200, answer.text);
  return answer.data;
}

/** A registered space with a hold, a booking and what staff closed, on two days. */
async function takenSpace(node) {
  const space = freshSpace();
  const staff = node.staffCaller();
  await done(staff.settled.put(space.path, DAYTIME));
  const user = node.userCaller(freshNumber());
  await done(user.settled.post('/api/slots/hold', space.body({ slots: [2, 4] })));
  await done(user.settled.post('/api/slots/book', space.body({ slots: [4] })));
  const later = { ...space, body: (more) => space.body({ ...more, date: day(9) }) };
  await done(staff.settled.put('/api/slots/7', later.body({ status: 'blocked' })));
  return space;
}

for (const [name, [first, second]] of Object.entries(stores)) {
  describe(`on ${name}`, () => {
    test('a trial tells what the change then refuses, and changes nothing', async () => {
      const space = await takenSpace(first);
      const staff = second.staffCaller();
      const client = await first.user(freshNumber());
      await client.join(space, { date: space.date });
      const journal = async () =>
        (await done(staff.settled.get(`/api/journal?sedeId=${space.site}&spazioId=${space.number}`))).entries;
      const before = [await first.board(space), await done(staff.settled.get(space.path)), await journal()];
      const affected = [
        { date: space.date, slots: [2, 4] },
        { date: day(9), slots: [7] },
      ];
      const trials = {
        moved: [() => staff.settled.put(`${space.path}?dryRun=true`, LATER), affected],
        shorter: [
          () => staff.settled.put(`${space.path}?dryRun=true`, { opens: '09:00', closes: '12:00' }),
          [{ date: space.date, slots: [4] }, { date: day(9), slots: [7] }],
        ],
        closed: [
          () => staff.settled.put(`${space.path}?dryRun=true`, { ...DAYTIME, closures: [space.date] }),
          [{ date: space.date, slots: [2, 4] }],
        ],
        same: [() => staff.settled.put(`${space.path}?dryRun=true`, DAYTIME), []],
        longer: [() => staff.settled.put(`${space.path}?dryRun=true`, { ...DAYTIME, closes: '20:00' }), []],
        // Without a registration the space has the default schedule, which is the same.
        removed: [() => staff.settled.delete(`${space.path}?dryRun=true`), []],
      };
      for (const [what, [ask, expected]] of Object.entries(trials)) {
        assert.deepEqual(await done(ask()), { affected: expected }, what);
      }
      const unchanged = [await first.board(space), await done(staff.settled.get(space.path)), await journal()];
      const versionOf = ([board, schedule, entries]) => [board.version, board.epoch, schedule, entries];
      assert.deepEqual(versionOf(unchanged), versionOf(before));
      const refused = await staff.settled.put(space.path, LATER);
      assert.deepEqual([refused.status, refused.body.code, refused.body.conflicts], [409, 'space_in_use', [2, 4, 7]]);
      // After one real change, no other event has come.
      await done(staff.settled.put('/api/slots/9', space.body({ status: 'blocked' })));
      const update = await client.first('slot_update');
      assert.equal(update.version, before[0].version + 1);
      assert.equal(client.all('slots_status_update').length, 1, 'the one that joining brings');
    });

    test('dryRun=false is the change itself, and what is neither is malformed and changes nothing', async () => {
      const space = await takenSpace(first);
      const staff = second.staffCaller();
      const { version } = await first.board(space);
      for (const bad of ['', '1', '0', 'TRUE', 'yes', 'null', 'true%20', 'true&dryRun=true', 'true&dryRun=false']) {
        for (const ask of [() => staff.put(`${space.path}?dryRun=${bad}`, { ...DAYTIME, closes: '20:00' }), () => staff.delete(`${space.path}?dryRun=${bad}`)]) {
          const answer = await ask();
          assert.deepEqual([answer.status, answer.body?.code], [400, 'malformed'], `${bad}: ${answer.text}`);
        }
      }
      assert.equal((await first.board(space)).version, version);
      const changed = await done(staff.settled.put(`${space.path}?dryRun=false`, { ...DAYTIME, closes: '20:00' }));
      assert.deepEqual([changed.closes, changed.version], ['20:00', version + 1]);
    });

    test('a misspelt dryRun is malformed and changes nothing', async () => {
      const space = await takenSpace(first);
      const staff = second.staffCaller();
      const { version } = await first.board(space);
      for (const bad of ['dryrun=true', 'dry_run=true', 'dry-run=true', 'DryRun=true', 'dryRun', 'dryRun%20=true', 'x=1', 'dryRun=true&x=1', 'dryRun=false&dryrun=true']) {
        for (const ask of [() => staff.put(`${space.path}?${bad}`, { ...DAYTIME, closes: '20:00' }), () => staff.delete(`${space.path}?${bad}`)]) {
          const answer = await ask();
          assert.deepEqual([answer.status, answer.body?.code], [400, 'malformed'], `${bad}: ${answer.text}`);
        }
      }
      assert.equal((await first.board(space)).version, version);
      assert.match((await staff.delete(`${space.path}?dryrun=true`)).body.detail, /dryrun.*dryRun/);
    });

    test('a trial needs what the change needs: rights, a schedule that holds together, a registered space', async () => {
      const space = await takenSpace(first);
      const refusals = [
        [first.caller().put(`${space.path}?dryRun=true`, LATER), 401, 'unauthorized'],
        [first.userCaller(7).put(`${space.path}?dryRun=true`, LATER), 403, 'forbidden'],
        [first.userCaller(7).delete(`${space.path}?dryRun=true`), 403, 'forbidden'],
        [first.staffCaller('responsabile', { sedi: [2] }).put(`${space.path}?dryRun=true`, LATER), 403, 'forbidden'],
        [first.staffCaller().put(`${space.path}?dryRun=true`, { opens: '12:00', closes: '09:00' }), 400, 'malformed'],
        [first.staffCaller().put(`${space.path}?dryRun=true`, { holdMinutes: 61 }), 400, 'malformed'],
        [first.staffCaller().settled.delete(`${freshSpace().path}?dryRun=true`), 404, 'space_not_found'],
      ];
      for (const [asked, status, code] of refusals) {
        const answer = await asked;
        assert.deepEqual([answer.status, answer.body.code], [status, code], answer.text);
      }
    });

    test('a trial on a space that nobody registered finds what the default schedule has', async () => {
      const space = freshSpace();
      const staff = first.staffCaller();
      await done(first.userCaller(freshNumber()).settled.post('/api/slots/hold', space.body({ slots: [3] })));
      const trial = await done(staff.settled.put(`${space.path}?dryRun=true`, LATER));
      assert.deepEqual(trial, { affected: [{ date: space.date, slots: [3] }] });
      assert.equal((await done(staff.settled.get(space.path))).registered, false);
    });
  });
}
