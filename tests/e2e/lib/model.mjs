// The contract's rules of slots, and whether what happened follows them: `checkHistory` takes the answers to a load and the
// events of one space's day, and names every answer that fits no order of the acts.

import { range } from './fixtures.mjs';

/** How far the clocks of two processes on one machine may be apart, in ms. */
const CLOCK_MS = 2;

/** How long after a 503 its act may still be done, in ms. */
const UNKNOWN_MS = 1_000;

export const FREE = Object.freeze({ status: 'available' });

/** The state of a slot at an instant: a hold that has ended is free. */
export const atInstant = (slot, time) => (slot.status === 'occupied' && slot.until <= time ? FREE : slot);

/**
 * What an act comes to in a state of the day (slot number to what is stored) at an instant: `{code, conflicts}` of a
 * refusal, `{version}` of a repeat, or nothing when it writes.
 */
export function decide(state, { act, slots, user, holdToken }, time) {
  const of = (number) => atInstant(state[number], time);
  const isMine = (slot) => slot.status === 'occupied' && slot.user === user;
  const refuse = (code, stands) => {
    const conflicts = slots.filter((number) => stands(of(number)));
    return conflicts.length > 0 ? { code, conflicts } : undefined;
  };
  if (act === 'hold') {
    const first = of(slots[0]);
    const together = state.flatMap((_, number) => (isMine(of(number)) && of(number).token === first.token ? [number] : []));
    if (isMine(first) && String(together) === String(slots)) {
      return { version: Math.max(...slots.map((number) => of(number).heldVersion)), token: first.token };
    }
    return refuse('slot_unavailable', (slot) => slot.status !== 'available');
  }
  if (act === 'update') return undefined;
  if (act === 'book' && slots.every((number) => of(number).status === 'booked' && of(number).user === user)) {
    return { version: Math.max(...slots.map((number) => of(number).bookedVersion)) };
  }
  const code = holdToken === undefined ? 'not_held' : 'hold_expired';
  return refuse(code, (slot) => !isMine(slot) || (holdToken !== undefined && slot.token !== holdToken));
}

/** The violations, as texts, of a space's history: all its `events` from version 1 on, in order, and all `records`. */
export function checkHistory(records, events) {
  return replayHistory(records, events).violations;
}

/**
 * A space's history as `checkHistory` takes it, with what it comes to: `{violations, expiries, state}`. `expiries` are the
 * versions that ended a hold, `state` is the day after the last event. Two clocks may be `clock` ms apart. An event with
 * `isElsewhere` is none of the day. A record that is `lenient` may have been answered by another branch of the store's
 * past: it explains events, but need not be explained.
 */
export function replayHistory(records, events, { clock = CLOCK_MS } = {}) {
  const history = new History(records, events, clock);
  return { violations: history.check(), expiries: history.expiries, state: history.states.at(-1) };
}

class History {
  constructor(records, events, clock) {
    this.events = events;
    this.clock = clock;
    this.expiries = [];
    this.violations = [];
    this.records = [...records].sort((left, right) => left.sent - right.sent);
    this.head = events.length;
    /** Per version, what is stored: slot number to state; index 0 is unused. */
    this.states = [Array.from({ length: 33 }, () => FREE)];
  }

  check() {
    this.#boundFromAbove();
    const writers = this.#claim();
    this.#replay(writers);
    const isWriter = new Set(writers.values());
    for (const record of this.records) {
      if (!record.unknown && !record.lenient && !isWriter.has(record)) this.#fits(record);
    }
    return this.violations;
  }

  #violated(what, record) {
    const { act, slots, user, status, code, conflicts, data, text, low, high, key, holdToken, first, node } = record;
    const known = { act, slots, user, status, code, conflicts, version: data?.version, low, high, node, key: Boolean(key) };
    this.violations.push(`${what}: ${JSON.stringify({ ...known, holdToken, repeat: Boolean(first) })} ${text ?? ''}`);
  }

  /**
   * An act came before all that were sent after its answer; where the answer is a 503, after the second that follows it;
   * and whenever it likes where there was no answer.
   */
  #boundFromAbove() {
    const starts = this.records
      .filter((record) => record.ok && !record.first && !record.lenient)
      .map(({ sent, sentAt, low, data, slots }) => ({ sent, sentAt, low, before: data.version - slots.length }))
      // The answer to a repeat names an old version, so it bounds nothing.
      .filter(({ before, low }) => before >= low);
    for (const record of this.records) {
      const isLater = ({ sent, sentAt }) => (record.unknown ? sentAt > record.receivedAt + UNKNOWN_MS : sent > record.received);
      const bounds = record.status === undefined ? [] : starts.filter(isLater).map(({ before }) => before);
      record.high = bounds.reduce((least, before) => Math.min(least, before), this.head);
    }
  }

  /** First version of each act that was answered with 200 to its record; several answers of one version are repeats. */
  #claim() {
    const writers = new Map();
    for (const record of this.records.filter(({ ok }) => ok)) {
      const first = record.data.version - record.slots.length + 1;
      const other = writers.get(first);
      const since = record.first?.low ?? record.low;
      if (other === undefined && first > since) writers.set(first, record);
    }
    return writers;
  }

  #replay(writers) {
    for (let version = 1; version <= this.head; ) {
      if (this.events[version - 1].isElsewhere) {
        this.states[version] = this.#stateAt(version - 1);
        version += 1;
        continue;
      }
      const record = writers.get(version) ?? this.#unknownWriter(version);
      const taken = record ? this.#write(version, record) : this.#expire(version);
      version += taken;
    }
  }

  /** The state after a version. If nothing is known of it yet, the state after the version before. */
  #stateAt(version) {
    return this.states[Math.min(version, this.states.length - 1)];
  }

  #set(version, slot, becomes) {
    const state = [...this.#stateAt(version - 1)];
    state[slot] = becomes;
    this.states[version] = state;
  }

  /** Finds an act whose answer was lost and that may have written this event. */
  #unknownWriter(version) {
    const event = this.events[version - 1];
    if (this.#isExpiry(event, version)) return undefined;
    const couldHave = (record) => {
      if (!record.unknown || record.settled || record.written) return false;
      if (version <= record.low || version - 1 > record.high) return false;
      if (instant(event) < record.sentAt - this.clock) return false;
      if (record.act === 'hold' && lengthOf(event) !== record.holdSeconds * 1_000) return false;
      const covered = this.events.slice(version - 1, version - 1 + record.slots.length);
      const same = covered.every(({ slotId, status }, index) => slotId === record.slots[index] && status === record.becomes);
      return same && covered.length === record.slots.length && !decide(this.#stateAt(version - 1), record, instant(event));
    };
    // Of several such acts it takes the one that explains the most slots, and of these the one that can explain the fewest
    // later events.
    const better = (left, right) => right.slots.length - left.slots.length || left.high - right.high;
    const [found] = this.records.filter(couldHave).sort(better);
    if (found) found.written = true;
    return found;
  }

  #isExpiry(event, version) {
    const before = this.#stateAt(version - 1)[event.slotId];
    return event.status === 'available' && before.status === 'occupied' && before.until <= instant(event);
  }

  /** Whether the store's clock has gone back, and a hold ends sooner for it: after its own length from now. */
  #isShortened(event, version) {
    const before = this.#stateAt(version - 1)[event.slotId];
    const isHeld = event.status === 'occupied' && before.status === 'occupied';
    return isHeld && lengthOf(event) === before.lasts && instant(event) + before.lasts < before.until;
  }

  #expire(version) {
    const event = this.events[version - 1];
    if (this.#isShortened(event, version)) {
      const before = this.#stateAt(version - 1)[event.slotId];
      this.#set(version, event.slotId, { ...before, version, until: Date.parse(event.data.held_until) });
      return 1;
    }
    if (!this.#isExpiry(event, version)) {
      const before = this.#stateAt(version - 1)[event.slotId];
      this.violations.push(`version ${version} was written by no act: ${JSON.stringify(event)} after ${JSON.stringify(before)}`);
    }
    if (this.#isExpiry(event, version)) this.expiries.push(version);
    this.#set(version, event.slotId, { ...FREE, version });
    return 1;
  }

  /** An act's events, all of them, in a state that allows it. */
  #write(version, record) {
    const { act, slots, user } = record;
    const first = this.events[version - 1];
    const before = this.#stateAt(version - 1);
    const decision = decide(before, record, instant(first));
    if (decision) this.#violated(`version ${version} should be ${JSON.stringify(decision)}`, record);
    if (version - 1 > record.high) this.#violated(`version ${version} came after what was asked for later`, record);
    slots.forEach((slot, index) => {
      const event = this.events[version - 1 + index];
      if (event?.slotId !== slot || event.status !== record.becomes) {
        this.#violated(`version ${version + index} is ${JSON.stringify(event)}`, record);
      }
      const old = before[slot];
      const next = { status: record.becomes, version: version + index, user };
      if (act === 'hold') Object.assign(next, { heldVersion: next.version });
      if (act === 'extend') Object.assign(next, { heldVersion: old.heldVersion });
      // Extended holds keep a token, also when nobody was told that they were extended: all of them that of the first.
      const token = act === 'extend' ? before[slots[0]].token : record.data?.holdToken;
      if (next.status === 'occupied') Object.assign(next, { token, until: Date.parse(event?.data.held_until), lasts: lengthOf(event) });
      // If staff sets a booked slot to booked, the slot stays with the user who booked it.
      const stays = act === 'update' && next.status === 'booked' && old.status === 'booked';
      if (act === 'update') next.user = stays ? old.user : undefined;
      if (next.status === 'booked') next.bookedVersion = stays ? old.bookedVersion : next.version;
      this.#set(version + index, slot, next);
    });
    if (act === 'hold') this.#checkLength(version, record, first);
    return slots.length;
  }

  #checkLength(version, record, event) {
    const lasts = lengthOf(event);
    if (lasts !== record.holdSeconds * 1_000) this.#violated(`the hold of version ${version} lasts ${lasts} ms`, record);
  }

  /** Whether an answer that wrote nothing is right at some version, and some instant, while it was under way. */
  #fits(record) {
    const low = record.first?.low ?? record.low;
    // A repeat under a key is answered as the first time, whatever has become of the slots since.
    if (record.ok && record.key && this.records.some((other) => isFirstOf(other, record))) return;
    const high = Math.max(record.high, low);
    const seen = [];
    for (const version of range(low, high)) {
      const state = this.#stateAt(version);
      for (const time of instantsOf(record, state, this.clock)) {
        const decision = decide(state, record, time);
        if (isAnswer(decision, record)) return;
        seen.push(JSON.stringify(decision));
      }
    }
    this.#violated(`no order of the acts explains this; right were ${[...new Set(seen)].slice(0, 4)}`, record);
  }
}

/** The store's time of an event. */
const instant = (event) => Date.parse(event.timestamp);

/** How long the hold of an event lasts from the event on, in ms. */
const lengthOf = (event) => Date.parse(event.data.held_until) - instant(event);

const isFirstOf = (other, record) =>
  other !== record && other.ok && other.key === record.key && other.data.version === record.data.version;

/** The instants that differ for an act: its two ends, and where a hold that it names ends between. */
function instantsOf(record, state, clock) {
  const [from, to] = [(record.first ?? record).sentAt - clock, record.receivedAt + clock];
  const ends = state.map((slot) => slot.until).filter((until) => until > from && until <= to);
  return [from, ...ends, to];
}

function isAnswer(decision, { ok, code, conflicts, data }) {
  if (decision === undefined) return false;
  if (ok) return decision.version === data.version && (decision.token === undefined || decision.token === data.holdToken);
  return decision.code === code && String(decision.conflicts) === String(conflicts ?? []);
}
