// A load whose answers can all be proved afterwards: one caller holds each slot once, and then leaves it alone. A hold that
// was acknowledged and is not on the board in the end is lost.

import { startCluster } from './cluster.mjs';
import { callerOf, settled } from './http.mjs';
import { day, freshNumber, range } from './fixtures.mjs';
import { userToken } from './tokens.mjs';
import { eventually, inLanes, sleep } from './waiting.mjs';

/** How long the caller waits for an answer, in ms: longer than a node takes to answer 503. */
const PATIENCE_MS = 4_000;

/** The days that one space is used for, from tomorrow on. Each has nine slots. */
const DAYS = 300;

/** Callers with a space each, who hold one slot after the other on any node. */
export class Claims {
  /** `nodes` is a function, because nodes come and go. Each caller waits `pause` ms between two acts, on average. */
  constructor(nodes, { callers = 16, pause = 40 } = {}) {
    this.nodes = nodes;
    this.pause = pause;
    this.callers = range(1, callers).map(() => ({ space: freshNumber(), user: freshNumber() }));
    /** `{space, date, slot, status, sentAt, receivedAt, node}` of each call; status undefined without an answer. */
    this.records = [];
  }

  start() {
    this.running = Promise.all(this.callers.map((caller, index) => this.#claimAll(caller, index)));
    // `stop` reports the failure.
    this.running.catch(() => {});
    return this;
  }

  async stop() {
    this.stopped = true;
    await this.running;
    return this.records;
  }

  async #claimAll({ space, user }, index) {
    for (let turn = 0; !this.stopped; turn += 1) {
      const date = day(1 + (Math.floor(turn / 9) % DAYS));
      const nodes = this.nodes();
      const node = nodes[(turn + index) % nodes.length];
      const record = { space, date, slot: 1 + (turn % 9), node: node.url, sentAt: Date.now() };
      const body = { idSpazio: space, sedeId: 1, date, slots: [record.slot], holdSeconds: 900 };
      try {
        const answer = await callerOf(node.url, userToken(user), PATIENCE_MS).post('/api/slots/hold', body);
        Object.assign(record, { status: answer.status, text: answer.text });
      } catch (error) {
        record.text = `${error.message}: ${error.cause?.message}`;
      }
      record.receivedAt = Date.now();
      this.records.push(record);
      await sleep(this.pause * Math.random() * 2);
    }
  }

  /** How many acts were acknowledged so far. */
  get done() {
    return this.records.filter(({ status }) => status === 200).length;
  }

  /** Acknowledged acts that are not on the boards of a node. */
  async lost(node) {
    const done = this.records.filter(({ status }) => status === 200);
    const days = new Set(done.map(({ space, date }) => `${space} ${date}`));
    const held = new Set();
    await inLanes(8, [...days], async (key) => {
      const [space, date] = key.split(' ');
      const caller = callerOf(node.url, undefined, undefined);
      const path = `/api/slots/${space}/${date}?sedeId=1`;
      const { data } = await settled(() => caller.get(path), `the board of ${key}`);
      for (const { id_slot: slot, status } of data.slots) if (status === 'occupied') held.add(`${key} ${slot}`);
    });
    return done.filter(({ space, date, slot }) => !held.has(`${space} ${date} ${slot}`));
  }

  /**
   * What callers noticed from an instant on: the longest time without an acknowledged act (`gap`), the time from the first
   * refusal to the last (`refused`), both in ms, and the number of refusals (`refusals`). `which` chooses among the records.
   */
  noticed(from, which = () => true) {
    const since = this.records.filter((record) => record.receivedAt >= from && which(record));
    const good = since.filter(({ status }) => status === 200).map(({ receivedAt }) => receivedAt).sort((a, b) => a - b);
    const instants = [from, ...good];
    const gap = Math.max(0, ...instants.slice(1).map((at, index) => at - instants[index]));
    const bad = since.filter(({ status }) => status !== 200);
    const refused = bad.length === 0 ? 0 : Math.max(...bad.map((r) => r.receivedAt)) - Math.min(...bad.map((r) => r.sentAt));
    return { gap, refused, refusals: bad.length };
  }
}

/** `median and max` of numbers, as a test prints them. */
export function medianAndMax(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return `median ${sorted[Math.floor(sorted.length / 2)]}, max ${sorted.at(-1)}`;
}

/** Three nodes on a store that was started, under a load of acts. Both end with the test. */
export async function startClaims(t, store) {
  const settings = { SLOTCAST_USER_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0' };
  const cluster = await startCluster({ settings, store });
  t.after(() => cluster.stop());
  const claims = new Claims(() => cluster.nodes).start();
  t.after(() => claims.stop());
  await acts(claims, 60);
  return { cluster, claims };
}

/** Waits until the load has done `count` more acts. */
export async function acts(claims, count) {
  const goal = claims.done + count;
  await eventually(() => claims.done >= goal, () => `${count} acts more after ${JSON.stringify(claims.records.at(-1))}`);
}
