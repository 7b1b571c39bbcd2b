/**
 * How the state of a space follows from what happens: pure and total, so that a recorded list of events replays to the
 * same picture. The reducer returns the very same object when an event changes nothing.
 *
 * An event never makes a day true by itself: a day is in sync only when a snapshot of it was applied at the space's
 * position and every update since. Whatever breaks that chain (a gap, another epoch, a snapshot from further on) takes
 * `inSync` away, and {@link daysToAsk} says which days have to be asked for.
 */

import type {
  DayDate,
  Position,
  WireAnswer,
  WireBoard,
  WireDescription,
  WireEntry,
  WireJoined,
  WireSnapshot,
  WireUpdate,
} from './protocol.js';
import { entryOf, nextChangeAfter, slotAt, updatedEntry } from './slots.js';
import type { Act, DayState, Ended, Entry, Pending, Slot, SpaceState } from './state.js';

/** How long an act may be unanswered before it is in doubt, in ms. */
export const DOUBT_MS = 5_000;

/** How long the event of an answered act may take to arrive, in ms. After that the client has missed something. */
export const BEHIND_MS = 2_000;

/** How long the board tells that an own hold has ended, in ms. */
export const ENDED_SHOWN_MS = 60_000;

/** Everything that can happen to a space. `now` is the server's time in ms. */
export type Event =
  | { readonly kind: 'connected' }
  | { readonly kind: 'disconnected'; readonly now: number }
  | { readonly kind: 'watched'; readonly date: DayDate }
  | { readonly kind: 'unwatched'; readonly date: DayDate }
  | { readonly kind: 'joined'; readonly joined: WireJoined }
  | { readonly kind: 'left' }
  | { readonly kind: 'update'; readonly update: WireUpdate; readonly now: number }
  | { readonly kind: 'snapshot'; readonly snapshot: WireSnapshot; readonly now: number }
  | { readonly kind: 'board'; readonly board: WireBoard }
  | { readonly kind: 'described'; readonly description: WireDescription }
  | { readonly kind: 'clock'; readonly now: number }
  | {
      readonly kind: 'asked';
      readonly id: number;
      readonly act: Act;
      readonly date: DayDate;
      readonly slots: readonly number[];
      readonly now: number;
    }
  | { readonly kind: 'answered'; readonly id: number; readonly answer: WireAnswer; readonly now: number }
  | { readonly kind: 'abandoned'; readonly id: number }
  | { readonly kind: 'refused'; readonly code: string; readonly message: string }
  | { readonly kind: 'user_changed' };

/** The state after an event. */
export function reduce(state: SpaceState, event: Event): SpaceState {
  switch (event.kind) {
    case 'connected':
      return changed(state, { link: 'online', offlineSince: null, isJoined: false, refusal: null });
    case 'disconnected':
      return state.link === 'offline' ? state : { ...state, link: 'offline', offlineSince: event.now, isJoined: false };
    case 'watched':
      return state.days.has(event.date) ? state : withDay(state, unknownDay(event.date));
    case 'unwatched':
      return withoutDay(state, event.date);
    case 'joined':
      return takeJoined(state, event.joined);
    case 'left':
      return changed(state, { isJoined: false });
    case 'update':
      return settle(takeUpdate(takeTime(state, event.now), event.update, event.now));
    case 'snapshot':
      return settle(takeSnapshot(takeTime(state, event.now), event.snapshot, event.now));
    case 'board':
      return takeBoard(state, event.board);
    case 'described':
      return takeDescription(state, event.description);
    case 'clock':
      return noteBehind(takeTime(state, event.now), event.now);
    case 'asked':
      return { ...state, pending: [...state.pending, pendingOf(event)] };
    case 'answered':
      return settle(noteAnswer(state, event.id, event.answer, event.now));
    case 'abandoned':
      return forgetPending(state, event.id);
    case 'refused':
      return { ...state, refusal: { code: event.code, message: event.message }, isJoined: false };
    case 'user_changed':
      return forgetUser(state);
    default:
      return state;
  }
}

/** The days that the server has to be asked for, in order of date. */
export function daysToAsk(state: SpaceState): DayDate[] {
  return [...state.days.values()]
    .filter((day) => !day.inSync)
    .map((day) => day.date)
    .sort();
}

/** The position from which the server can go on; `null` unless every watched day is known at that position. */
export function resumePosition(state: SpaceState): Position | null {
  const days = [...state.days.values()];
  return state.position !== null && days.length > 0 && days.every((day) => day.inSync) ? state.position : null;
}

// Connection

function takeJoined(state: SpaceState, joined: WireJoined): SpaceState {
  const next = changed(state, { isJoined: true, refusal: null });
  // The missed events follow, and nothing else, so everything that is known stays true.
  if (joined.recovered) return changed(next, { ahead: null });
  // A new connection starts at the position of its server, whatever other connections brought.
  const position = { epoch: joined.epoch, version: joined.version };
  const isSame = state.position !== null && samePosition(state.position, position);
  const days = isSame ? next.days : mapDays(next.days, outOfSync);
  const pastEpochs = next.pastEpochs.filter((epoch) => epoch !== position.epoch);
  return { ...next, position: isSame ? next.position : position, ahead: null, pastEpochs, days };
}

// Events of the space

function takeUpdate(state: SpaceState, update: WireUpdate, now: number): SpaceState {
  const { position } = state;
  // Before the first snapshot there is no day to apply the update to. The snapshot will contain the update.
  if (position === null) return state;
  if (state.pastEpochs.includes(update.epoch)) return askAnew(state);
  if (update.epoch === position.epoch && update.version <= position.version) return state;
  const isNext = update.epoch === position.epoch && update.version === position.version + 1;
  if (!isNext) return noteAhead(state, { epoch: update.epoch, version: update.version });
  const at = { epoch: update.epoch, version: update.version };
  const next: SpaceState = {
    ...state,
    position: at,
    ahead: isReached(state.ahead, at) ? null : state.ahead,
    now,
  };
  const day = state.days.get(update.data.date);
  if (day === undefined || !day.inSync) return next;
  const entries = new Map(day.entries);
  entries.set(update.data.id_slot, updatedEntry(day.entries.get(update.data.id_slot), update.data, at));
  const shown = shownDay(day, entries, next);
  return withEnded(withDay(next, shown), day, shown, Date.parse(update.timestamp));
}

/**
 * An own hold that is gone at its end or later has ended, whether the clock or the server tells it first. A hold that is
 * gone earlier was released.
 */
function withEnded(state: SpaceState, before: DayState, after: DayState, at: number): SpaceState {
  const gone = endedOf(before, after.slots, state.ended).filter((number) => {
    const until = before.slots.find((slot) => slot.number === number)?.heldUntil ?? Infinity;
    return until <= at && after.slots.find((slot) => slot.number === number)?.status === 'available';
  });
  return gone.length === 0 ? state : { ...state, ended: [...state.ended, { date: before.date, slots: gone, at }] };
}

/** An event before this one was missed, so no day counts as true until the server shows it. */
function noteAhead(state: SpaceState, heard: Position): SpaceState {
  const { ahead } = state;
  const isFurther = ahead === null || ahead.epoch !== heard.epoch || ahead.version < heard.version;
  return changed(state, { ahead: isFurther ? heard : ahead, days: mapDays(state.days, outOfSync) });
}

/** Only the server can say which of two epochs is over. Its next snapshot is where to start. */
function askAnew(state: SpaceState): SpaceState {
  return { ...state, position: null, ahead: null, pastEpochs: [], days: mapDays(state.days, outOfSync) };
}

function takeSnapshot(state: SpaceState, snapshot: WireSnapshot, now: number): SpaceState {
  const position = { epoch: snapshot.epoch, version: snapshot.version };
  if (isOfDoubtfulEpoch(state, position)) return askAnew(state);
  if (isOld(state, position)) return state;
  const isSame = state.position !== null && samePosition(state.position, position);
  const isOtherEpoch = state.position !== null && state.position.epoch !== position.epoch;
  const next: SpaceState = {
    ...state,
    position: isSame ? state.position : position,
    ahead: null,
    pastEpochs: isOtherEpoch ? pastWith(state) : state.pastEpochs,
    // The snapshot is of another version than the other days.
    days: isSame ? state.days : mapDays(state.days, outOfSync),
    timeZone: snapshot.timeZone ?? state.timeZone,
    now,
  };
  const known = next.days.get(snapshot.date);
  if (known === undefined) return next;
  // A day that is in sync here is known as of this very position.
  const isUnchanged = (_: Entry, before: Entry) => known.inSync || samePosition(before.at, position);
  const entries = withOwners(entriesOf(snapshot.slotsStatus, position), known.entries, isUnchanged);
  return withDay(next, shownDay({ ...known, inSync: true }, entries, next));
}

/** Whether it is unknown if the epoch of a snapshot is over: it was left, or another one was heard of since. */
function isOfDoubtfulEpoch({ position, ahead, pastEpochs }: SpaceState, at: Position): boolean {
  if (pastEpochs.includes(at.epoch)) return true;
  return ahead !== null && ahead.epoch !== at.epoch && position?.epoch === at.epoch;
}

/** Whether a snapshot is from before what was applied or heard of. */
function isOld({ position, ahead }: SpaceState, at: Position): boolean {
  const isBefore = (known: Position | null) => known?.epoch === at.epoch && at.version < known.version;
  return isBefore(position) || isBefore(ahead);
}

/** How many past epochs are remembered. An epoch lasts for hours, and a late message is late by seconds. */
const PAST_EPOCHS = 8;

function pastWith({ position, pastEpochs }: SpaceState): readonly string[] {
  return position === null ? pastEpochs : [...pastEpochs, position.epoch].slice(-PAST_EPOCHS);
}

function isReached(ahead: Position | null, at: Position): boolean {
  return ahead === null || (ahead.epoch === at.epoch && ahead.version <= at.version);
}

/**
 * A board over HTTP is a first picture: nothing follows it, so that it makes no day true. It also says whose slots are,
 * which staff hears nowhere else: that is kept for each slot that is as it was there.
 */
function takeBoard(state: SpaceState, board: WireBoard): SpaceState {
  const day = state.days.get(board.date);
  if (day === undefined) return state;
  const told = entriesOf(board.slots, { epoch: board.epoch, version: board.version });
  const next = changed(state, { timeZone: board.timeZone ?? state.timeZone });
  const isFromBefore = ({ at }: Entry, { at: asked }: Entry) => at.epoch === asked.epoch && at.version <= asked.version;
  return withDay(next, shownDay(day, day.isKnown ? withOwners(day.entries, told, isFromBefore) : told, next));
}

function entriesOf(entries: readonly WireEntry[], at: Position): Map<number, Entry> {
  return new Map(entries.map((entry) => [entry.id_slot, entryOf(entry, at)]));
}

/**
 * The entries with the owners that others tell, where both are of the same taking of a slot. A slot may have been freed
 * and taken by another user while nothing was heard, and looks the same: so the two have to show that it was not.
 *
 * A server that tells when slots start also tells which are this user's. Only one of 0.1 leaves that to others.
 */
function withOwners(
  entries: ReadonlyMap<number, Entry>,
  others: ReadonlyMap<number, Entry>,
  isUnchanged: (entry: Entry, other: Entry) => boolean,
): ReadonlyMap<number, Entry> {
  let owned = entries;
  for (const [number, entry] of entries) {
    const other = others.get(number);
    if (other?.status !== entry.status || other.heldUntil !== entry.heldUntil || !isUnchanged(entry, other)) continue;
    const mine = entry.mine ?? (entry.startsAt === null ? other.mine : null);
    const user = entry.user ?? other.user;
    if (mine !== entry.mine || user !== entry.user) owned = new Map(owned).set(number, { ...entry, mine, user });
  }
  return owned;
}

function takeDescription(state: SpaceState, { name, timezone }: WireDescription): SpaceState {
  return changed(state, { name: name ?? null, timeZone: timezone });
}

// Time

/** This also runs before each event that tells the time. The event changes one day, and time passes on all days. */
function takeTime(state: SpaceState, now: number): SpaceState {
  if (now === state.now) return state;
  let days = state.days;
  const ended: Ended[] = [];
  for (const day of state.days.values()) {
    const slots = slotsAt(day, { ...state, now });
    if (slots === day.slots) continue;
    const gone = endedOf(day, slots, state.ended);
    if (gone.length > 0) ended.push({ date: day.date, slots: gone, at: now });
    days = new Map(days).set(day.date, { ...day, slots });
  }
  const kept = state.ended.filter(({ at }) => now - at < ENDED_SHOWN_MS);
  const allEnded = ended.length === 0 && kept.length === state.ended.length ? state.ended : [...kept, ...ended];
  const pending = doubtAfter(state.pending, now);
  if (days === state.days && pending === state.pending && allEnded === state.ended) {
    // The time alone changes no drawing, because countdowns ask the client for the time. Only an instant that was due needs
    // a new state.
    const due = nextClock(state);
    return due !== null && due <= now ? { ...state, now } : state;
  }
  return { ...state, now, days, pending, ended: allEnded };
}

/** Each answered act has an event. If the event has not arrived in time, it was missed, and the client asks the server again. */
function noteBehind(state: SpaceState, now: number): SpaceState {
  const isLate = ({ at, answeredAt }: Pending) => at !== null && answeredAt !== null && now - answeredAt >= BEHIND_MS;
  const late = state.pending.find((one) => isLate(one) && one.at?.epoch === state.position?.epoch);
  if (late?.at == null || state.ahead !== null || (state.position?.version ?? 0) >= late.at.version) return state;
  return noteAhead(state, late.at);
}

/**
 * The own holds that have ended between two states of a day. A corrected clock may pass an end twice, so each end is told
 * once.
 */
function endedOf(day: DayState, after: readonly Slot[], told: readonly Ended[]): number[] {
  const byNumber = new Map(after.map((slot) => [slot.number, slot]));
  const isTold = ({ number, heldUntil }: Slot) =>
    told.some(({ date, slots, at }) => date === day.date && slots.includes(number) && heldUntil !== null && heldUntil <= at);
  const wasOwnHold = day.slots.filter((slot) => slot.mine && slot.status === 'occupied' && !isTold(slot));
  return wasOwnHold.filter((slot) => byNumber.get(slot.number)?.status !== 'occupied').map((slot) => slot.number);
}

function doubtAfter(pending: readonly Pending[], now: number): readonly Pending[] {
  const isNew = (one: Pending) => !one.isDoubtful && one.at === null && now - one.since >= DOUBT_MS;
  return pending.some(isNew) ? pending.map((one) => (isNew(one) ? { ...one, isDoubtful: true } : one)) : pending;
}

// Acts

function pendingOf(asked: Extract<Event, { kind: 'asked' }>): Pending {
  const { id, act, date, slots, now } = asked;
  return { id, act, date, slots, since: now, isDoubtful: false, at: null, answeredAt: null };
}

function noteAnswer(state: SpaceState, id: number, answer: WireAnswer, now: number): SpaceState {
  const at = { epoch: answer.epoch, version: answer.version };
  if (!state.pending.some((one) => one.id === id)) return state;
  const pending = state.pending.map((one) => (one.id === id ? { ...one, at, answeredAt: now, isDoubtful: false } : one));
  return { ...state, pending };
}

function forgetPending(state: SpaceState, id: number): SpaceState {
  const pending = state.pending.filter((one) => one.id !== id);
  return pending.length === state.pending.length ? state : { ...state, pending };
}

/** An answered act is pending until its effect is shown. After a change of epoch the snapshot shows every effect. */
function settle(state: SpaceState): SpaceState {
  const { position } = state;
  if (position === null || state.pending.length === 0) return state;
  const isShown = ({ at, date }: Pending) => {
    if (at === null) return false;
    const isInSync = state.days.get(date)?.inSync ?? true;
    return isInSync && (at.epoch !== position.epoch || at.version <= position.version);
  };
  const pending = state.pending.filter((one) => !isShown(one));
  return pending.length === state.pending.length ? state : { ...state, pending };
}

// User

/** The slots of the previous user are forgotten at once, so that they never look like this user's own. */
function forgetUser(state: SpaceState): SpaceState {
  const forget = (day: DayState): DayState => ({ ...day, inSync: false, isKnown: false, entries: new Map(), slots: [] });
  return {
    ...state,
    days: mapDays(state.days, forget),
    position: null,
    ahead: null,
    pending: [],
    ended: [],
    isJoined: false,
  };
}

// Days

function unknownDay(date: DayDate): DayState {
  return { date, inSync: false, isKnown: false, slots: [], entries: new Map() };
}

function outOfSync(day: DayState): DayState {
  return day.inSync ? { ...day, inSync: false } : day;
}

/** The day with these entries, at the present time. */
function shownDay(day: DayState, entries: ReadonlyMap<number, Entry>, state: SpaceState): DayState {
  const slots = slotsAt({ ...day, entries }, state);
  const isSame = day.isKnown && day.entries === entries && day.slots === slots;
  return isSame ? day : { ...day, isKnown: true, entries, slots };
}

function mapDays(days: SpaceState['days'], map: (day: DayState) => DayState): SpaceState['days'] {
  const mapped = [...days.values()].map(map);
  const isSame = mapped.every((day) => days.get(day.date) === day);
  return isSame ? days : new Map(mapped.map((day) => [day.date, day]));
}

function withDay(state: SpaceState, day: DayState): SpaceState {
  return state.days.get(day.date) === day ? state : { ...state, days: new Map(state.days).set(day.date, day) };
}

function withoutDay(state: SpaceState, date: DayDate): SpaceState {
  if (!state.days.has(date)) return state;
  const days = new Map(state.days);
  days.delete(date);
  return { ...state, days, ended: state.ended.filter((one) => one.date !== date) };
}

/** The slots in order. An unchanged slot is the same object as before, and so is the list if no slot changed. */
function slotsAt({ entries, slots: before }: DayState, { now }: SpaceState): readonly Slot[] {
  const known = new Map(before.map((slot) => [slot.number, slot]));
  const slots = [...entries.values()].map((entry) => {
    const slot = slotAt(entry, now);
    const same = known.get(slot.number);
    return same !== undefined && isSameSlot(same, slot) ? same : slot;
  });
  slots.sort((a, b) => a.number - b.number);
  const isSame = slots.length === before.length && slots.every((slot, index) => slot === before[index]);
  return isSame ? before : slots;
}

function isSameSlot(a: Slot, b: Slot): boolean {
  const names = Object.keys(a) as (keyof Slot)[];
  return names.every((name) => (name === 'data' ? isSameData(a.data, b.data) : a[name] === b[name]));
}

function isSameData(a: Slot['data'], b: Slot['data']): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

function samePosition(a: Position, b: Position): boolean {
  return a.epoch === b.epoch && a.version === b.version;
}

function changed(state: SpaceState, changes: Partial<SpaceState>): SpaceState {
  const names = Object.keys(changes) as (keyof SpaceState)[];
  return names.every((name) => state[name] === changes[name]) ? state : { ...state, ...changes };
}

/** The next instant of the server's clock at which the state changes without an event; `null` for never. */
export function nextClock(state: SpaceState): number | null {
  const instants: number[] = [];
  for (const day of state.days.values()) {
    for (const entry of day.entries.values()) {
      const next = nextChangeAfter(entry, state.now);
      if (next !== null) instants.push(next);
    }
  }
  for (const one of state.pending) {
    if (one.at === null && !one.isDoubtful) instants.push(one.since + DOUBT_MS);
    // This instant is looked at once. If the day is unknown by then, the client asks for it anyway.
    const isDue = one.answeredAt !== null && one.answeredAt + BEHIND_MS > state.now;
    if (isDue && one.answeredAt !== null) instants.push(one.answeredAt + BEHIND_MS);
  }
  for (const { at } of state.ended) instants.push(at + ENDED_SHOWN_MS);
  return instants.length === 0 ? null : Math.min(...instants);
}
