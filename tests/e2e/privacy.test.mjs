// Export and erase of a user, over the program as it runs: before, everything is told and found; afterwards a search through
// every key, the data file and the logs finds the id nowhere.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { day, freshNumber, freshSpace } from './lib/fixtures.mjs';
import { settled } from './lib/http.mjs';
import { makeClock } from './lib/moved_clock.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { placesInFolder, placesInRedis } from './lib/searching.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { secondsNow, staffToken, userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const DAY_SECONDS = 86_400;

/** Tokens last beyond the days by which clocks are moved. */
const exp = secondsNow() + 30 * DAY_SECONDS;

const LISTS = ['holds', 'bookings', 'notifications', 'calls', 'journal'];

const clock = makeClock();
const settings = { ...clock.environment, SLOTCAST_LOG: 'debug', SLOTCAST_LOG_USERS: 'digest' };
const redis = await startRedis({ environment: clock.environment });
const onRedis = await startCluster({ nodes: 2, settings, store: redis });
const alone = await startSlotcast({ settings });
const servers = await startRedisCluster();
// One of the users acts as fast as it can.
const ofServers = { SLOTCAST_LOG: 'debug', SLOTCAST_LOG_USERS: 'digest', SLOTCAST_USER_RATE: '0' };
const onServers = await startCluster({ nodes: 2, settings: ofServers, store: servers });
after(() => Promise.all([onRedis.stop(), alone.stop(), onServers.stop()]));

const staffOf = (node) => node.caller(staffToken('gestore', { exp }));
const userOf = (node, user) => node.caller(userToken(user, { exp }));

/** All portions of a user's export. */
async function exportOf(node, user) {
  const path = `/api/users/${encodeURIComponent(user)}/data`;
  const whole = Object.fromEntries(LISTS.map((name) => [name, []]));
  for (let next = ''; next !== undefined; ) {
    const answer = await staffOf(node).settled.get(`${path}${next && `?after=${encodeURIComponent(next)}`}`);
    assert.equal(answer.status, 200, answer.text);
    for (const name of LISTS) whole[name].push(...answer.data[name]);
    next = answer.data.next;
  }
  return whole;
}

/** Erases a user, again after each 503. */
async function erase(node, user, query = '') {
  const path = `/api/users/${encodeURIComponent(user)}/data${query}`;
  return eventually(async () => {
    const answer = await staffOf(node).delete(path).catch(() => undefined);
    return answer?.status !== 503 && answer;
  }, 'the end of an erasure');
}

async function act(node, user, name, body) {
  const answer = await userOf(node, user).settled.post(`/api/slots/${name}`, body);
  assert.equal(answer.status, 200, answer.text);
  return answer.data;
}

async function book(node, user, space, slots) {
  for (const name of ['hold', 'book']) await act(node, user, name, space.body({ slots }));
}

const stores = {
  redis: { nodes: onRedis.nodes, search: (text) => placesInRedis([redis], text) },
  embedded: { nodes: [alone, alone], search: async (text) => placesInFolder(alone.dataDir, text) },
};

describe('an erased user', { concurrency: false }, () => {
  const users = { redis: ['anna.rossi@redis.example', '7654321098'], embedded: ['anna.rossi@file.example', '8765432109'] };
  const past = Object.fromEntries(Object.keys(stores).map((name) => [name, [freshSpace({ date: day(1) }), freshSpace({ date: day(2) })]]));

  test('booked slots that have started since', async () => {
    for (const [name, { nodes }] of Object.entries(stores)) {
      for (const [index, user] of users[name].entries()) {
        for (const space of past[name]) await book(nodes[0], user, space, [1 + 2 * index, 2 + 2 * index]);
      }
    }
    clock.move(4 * DAY_SECONDS);
    await Promise.all([...onRedis.nodes, alone].map((node) => node.ready()));
  });

  for (const [name, { nodes: [first, second], search }] of Object.entries(stores)) {
    for (const user of users[name]) {
      test(`is told everything, and then found nowhere: ${user}`, async () => {
        const [held, booked] = [freshSpace({ date: day(9) }), freshSpace({ date: day(9), site: 2 })];
        await act(first, user, 'hold', held.body({ slots: [1, 2] }));
        await book(second, user, booked, [3]);
        let tries = 0;
        const notify = () => {
          tries += 1;
          return staffOf(first).post(`/api/users/${user}/notify`, { event: 'news', data: { text: 'ciao' } });
        };
        const notified = await settled(notify, 'a notification');
        assert.equal(notified.status, 200, notified.text);
        await book(first, freshNumber(), booked, [4]);

        const told = await exportOf(second, user);
        assert.deepEqual([told.holds.length, told.bookings.length], [1, 5]);
        assert.ok(told.notifications.length >= 1 && told.notifications.length <= tries, JSON.stringify(told.notifications));
        assert.ok(told.calls.length >= 3 && told.journal.length === 7, JSON.stringify(told));
        assert.notDeepEqual(await search(user), []);

        const refused = await erase(first, user);
        assert.deepEqual([refused.status, refused.body.code], [409, 'has_bookings']);
        const erased = await erase(first, user, '?force=true');
        assert.equal(erased.status, 200, erased.text);

        assert.deepEqual(await search(user), [], 'the id is nowhere');
        for (const node of new Set([first, second])) assert.ok(!node.log().includes(user), 'no line has the id');
        assert.deepEqual(await exportOf(second, user), Object.fromEntries(LISTS.map((list) => [list, []])));

        // The erased user has the same new id everywhere.
        const standIns = new Set();
        for (const space of past[name]) {
          const ofDay = await staffOf(second).settled.get(`/api/bookings?sedeId=1&date=${space.date}`);
          const mine = ofDay.data.entries.filter(({ spazioId, id_utente: id }) => spazioId === space.number && !users[name].includes(String(id)));
          for (const { id_utente: id } of mine) standIns.add(id);
        }
        const { data } = await staffOf(second).settled.get(`/api/journal?sedeId=2&spazioId=${booked.number}&limit=500`);
        const ofUser = data.entries.filter(({ slots }) => slots.includes(3));
        assert.deepEqual(ofUser.map(({ act: what }) => what), ['hold', 'book', 'cancel']);
        const [{ id_utente: standIn }] = ofUser;
        assert.match(standIn, /^erased-[0-9a-f]{32}$/);
        assert.ok(standIns.has(standIn) && ofUser.every(({ id_utente: id, taken }) => id === standIn && taken === undefined));
        const board = await first.board(booked);
        assert.deepEqual([board.slots[2].status, board.slots[3].status], ['available', 'booked']);
      });
    }
  }
});

test('on a Cluster, a node that is killed in the middle leaves what another one finishes', async () => {
  const { servers: primaries } = servers;
  for (let attempt = 1; ; attempt += 1) {
    const user = `killed.${attempt}@cluster.example`;
    const [first, second] = onServers.nodes;
    const spaces = Array.from({ length: 8 }, () => freshSpace());
    for (const space of spaces) await book(second, user, space, [1, 2]);
    assert.notDeepEqual(await placesInRedis(primaries, user), []);
    const erasing = async () => (await Promise.all(primaries.map((one) => one.ask('KEYS', '*:erasing:*')))).flat().length > 0;
    let isOver = false;
    const asked = staffOf(first).delete(`/api/users/${user}/data?force=true`).catch(() => undefined).finally(() => (isOver = true));
    // An erasure that ends before the test sees it cannot be interrupted, and does not count.
    await eventually(async () => (await erasing()) || isOver, 'an erasure that has begun');
    await onServers.killNode(first);
    await asked;
    const wasInTheMiddle = await erasing();
    const erased = await erase(second, user, '?force=true');
    assert.equal(erased.status, 200, erased.text);
    assert.deepEqual(await placesInRedis(primaries, user), []);
    const ids = new Set();
    for (const space of spaces) {
      const { data } = await staffOf(second).settled.get(`/api/journal?sedeId=1&spazioId=${space.number}`);
      for (const { id_utente: id } of data.entries) ids.add(id);
      assert.ok((await second.board(space)).slots.every(({ status }) => status === 'available'));
    }
    assert.equal(ids.size, 1, 'both calls gave the same id');
    await onServers.addNode();
    if (wasInTheMiddle) return;
    assert.ok(attempt < 5, 'no call was caught in the middle');
  }
});

test('on a Cluster, who acts while two calls erase loses nothing, and is found nowhere after the last call', async () => {
  const [first, second] = onServers.nodes;
  const user = 'busy@cluster.example';
  const space = freshSpace();
  const watching = await second.user(user);
  await watching.join(space, { date: space.date });
  let acts = 0;
  let stopped = false;
  const acting = (async () => {
    while (!stopped) {
      for (const name of ['hold', 'release']) {
        const answer = await userOf(second, user).post(`/api/slots/${name}`, space.body({ slots: [1 + (acts % 9)] }));
        // The calls may have released the holds.
        assert.ok([200, 404, 503].includes(answer.status), answer.text);
        acts += 1;
      }
    }
  })();
  await eventually(() => acts > 10, 'some acts');
  const answers = await Promise.all([erase(first, user, '?force=true'), erase(second, user, '?force=true')]);
  assert.deepEqual(answers.map(({ status }) => status), [200, 200]);
  stopped = true;
  await acting;
  assert.equal((await erase(first, user, '?force=true')).status, 200);
  assert.deepEqual(await placesInRedis(servers.servers, user), []);
  assert.ok((await first.board(space)).slots.every(({ status }) => status === 'available'));
  // The connection stays open, and gets the next events.
  await act(first, freshNumber(), 'hold', space.body({ slots: [9] }));
  const { version } = await first.board(space);
  await eventually(() => watching.all('slot_update').some((update) => update.version === version), 'the last event');
});
