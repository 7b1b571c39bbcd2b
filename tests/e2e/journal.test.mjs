// The journal over HTTP and on the command line: it has each act once, on every node, even if Redis is killed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';

import { startCluster } from './lib/cluster.mjs';
import { freshSpace } from './lib/fixtures.mjs';
import { runCommand, startSlotcast } from './lib/slotcast.mjs';
import { eventually, within } from './lib/waiting.mjs';

const lines = (text) => text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line));

/** Follows the journal through one node, and gives what it has seen so far. */
function follow(caller, query = '') {
  const seen = [];
  const ids = new Map();
  let next;
  let stopped = false;
  const read = async () => {
    while (!stopped) {
      const after = next === undefined ? '' : `&after=${next}`;
      const answer = await caller.settled.get(`/api/journal?limit=500&wait=2${query}${after}`);
      assert.equal(answer.status, 200, answer.text);
      next = answer.data.next;
      for (const entry of answer.data.entries) {
        if (ids.has(entry.id)) assert.deepEqual(entry, ids.get(entry.id), 'an entry that comes again says the same');
        else seen.push(entry);
        ids.set(entry.id, entry);
      }
    }
  };
  const reading = read();
  return {
    seen,
    stop: async () => {
      stopped = true;
      await within(reading, 'the end of following the journal');
    },
  };
}

test('who waits on another node sees an act within moments, and the command prints and follows the same', async () => {
  const cluster = await startCluster({ nodes: 2 });
  try {
    const [one, other] = cluster.nodes;
    const [space, elsewhere] = [freshSpace(), freshSpace({ site: 2 })];
    const staff = other.staffCaller();
    const { next } = (await staff.settled.get('/api/journal')).data;
    const waiting = staff.settled.get(`/api/journal?wait=30&after=${next}`);
    const held = await one.userCaller(7).settled.post('/api/slots/hold', space.body({ slots: [2, 1] }));
    assert.equal(held.status, 200, held.text);
    const heard = await within(waiting, 'an answer to who waits');
    assert.equal(heard.data.entries.length, 1, heard.text);
    const [entry] = heard.data.entries;
    const { epoch, version } = held.data;
    assert.equal(entry.id, `${epoch}-1-${space.number}-${version}`);
    assert.deepEqual([entry.act, entry.id_utente, entry.slots, entry.status], ['hold', 7, [1, 2], 'occupied']);

    const settings = { REDIS_URL: cluster.redis.url, JWT_SECRET: undefined };
    let child;
    const onStart = (process) => (child = process);
    const following = runCommand(['journal', '--follow', '--site', '1'], settings, { onStart, deadline: 300_000 });
    let printed = '';
    child.stdout.on('data', (chunk) => {
      printed += chunk;
    });
    await eventually(() => lines(printed).length === 1, 'the entry that is there');
    assert.deepEqual(lines(printed), [entry]);
    assert.equal((await one.userCaller(7).settled.post('/api/slots/book', space.body({ slots: [1, 2] }))).status, 200);
    assert.equal((await one.userCaller('anna').settled.post('/api/slots/3/hold', elsewhere.body())).status, 200);
    const blocked = await staff.settled.putOnce('/api/slots/1', space.body({ status: 'blocked' }));
    assert.equal(blocked.status, 200, blocked.text);
    await eventually(() => lines(printed).length === 3, 'the entries of the site');
    child.kill('SIGTERM');
    const { code, stderr } = await following;
    assert.equal(code, 0, stderr);
    assert.deepEqual(lines(printed).map(({ act }) => act), ['hold', 'book', 'update']);
    assert.deepEqual(lines(printed)[2].taken, [{ id_utente: 7, slots: [1] }]);

    const all = await runCommand(['journal'], settings);
    assert.equal(lines(all.stdout).length, 4, all.stdout);
    const few = await runCommand(['journal', '--user', 'anna', '--act', 'hold,book'], settings);
    assert.deepEqual(lines(few.stdout).map(({ id_utente: user }) => user), ['anna']);
    const none = await runCommand(['journal', '--to', '2020-01-01'], settings);
    assert.deepEqual([none.code, none.stdout], [0, '']);
    const off = await runCommand(['journal'], { ...settings, SLOTCAST_JOURNAL_DAYS: '0' });
    assert.notEqual(off.code, 0);
    assert.match(off.stderr, /SLOTCAST_JOURNAL_DAYS/);
  } finally {
    await cluster.stop();
  }
});

test('the command follows across a restart of Redis, and ends in silence with whoever reads it', async () => {
  const cluster = await startCluster({ nodes: 1 });
  try {
    const [node] = cluster.nodes;
    const space = freshSpace();
    const block = async (slot) => {
      const answer = await node.staffCaller().settled.put(`/api/slots/${slot}`, space.body({ status: 'blocked' }));
      assert.equal(answer.status, 200, answer.text);
    };
    await block(1);
    const settings = { REDIS_URL: cluster.redis.url, JWT_SECRET: undefined };
    let child;
    const following = runCommand(['journal', '--follow'], settings, { onStart: (process) => (child = process), deadline: 300_000 });
    let printed = '';
    let told = '';
    child.stdout.on('data', (chunk) => (printed += chunk));
    child.stderr.on('data', (chunk) => (told += chunk));
    await eventually(() => lines(printed).length === 1, 'the entry that is there');
    await cluster.redis.kill();
    await eventually(() => /will go on when the store answers/.test(told), () => `a word about the outage: ${told}`);
    await cluster.redis.start();
    await block(2);
    const slots = () => new Set(lines(printed).flatMap((entry) => entry.slots));
    await eventually(() => slots().has(2), 'the entry from after it');
    child.stdout.destroy();
    await block(3);
    const { code, stderr } = await following;
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /ipe/);
  } finally {
    await cluster.stop();
  }
});

test('each act is told once, none is invented, while Redis and a node are killed', async () => {
  const cluster = await startCluster({ nodes: 3 });
  try {
    const [one, other, killed] = cluster.nodes;
    const space = freshSpace();
    const follower = follow(other.staffCaller(), `&sedeId=1&spazioId=${space.number}`);
    const answered = [];
    const act = async (node, round) => {
      for (const verb of ['hold', 'book']) {
        const answer = await node.userCaller(round).settled.post(`/api/slots/${verb}`, space.body({ slots: [1 + (round % 9)] }));
        assert.equal(answer.status, 200, answer.text);
        answered.push(`${answer.data.epoch}-1-${space.number}-${answer.data.version}`);
      }
    };
    const release = async (round) => {
      const answer = await one.staffCaller().settled.put(`/api/slots/${1 + (round % 9)}`, space.body({ status: 'available' }));
      assert.equal(answer.status, 200, answer.text);
    };
    for (let round = 1; round <= 12; round += 1) {
      await act(round < 5 ? killed : one, round);
      if (round === 4) await cluster.killNode(killed);
      if (round === 8) {
        await cluster.redis.kill();
        await cluster.redis.start();
        await cluster.ready();
      }
      await release(round);
    }
    await eventually(
      () => answered.every((id) => follower.seen.some((entry) => entry.id === id)),
      () => `each of ${answered} in ${JSON.stringify(follower.seen.map(({ id }) => id))}`,
    );
    // A change by staff that was answered 503 and repeated may have been done twice, the second time after the answer.
    const journal = `/api/journal?limit=500&sedeId=1&spazioId=${space.number}`;
    const isAll = async () => isDeepStrictEqual((await other.staffCaller().settled.get(journal)).data.entries, follower.seen);
    await eventually(async () => follower.seen.at(-1)?.act === 'update' && (await isAll()), 'the same from the beginning');
    await follower.stop();
    // A call that was answered 503 and repeated may have been done the first time. Then the repeat got the answer of the
    // first time, with its version.
    const acts = follower.seen.filter(({ act }) => act === 'hold' || act === 'book').map(({ id }) => id);
    assert.deepEqual(acts.sort(), answered.sort());
    const versions = follower.seen.map(({ version }) => version);
    assert.deepEqual(versions, [...versions].sort((a, b) => a - b), 'in order within the space');
  } finally {
    await cluster.stop();
  }
});

test('on a file the command says where to ask while a node runs, and prints when none does', async () => {
  const space = freshSpace();
  const slotcast = await startSlotcast();
  const settings = { SLOTCAST_DATA_DIR: slotcast.dataDir, JWT_SECRET: undefined };
  assert.equal((await slotcast.userCaller(7).post('/api/slots/1/hold', space.body({ holdSeconds: 1 }))).status, 200);
  const entries = async () => (await slotcast.staffCaller().settled.get('/api/journal')).data.entries;
  await eventually(async () => (await entries()).length === 2, 'the end of the hold');
  const locked = await runCommand(['journal'], settings);
  assert.notEqual(locked.code, 0);
  assert.match(locked.stderr, /GET \/api\/journal/);
  const told = await entries();
  await slotcast.stop();
  const printed = await runCommand(['journal'], settings);
  assert.equal(printed.code, 0, printed.stderr);
  assert.deepEqual(lines(printed.stdout), told);
  assert.deepEqual(told.map(({ act, actor }) => [act, actor]), [
    ['hold', { id: 7, role: null }],
    ['expire', null],
  ]);
});
