// A load of acts by many users on many nodes. Every answer is kept, with the times at which it was asked for and came.

import { randomUUID } from 'node:crypto';

import { callerOf } from './http.mjs';
import { Dice, seeded } from './random.mjs';
import { staffToken, userToken } from './tokens.mjs';
import { sleep } from './waiting.mjs';

/** The status in which an act leaves its slots. */
export const BECOMES = { hold: 'occupied', book: 'booked', release: 'available', extend: 'occupied' };

/** What staff sets: mostly free, since otherwise soon no slot would be. */
const STAFF_SETS = ['available', 'available', 'available', 'available', 'blocked', 'booked'];

/** The socket event of an act. */
const EVENTS = { hold: 'hold_slot', book: 'book_slot', release: 'release_slot', extend: 'extend_hold' };

/** How long most holds last. */
const LONG_SECONDS = 600;

/** How long a call may take before the load gives it up, in ms, unless it is told otherwise. */
const PATIENCE_MS = 4_000;

/**
 * Acts of users. Each user does one thing after the other: over HTTP on any node, or over a connected socket where `sockets`
 * gives the user one.
 */
export class Load {
  /**
   * With a `seed` each user makes the same choices again. `repeats` is the share of the done calls, from 0 to 1, that the
   * user makes once more unchanged. `forgets` is the share of the short holds that the user lets end.
   */
  constructor(options) {
    const { nodes, spaces, users = 64, sockets = new Map(), pause = 0, shortHolds = 0, settle = false } = options;
    const { patience = PATIENCE_MS, seed = undefined, repeats = 0, forgets = 0 } = options;
    /** A function, since nodes come and go. */
    this.nodes = nodes;
    this.spaces = spaces;
    this.sockets = sockets;
    this.pause = pause;
    /** How many of the holds last for a second or two only, from 0 to 1. */
    this.shortHolds = shortHolds;
    /** Whether a call that was answered 503 is repeated until its outcome is known. */
    this.settle = settle;
    this.patience = patience;
    this.seed = seed;
    this.repeats = repeats;
    this.forgets = forgets;
    this.records = [];
    this.clock = 0;
    /** By room: the highest version that an answer has told. */
    this.known = new Map();
    this.users = Array.from({ length: users }, (_, index) => this.#person(2_000 + index));
    this.staff = staffToken();
  }

  #person(id) {
    const next = this.seed === undefined ? Math.random : seeded(`${this.seed} ${id}`);
    return { id, token: userToken(id), holds: [], dice: new Dice(next) };
  }

  /** Does `count` acts in all, from all users at once. */
  async run(count) {
    let left = count;
    const work = async (user) => {
      while (left > 0 && !this.stopped) {
        left -= 1;
        await this.#act(user);
        if (this.pause > 0) await sleep(this.pause * user.dice.between(0, 2));
      }
    };
    await Promise.all(this.users.map(work));
    return this.records;
  }

  /** Acts until `stop` is called. */
  start() {
    this.running = this.run(Number.POSITIVE_INFINITY);
    // Reported by `stop`.
    this.running.catch(() => {});
    return this;
  }

  async stop() {
    this.stopped = true;
    await this.running;
    return this.records;
  }

  /** How many acts were done so far. */
  get done() {
    return this.records.filter((record) => record.ok).length;
  }

  async #act(user) {
    const wanted = this.#choose(user);
    const record = await this.#perform(user, wanted);
    if (this.settle && record.unknown && wanted.act !== 'update') await this.#repeat(user, record);
    if (record.ok && wanted.act !== 'update' && user.dice.chance(this.repeats)) await this.#again(user, record);
  }

  /** Makes an answered call once more: under its key, or without one where a plain repeat gets the first answer. */
  async #again(user, first) {
    const { key, wanted } = first;
    if (key === undefined && wanted.act !== 'book') return;
    await this.#perform(user, wanted, undefined, { key, again: true });
  }

  /** Mostly chooses an act that may succeed, and sometimes one that cannot. */
  #choose(user) {
    const { dice } = user;
    const chance = (probability) => dice.chance(probability);
    const pick = (list) => dice.pick(list);
    const space = pick(this.spaces);
    if (chance(0.15)) return { act: 'update', space, slots: [slotBy(dice)], status: pick(STAFF_SETS) };
    const own = user.holds.length > 0 && chance(0.7) ? user.holds.splice(0, 1)[0] : undefined;
    if (own === undefined) {
      const holdSeconds = chance(this.shortHolds) ? pick([1, 2]) : LONG_SECONDS;
      return { act: chance(0.9) ? 'hold' : pick(['book', 'release', 'extend']), space, slots: slotsBy(dice), holdSeconds };
    }
    const holdToken = chance(0.5) ? own.holdToken : undefined;
    const act = pick(['book', 'release', 'release', 'release', 'extend', 'hold']);
    const slots = chance(0.2) && act !== 'hold' ? own.slots.slice(0, 1) : own.slots;
    return { act, space: own.space, slots, holdSeconds: LONG_SECONDS, ...(act === 'hold' ? {} : { holdToken }) };
  }

  async #repeat(user, first) {
    for (;;) {
      await sleep(1_100);
      const record = await this.#perform(user, first.wanted, first);
      if (record.unknown) continue;
      // Under its key the call is done at most once, and this is the answer of that time.
      first.settled = first.key !== undefined;
      return;
    }
  }

  async #perform(user, wanted, first = undefined, again = undefined) {
    const { act, space, slots } = wanted;
    const known = first ?? again;
    const onSocket = act !== 'update' && known?.key === undefined && this.#socketOf(user);
    const key = known ? known.key : !onSocket && act !== 'update' && user.dice.chance(0.5) ? randomUUID() : undefined;
    const record = {
      wanted,
      act,
      space,
      slots,
      key,
      user: user.id,
      becomes: act === 'update' ? wanted.status : BECOMES[act],
      holdToken: wanted.holdToken,
      holdSeconds: wanted.holdSeconds,
      first,
      again: again?.again,
      sent: (this.clock += 1),
      sentAt: Date.now(),
      low: this.known.get(space.room) ?? 0,
    };
    Object.assign(record, await (onSocket ? this.#emit(onSocket, wanted) : this.#call(user, wanted, key)));
    record.received = this.clock += 1;
    record.receivedAt = Date.now();
    record.unknown = record.status === undefined || record.status === 503;
    this.records.push(record);
    this.#learn(user, record);
    return record;
  }

  /** Over HTTP: `{ok, status, code, conflicts, data}`, status undefined when there was no answer. */
  async #call(user, { act, space, slots, status, holdSeconds, holdToken }, key) {
    const node = user.dice.pick(this.nodes());
    const headers = key === undefined ? {} : { 'idempotency-key': key };
    const time = { hold: { holdSeconds }, extend: { holdSeconds } }[act];
    const body = space.body({ ...time, ...(holdToken === undefined ? {} : { holdToken }) });
    const caller = callerOf(node.url, act === 'update' ? this.staff : user.token, this.patience);
    try {
      const answer =
        act === 'update'
          ? await caller.put(`/api/slots/${slots[0]}`, { ...body, status })
          : await caller.post(`/api/slots/${act}`, { ...body, slots }, headers);
      return {
        node: node.url,
        ok: answer.status === 200,
        status: answer.status,
        code: answer.body?.code,
        conflicts: answer.body?.conflicts,
        data: answer.data,
        text: answer.text,
      };
    } catch (error) {
      return { node: node.url, ok: false, text: `${error.message}: ${error.cause?.message}` };
    }
  }

  /** The connected socket of a user who has one. The client would keep what is emitted earlier, and send it at any time. */
  #socketOf({ id }) {
    const client = this.sockets.get(id);
    return client?.socket.connected ? client : undefined;
  }

  async #emit(client, { act, space, slots, holdSeconds, holdToken }) {
    const time = { hold: { holdSeconds }, extend: { holdSeconds } }[act];
    const payload = space.event({ slots, ...time, ...(holdToken === undefined ? {} : { holdToken }) });
    const answered = await client.call(EVENTS[act], payload).catch((late) => ({ late }));
    if (answered.late) return { node: 'socket', ok: false, text: answered.late.message };
    const { ok, error, ...data } = answered;
    const status = ok ? 200 : error.code === 'unavailable' ? 503 : 400;
    const text = JSON.stringify(error ?? data);
    return { node: 'socket', ok, status, code: error?.code, conflicts: error?.conflicts, data, text };
  }

  #learn(user, { act, space, slots, ok, data, holdSeconds }) {
    if (!ok) return;
    this.known.set(space.room, Math.max(this.known.get(space.room) ?? 0, data.version));
    if (holdSeconds < LONG_SECONDS && user.dice.chance(this.forgets)) return;
    if (act === 'hold' || act === 'extend') user.holds.push({ space, slots, holdToken: data.holdToken });
  }
}

const slotBy = (dice) => 1 + Math.floor(dice.between(0, 9));

function slotsBy(dice) {
  const count = dice.pick([1, 1, 1, 2, 3]);
  const slots = new Set();
  while (slots.size < count) slots.add(slotBy(dice));
  return [...slots].sort((left, right) => left - right);
}
