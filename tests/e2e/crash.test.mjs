// Kills the node under load, again and again. Afterwards every acknowledged act is there, versions continue, and clients
// that reconnect by themselves catch up by `since` without a gap.
//
// SLOTCAST_CRASH_ROUNDS says how many times (5).

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TRANSPORTS } from './lib/client.mjs';
import { day, freshSpace, range, versions } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { DEADLINE_MS, eventually, sleep } from './lib/waiting.mjs';

const ROUNDS = Number(process.env.SLOTCAST_CRASH_ROUNDS ?? 5);
const WRITERS = 8;
const SLOTS = range(1, 9);

const pick = (list) => list[Math.floor(Math.random() * list.length)];

/** A client that acts on a day of its own, so that it knows the state of each slot. */
class Writer {
  constructor(space, index) {
    this.user = 700 + index;
    this.date = day(10 + index);
    this.space = space;
    this.expected = Object.fromEntries(SLOTS.map((slot) => [slot, 'available']));
    this.acknowledged = [];
  }

  /** Acts without a pause until the node is gone. */
  async actUntilTheNodeIsGone(node) {
    while (!node.exit) {
      const slot = pick(SLOTS);
      const [act, becomes] = this.#anAct(slot);
      this.unknown = { slot, becomes };
      let answer;
      try {
        answer = await act(node);
      } catch {
        return; // The connection broke: the act was done or not, and the board will tell.
      }
      if (answer.status === 503) {
        if (!(await this.#settle(node))) return;
      } else {
        assert.equal(answer.status, 200, answer.text);
        this.#learn(slot, becomes, answer.data);
      }
    }
  }

  /** What a busy machine has not answered is final after a second, and the board tells; false where the node is gone by then. */
  async #settle(node) {
    await sleep(1_100);
    try {
      await this.check(node);
      return true;
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      return false;
    }
  }

  #anAct(slot) {
    const body = { idSpazio: this.space.number, sedeId: this.space.site, date: this.date };
    const post = (act) => (node) => node.userCaller(this.user).post(`/api/slots/${slot}/${act}`, body);
    const free = (node) => node.staffCaller().put(`/api/slots/${slot}`, { ...body, status: 'available' });
    return {
      available: [post('hold'), 'occupied'],
      occupied: pick([[post('book'), 'booked'], [post('release'), 'available']]),
      booked: [free, 'available'],
    }[this.expected[slot]];
  }

  #learn(slot, status, { epoch, version }) {
    this.expected[slot] = status;
    this.unknown = undefined;
    this.acknowledged.push({ epoch, version, date: this.date, slot, status });
  }

  /** Compares the board with the acknowledged acts; the one act whose answer was lost may have been done or not. */
  async check(node) {
    const { slots } = await node.board(this.space, { date: this.date });
    for (const { id_slot: slot, status } of slots) {
      const allowed = [this.expected[slot], ...(this.unknown?.slot === slot ? [this.unknown.becomes] : [])];
      assert.ok(allowed.includes(status), `${this.date} slot ${slot} is ${status}, acknowledged was ${allowed[0]}`);
      this.expected[slot] = status;
    }
    this.unknown = undefined;
  }
}

/** A stock client that comes back by itself, and asks each time for what it missed. */
function watch(node, space, transports) {
  const reconnecting = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 };
  const client = node.connect({ token: userToken(600), transports, ...reconnecting });
  client.socket.on('connect', () => {
    const last = client.all('slot_update').at(-1) ?? client.all('joined_space')[0];
    const since = last && { epoch: last.epoch, version: last.version };
    client.emit('join_space', { spazioId: space.number, sedeId: space.site, ...(since ? { since } : {}) });
  });
  return client;
}

const countAcknowledged = (writers) => writers.reduce((sum, { acknowledged }) => sum + acknowledged.length, 0);

test(`nothing acknowledged is lost in ${ROUNDS} kills under load, and no client has a gap`, async () => {
  const space = freshSpace();
  const settings = { SLOTCAST_USER_RATE: '0' };
  let node = await startSlotcast({ settings });
  const { dataDir, port } = node;
  const watchers = [...Object.values(TRANSPORTS), TRANSPORTS.websocket].map((transports) => watch(node, space, transports));
  await Promise.all(watchers.map((watcher) => watcher.first('joined_space')));
  const writers = range(1, WRITERS).map((index) => new Writer(space, index));

  for (let round = 1; round <= ROUNDS; round += 1) {
    const working = Promise.all(writers.map((writer) => writer.actUntilTheNodeIsGone(node)));
    await Promise.race([working, sleep(100 + Math.random() * 1_500)]);
    // A slow machine gets more time before the kill.
    const wanted = round * (WRITERS + 1);
    await Promise.race([working, eventually(() => countAcknowledged(writers) >= wanted, `${wanted} acts`)]);
    node.assertNoPanic();
    await node.kill();
    await working;
    node = await startSlotcast({ settings, dataDir, port });
    for (const writer of writers) await writer.check(node);
  }

  const last = await node.staffCaller().settled.putOnce('/api/slots/1', space.body({ status: 'blocked' }));
  const head = last.data.version;
  const acknowledged = writers.flatMap((writer) => writer.acknowledged);
  console.log(`${acknowledged.length} acts acknowledged in ${ROUNDS} rounds, ${head} versions`);
  assert.ok(acknowledged.length > ROUNDS * WRITERS, 'there was a load');
  for (const watcher of watchers) {
    await watcher.first('slot_update', (update) => update.version === head, 2 * DEADLINE_MS);
    const [start] = watcher.all('joined_space');
    const updates = watcher.all('slot_update');
    assert.deepEqual(versions(updates), range(start.version + 1, head), 'contiguous, each once, in order');
    assert.deepEqual(new Set(updates.map((update) => update.epoch)), new Set([start.epoch]));
    assert.deepEqual(watcher.all('slots_status_update'), [], 'never a snapshot');
    assert.ok(watcher.all('joined_space').length >= 2, 'it came back');
    const announced = new Map(updates.map((update) => [update.version, update]));
    for (const { version, date, slot, status } of acknowledged) {
      const { data } = announced.get(version);
      assert.deepEqual([data.date, data.id_slot, data.status], [date, slot, status], `version ${version}`);
    }
  }
  for (const watcher of watchers) watcher.close();
  await node.stop();
});
