// The journal in a history: a reader follows it through whichever node answers, while everything fails, and in the end it is
// read as a whole. Then it must tell of each act once, and of nothing else.

import { callerOf } from '../lib/http.mjs';
import { staffToken } from '../lib/tokens.mjs';
import { eventually, sleep } from '../lib/waiting.mjs';

/** How long a call that waits may take, in ms. */
const CALL_MS = 5_000;

/** The pause after a failed call, in ms. */
const PAUSE_MS = 100;

/** The names of each act in the journal. */
const NAMES = { hold: ['hold'], book: ['book'], release: ['release', 'cancel'], extend: ['extend'], update: ['update'] };

/** Follows the journal of a world's nodes. */
export class JournalReader {
  constructor(world) {
    this.world = world;
    /** The ids in the order in which they were first seen. */
    this.ids = new Set();
    this.problems = [];
    this.turn = 0;
  }

  start() {
    this.following = this.#follow();
    return this;
  }

  async #follow() {
    while (!this.stopped) if (!(await this.#read('&wait=1'))) await sleep(PAUSE_MS);
  }

  /** One call to the next node. Gives its `data`, or nothing if it failed. */
  async #read(more) {
    const { nodes } = this.world;
    this.turn += 1;
    const node = nodes[this.turn % nodes.length];
    if (node === undefined) return undefined;
    const after = this.next === undefined ? '' : `&after=${this.next}`;
    const call = callerOf(node.url, staffToken(), CALL_MS).get(`/api/journal?sedeId=1&limit=500${more}${after}`);
    const answer = await call.catch(() => undefined);
    if (answer?.status === 410) {
      this.problems.push(answer.text);
      this.next = answer.body.next;
    }
    if (answer?.status !== 200) return undefined;
    this.next = answer.data.next;
    for (const { id } of answer.data.entries) this.ids.add(id);
    return answer.data;
  }

  /** Reads on to the end, and then everything from the beginning: `{ids, entries, problems}`. */
  async finish() {
    this.stopped = true;
    await this.following;
    const isAtEnd = async () => {
      const data = await this.#read('');
      return data !== undefined && !data.more && data.entries.length === 0;
    };
    await eventually(isAtEnd, 'the end of the journal');
    const { world, problems } = this;
    const whole = new JournalReader(world);
    const entries = [];
    for (let data; data === undefined || data.more; ) {
      data = await eventually(() => whole.#read(''), 'a page of the journal');
      entries.push(...data.entries);
    }
    return { ids: [...this.ids], entries, problems };
  }
}

/** Whether an entry tells of a version: a repeat of a part of what an act took names one that is not the act's last. */
const covers = (entry, { epoch, version }) =>
  entry.epoch === epoch && version <= entry.version && version > entry.version - entry.slots.length;

/** Checks that each stored act is told once, nothing else is told, and the follower has missed nothing. */
export function checkJournal(found, { room, number }) {
  const { journal, logs, records } = found.record;
  if (journal === undefined) return;
  const told = journal.entries.filter(({ spazioId }) => spazioId === number);
  const byId = new Map(told.map((entry) => [entry.id, entry]));
  if (byId.size < told.length) found.add('journal-twice', `${told.length - byId.size} ids are there twice`, { room });
  const idOf = ({ epoch, version }) => `${epoch}-1-${number}-${version}`;
  const kept = new Set(logs[room].map(idOf));
  for (const { ok, act, user, data } of records.filter((one) => one.room === room)) {
    // An act that the store has lost must not be told.
    if (!ok || !kept.has(idOf(data))) continue;
    const entry = byId.get(idOf(data)) ?? told.find((one) => covers(one, data));
    const at = { room, version: data.version };
    if (entry === undefined) found.add('journal-lacks', `an acknowledged ${act} is not told: ${idOf(data)}`, at);
    else if (!NAMES[act].includes(entry.act)) found.add('journal-differs', `a ${act} is told as ${entry.act}`, at);
    else if (act === 'hold' && String(entry.id_utente) !== String(user)) {
      found.add('journal-differs', `a hold of ${user} is told of ${entry.id_utente}`, at);
    }
  }
  const oldest = logs[room][0]?.version ?? 0;
  for (const entry of told) {
    if (entry.version < oldest || kept.has(entry.id)) continue;
    found.add('journal-invents', `${entry.act} ${entry.id} is no event of the space`, { room, version: entry.version });
  }
  const seen = new Set(journal.ids);
  const missed = told.filter(({ id }) => !seen.has(id)).map(({ id }) => id);
  if (missed.length > 0) found.add('journal-skipped', `who followed missed ${missed.slice(0, 5)}`, { room });
  for (const text of journal.problems) found.add('journal-gone', text, { room });
}
