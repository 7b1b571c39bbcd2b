// Several nodes under a load of acts, with clients that watch: what failures happen to, and what must hold afterwards.
// Every client shows what is stored, was told of every gap, and nothing acknowledged is lost.

import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';

import { sameBoard, startCluster } from './cluster.mjs';
import { day, freshNumber, freshSpace, range } from './fixtures.mjs';
import { Follower, allShowTheStore } from './follower.mjs';
import { Load } from './load.mjs';
import { eventually, sleep } from './waiting.mjs';

const settings = { SLOTCAST_USER_RATE: '0', SLOTCAST_EVENT_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0' };

/** How late this process itself was, whose processor the nodes share. */
const lateness = monitorEventLoopDelay({ resolution: 20 });
lateness.enable();

/** How long a call may take that is answered 503 within one second, in ms: on a machine as busy as this one has been. */
export const oneSecond = () => 2_000 + 2 * (lateness.max / 1_000_000);

/** A cluster with a load on it, and followers on each node: what each of the failures happens to. */
export class Scene {
  /**
   * Starts all of it. With a `proxy` (a function that starts one) the clients come through it. `restless` clients break
   * their connections again and again. Each user waits `pause` ms between two acts, on average, and repeats with `settle`
   * what is refused as unavailable. `redis` and `store` are those of `startCluster`.
   */
  static async start(t, options = {}) {
    const { proxy, redis, store, restless = 0, shortHolds = 0, pause = 40, settle = false, transports } = options;
    const scene = new Scene();
    t.after(() => scene.end());
    scene.t = t;
    scene.cluster = await startCluster({ settings, redis, store });
    scene.spaces = range(1, 6).map(() => freshSpace());
    scene.targets = () => scene.cluster.nodes;
    scene.proxy = await proxy?.(() => scene.targets().map(({ port }) => port));
    const urls = scene.cluster.nodes.flatMap((node) => [node, node]).map(({ url }) => scene.proxy?.url ?? url);
    const how = transports === undefined ? {} : { transports };
    scene.followers = urls.map((url, index) => new Follower(url, scene.spaces, { user: 600 + index, ...how }));
    await Promise.all(scene.followers.map((follower) => follower.ready()));
    for (const follower of scene.followers.slice(0, restless)) follower.breakOften();
    scene.shortHolds = shortHolds;
    const nodes = () => scene.targets();
    scene.load = new Load({ nodes, spaces: scene.spaces, users: 16, pause, shortHolds, settle }).start();
    await scene.acts(60);
    return scene;
  }

  /** Waits until so many acts more are done. */
  async acts(count) {
    const goal = this.load.done + count;
    await eventually(() => this.load.done >= goal, `${count} acts more`);
  }

  /** Makes at least so many changes in each space, nine an act, on a day that no client shows. */
  async changeMuch(count) {
    const date = day(8);
    const change = async (space) => {
      const caller = this.targets()[0].userCaller(freshNumber());
      for (let done = 0; done < count; done += 18) {
        for (const act of ['hold', 'release']) {
          const answer = await caller.settled.post(`/api/slots/${act}`, space.body({ date, slots: range(1, 9) }));
          assert.equal(answer.status, 200, answer.text);
        }
      }
    };
    await Promise.all(this.spaces.map(change));
  }

  /** Ends the load, and checks what must hold whatever happened. `kept` says which acts the store itself has kept. */
  async check({ kept = () => true } = {}) {
    const records = await this.load.stop();
    for (const follower of this.followers) follower.rest();
    // What is unknown is final after a second.
    await sleep(1_100);
    await this.cluster.ready();
    const boards = await allShowTheStore(this.followers, this.cluster.nodes[0], this.spaces);
    for (const space of this.spaces) await sameBoard(this.cluster.nodes, space);
    const done = records.filter(({ ok }) => ok);
    const unknown = records.filter((record) => record.unknown);
    const snapshots = this.followers.map((follower) => this.#count(follower, 'snapshots'));
    const breaks = this.followers.map(({ client }) => client.disconnects.length);
    this.t.diagnostic(`${done.length} done, ${unknown.length} unknown, snapshots ${snapshots}, broken ${breaks}`);
    for (const follower of this.followers) assert.deepEqual(follower.faults, []);
    for (const space of this.spaces) assertOneContent(this.followers.map((follower) => follower.of(space)));
    for (const space of this.spaces) {
      const board = boards.get(space.room);
      const here = records.filter((record) => record.space === space);
      const acknowledged = here.filter((record) => record.ok && kept(record, board));
      // The store may or may not have kept this act, so either outcome is right.
      assertNothingLost(acknowledged, here.filter((record) => record.unknown || (record.ok && !kept(record, board))), board);
      for (const follower of this.followers) assertHeard(follower.of(space), acknowledged);
    }
    return records;
  }

  #count(follower, what) {
    return this.spaces.reduce((sum, space) => sum + follower.of(space)[what].length, 0);
  }

  assertAllStayedConnected() {
    for (const { client } of this.followers) assert.deepEqual(client.disconnects, []);
  }

  /**
   * No client was sent a snapshot besides the one that it asked for, except where it missed more than can be told: more
   * than a log keeps of one space, or than that of all its spaces when it came back.
   */
  assertNoNeedlessSnapshots() {
    for (const follower of this.followers) {
      for (const space of this.spaces) assert.deepEqual(follower.of(space).needless, [], space.room);
    }
  }

  async end() {
    await this.load?.stop();
    for (const follower of this.followers ?? []) follower.close();
    this.proxy?.close();
    await this.cluster?.stop();
  }
}

/** Where the store lost everything: what was done since. */
export const isOfTheEpoch = ({ data }, board) => data.epoch === board.epoch;

/** Whether an act left a hold that has ended by now; a repeated hold ends when the first was to, whatever it asked for. */
const hasEnded = ({ becomes, data }) => becomes === 'occupied' && Date.parse(data.heldUntil) <= Date.now();

/** Each slot is as the last acknowledged act on it left it, or as one without an answer may have. */
function assertNothingLost(done, unknown, board) {
  for (const { id_slot: slot, status } of board.slots) {
    const touches = ({ slots }) => slots.includes(slot);
    const last = done.filter(touches).reduce((one, other) => (one && one.data.version > other.data.version ? one : other), undefined);
    const free = last === undefined || hasEnded(last) ? ['available'] : [];
    const allowed = [...(last ? [last.becomes] : []), ...free, ...unknown.filter(touches).map(({ becomes }) => becomes)];
    assert.ok(allowed.includes(status), `slot ${slot} is ${status}, acknowledged was ${JSON.stringify(last)}`);
  }
  for (const { data } of done) assert.ok(data.version <= board.version, `version ${data.version} is lost: ${board.version}`);
}

/** No epoch and version name two contents, whichever client heard them. */
function assertOneContent(followed) {
  const contents = new Map();
  for (const update of followed.flatMap(({ updates }) => updates)) {
    const at = `${update.epoch} ${update.version}`;
    if (!contents.has(at)) contents.set(at, update);
    assert.deepEqual(update, contents.get(at), `two contents of ${at}`);
  }
}

/**
 * Each acknowledged act was heard under its version, unless a snapshot covers it. Its last slot's event has that version,
 * but where it repeats what was done in several acts, that of the last of these.
 */
function assertHeard({ updates, snapshots, space }, done) {
  const heard = new Map(updates.map((update) => [`${update.epoch} ${update.version}`, update]));
  for (const { data, slots, becomes, act } of done) {
    const update = heard.get(`${data.epoch} ${data.version}`);
    const isCovered = snapshots.some(({ epoch, version }) => epoch !== data.epoch || version >= data.version);
    assert.ok(update || isCovered, `${act} of version ${data.version} in ${space.room} was not heard`);
    const { slotId, status } = update ?? { slotId: slots.at(-1), status: becomes };
    assert.ok(slots.includes(slotId) && status === becomes, `${act} of ${slots} is ${slotId} ${status} in ${data.version}`);
  }
}

/** Every call that began while the store was away, and was not answered well, was answered 503 in time. */
export function assertRefusedInTime(records, from, to) {
  const during = records.filter(({ sentAt, receivedAt }) => sentAt > from && receivedAt < to);
  const refused = during.filter(({ ok }) => !ok);
  assert.ok(refused.length > 0, 'calls were refused');
  for (const { status, code, sentAt, receivedAt, text } of refused) {
    assert.deepEqual([status, code], [503, 'unavailable'], text);
    assert.ok(receivedAt - sentAt < oneSecond(), `a 503 after ${receivedAt - sentAt} ms`);
  }
}
