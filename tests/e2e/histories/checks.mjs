// What must hold of a recorded history, whatever failed meanwhile. Each check is a function of the record alone, so that
// the self-test can give it a record that was broken by hand. `history.mjs` makes the record.
//
// Whether the answers are linearizable needs no search among orders: every change has a version, so that the store itself
// names the one order, and each answer is tried in each state of it that the call can have met (`lib/model.mjs`).

import { FREE, atInstant, replayHistory } from '../lib/model.mjs';
import { checkJournal } from './journal.mjs';

/** If a board was read within this many ms of a hold's end, it may show either state. */
const BOARD_MS = 2_000;

/** A node that refuses every act for this many ms must say that it is not ready. */
const REFUSING_MS = 3_000;

/** Fewer refusals in a row than this prove nothing, because each may have a reason of its own. */
const REFUSALS = 6;

/** How many changes before and after a violation are shown. */
const AROUND = 3;

/** Fields that only the slot's own user is sent. */
const PRIVATE = ['mine', 'holdToken', 'heldAt', 'extendableUntil', 'cancelUntil'];

/**
 * All violations of a record: `[{name, text, room, version}]`. What the store itself may have lost (`record.loses`) is
 * counted in `lost`, and is no violation.
 */
export function check(record) {
  const found = new Findings(record);
  const paths = new Map(record.spaces.map((space) => [space.room, pathOf(record, space)]));
  const ends = new Map();
  for (const space of record.spaces) {
    const path = paths.get(space.room);
    checkPath(found, space, path);
    if (record.loses) checkPast(found, space);
    ends.set(space.room, checkSlots(found, space, path));
    checkContents(found, space);
    checkJournal(found, space);
  }
  for (const viewer of record.viewers) checkViewer(found, viewer, paths);
  checkFreed(found, ends);
  checkRepeats(found);
  checkMessages(found);
  checkReadiness(found);
  for (const problem of record.problems) found.add(problem.name, problem.text);
  return { violations: found.violations, lost: found.lost };
}

class Findings {
  constructor(record) {
    this.record = record;
    this.violations = [];
    /** Acknowledged acts that the store's log lacks. */
    this.lost = 0;
  }

  add(name, text, at = {}) {
    this.violations.push({ name, text, ...at });
  }
}

/**
 * The changes of a space by a log, that of version 1 at first: `[{version, epoch, kind, payload, slotId, ..., isElsewhere}]`.
 * What the log has not is of the kind `missing`.
 */
function pathOf({ logs }, { room, date }) {
  const path = [];
  for (const entry of logs[room]) {
    while (path.length < entry.version - 1) path.push({ version: path.length + 1, kind: 'missing', isElsewhere: true });
    const isElsewhere = entry.kind !== 'slot_update' || entry.payload.data.date !== date;
    path.push({ ...entry.payload, ...entry, isElsewhere });
  }
  return path;
}

/** Checks that the log is complete and leads to the board. */
function checkPath(found, { room }, path) {
  // A version that an act took before the store refused the rest of it is never used again: another epoch follows.
  const isBeforeAnEpoch = ({ version }) => {
    const next = path.slice(version).find(({ kind }) => kind !== 'missing');
    return next === undefined || next.epoch !== path[version - 2]?.epoch;
  };
  const missing = path.filter((one) => one.kind === 'missing' && !isBeforeAnEpoch(one)).map(({ version }) => version);
  if (missing.length > 0) found.add('log-gap', `the log has no version ${missing.slice(0, 10)}`, { room, version: missing[0] });
  const board = found.record.boards[room];
  if (board.version !== path.length) {
    found.add('head-differs', `the board is of version ${board.version}, the log ends with ${path.length}`, { room });
  }
}

/** Checks that each answer fits some order of the acts, nothing acknowledged is lost, and the acts lead to the board. */
function checkSlots(found, space, path) {
  const { room } = space;
  const { record } = found;
  const here = record.records.filter((one) => one.room === room);
  const known = here.filter((one) => isInPast(found, one, path));
  raiseLows(known, path);
  // Earlier answers may be from another past, which `checkPast` checks.
  for (const one of known) one.lenient = record.loses && one.sentAt <= record.workAt;
  const { violations, expiries, state } = replayHistory(known, path, { clock: record.clock });
  for (const text of violations) found.add(nameOf(text), text, { room, version: versionIn(text) });
  checkBoard(found, space, state);
  checkEnded(found, space, state);
  return expiries.map((version) => path[version - 1]);
}

/** Checks that answers from before a fault that may lose them fit the log of that time. */
function checkPast(found, space) {
  const { room } = space;
  const { before, records, clock } = found.record;
  const path = pathOf(before, space);
  const isOfThen = ({ ok, data }) => !ok || path[data.version - 1]?.epoch === data.epoch;
  const here = records.filter((one) => one.room === room && one.sentAt < before.readAt && isOfThen(one)).map((one) => ({ ...one }));
  const copies = new Map(here.map((one) => [one.sent, one]));
  for (const one of here) {
    one.first = one.first && copies.get(one.first.sent);
    one.lenient = one.receivedAt >= before.at;
  }
  raiseLows(here, path);
  for (const text of replayHistory(here, path, { clock }).violations) found.add(nameOf(text), `before the fault: ${text}`, { room });
}

/** Whether an answer belongs to the store's present log. If not, it was lost, which may be a violation. */
function isInPast(found, one, path) {
  if (!one.ok) return true;
  const { room } = one;
  const { version, epoch } = one.data;
  const event = path[version - 1];
  if (event?.epoch === epoch) return true;
  const isTold = event !== undefined && !event.isElsewhere && one.slots.includes(event.slotId);
  if (!found.record.loses && isTold) {
    found.add('no-such-position', `answered ${epoch} ${version}, which is of ${event.epoch}: ${brief(one)}`, { room, version });
    return true;
  }
  found.lost += 1;
  if (!found.record.loses) found.add('act-lost', `answered ${epoch} ${version}, which no log has: ${brief(one)}`, { room, version });
  return false;
}

/** For each act, the highest version that an earlier answer had told when the act was sent. */
function raiseLows(records, path) {
  const told = records.filter(({ ok }) => ok).sort((left, right) => left.received - right.received);
  const sent = [...records].sort((left, right) => left.sent - right.sent);
  let next = 0;
  let low = 0;
  for (const one of sent) {
    for (; next < told.length && told[next].received < one.sent; next += 1) low = Math.max(low, told[next].data.version);
    one.low = Math.min(low, path.length);
  }
}

/** Whether an answer may have come from a past that was lost. */
const overlaps = ({ sentAt, receivedAt }, { injectAt, workAt }) => receivedAt >= injectAt && sentAt <= workAt;

const nameOf = (text) => {
  if (/written by no act: .*"status":"available".* after \{"status":"available"/.test(text)) return 'end-announced-twice';
  if (/written by no act/.test(text)) return 'change-of-no-act';
  if (/should be .*slot_unavailable/.test(text)) return 'double-hold';
  if (/should be/.test(text)) return 'act-against-the-rule';
  if (/came after/.test(text)) return 'act-too-late';
  if (/no order/.test(text)) return 'answer-unexplained';
  return 'model';
};

const versionIn = (text) => Number(/(?:version |"version":)(\d+)/.exec(text)?.[1]) || undefined;

function checkBoard(found, { room }, state) {
  const board = found.record.boards[room];
  for (const { id_slot: slot, status } of board.slots) {
    const allowed = [-BOARD_MS, BOARD_MS].map((off) => atInstant(state?.[slot] ?? FREE, board.at + off).status);
    if (!allowed.includes(status)) {
      found.add('board-differs', `slot ${slot} is ${status}, by its acts ${allowed[0]}`, { room, version: board.version });
    }
  }
}

function checkEnded(found, { room }, state) {
  const { endedBefore } = found.record;
  for (const [slot, { status, until, version }] of (state ?? []).entries()) {
    if (status === 'occupied' && until < endedBefore) {
      found.add('end-not-announced', `the hold of slot ${slot} ended at ${new Date(until).toISOString()}`, { room, version });
    }
  }
}

/** Checks that no epoch and version name two contents, on any node and in any answer. */
function checkContents(found, { room }) {
  const contents = new Map();
  const told = [
    ...found.record.logs[room].filter(({ kind }) => kind === 'slot_update').map(({ payload }) => payload),
    ...found.record.viewers.flatMap(({ rooms }) => rooms[room].updates),
  ];
  for (const update of told) {
    const at = `${update.epoch} ${update.version}`;
    const text = JSON.stringify(publicPart(update));
    const other = contents.get(at) ?? text;
    contents.set(at, other);
    if (other !== text) found.add('two-contents', `${at} is ${other} and ${text}`, { room, version: update.version });
  }
}

function publicPart({ data, ...update }) {
  const shown = Object.entries(data).filter(([name]) => !PRIVATE.includes(name));
  return { ...update, data: Object.fromEntries(shown) };
}

/** Checks that a viewer missed nothing, heard nothing untrue, and shows the stored state in the end. */
function checkViewer(found, { name, faults, rooms }, paths) {
  for (const fault of faults) found.add('gap', `${name}: ${fault}`, { room: fault.split(':')[0], version: versionIn(fault.replace(/.*"version":/, 'version ')) });
  for (const [room, { position, statuses, updates }] of Object.entries(rooms)) {
    const board = found.record.boards[room];
    const isThere = position?.epoch === board.epoch && position.version === board.version;
    const wrong = board.slots.filter(({ id_slot: slot, status }) => statuses[slot] !== status);
    if (!isThere || wrong.length > 0) {
      const shown = wrong.map(({ id_slot: slot, status }) => `slot ${slot} ${statuses[slot]} for ${status}`);
      const at = `${JSON.stringify(position)} for ${board.epoch} ${board.version}`;
      found.add('viewer-differs', `${name} shows ${at} ${shown}`, { room, version: board.version });
    }
    if (found.record.loses) continue;
    const path = paths.get(room);
    const unknown = updates.find(({ epoch, version }) => path[version - 1]?.epoch !== epoch);
    if (unknown) {
      const { epoch, version } = unknown;
      found.add('event-of-no-act', `${name} heard ${epoch} ${version}, which no log has`, { room, version });
    }
  }
}

/** Checks that the freed slots that each connected client heard of add up to the holds that ended. */
function checkFreed(found, ends) {
  const { record } = found;
  const due = new Map();
  const always = new Map();
  for (const space of record.spaces) {
    for (const event of ends.get(space.room)) {
      const key = `${space.site}/${space.number}/${event.slotId}`;
      due.set(key, (due.get(key) ?? 0) + 1);
      // If the store lost its past, an earlier end is reported only if a node still knows of it.
      if (Date.parse(event.timestamp) > record.workAt) always.set(key, (always.get(key) ?? 0) + 1);
    }
  }
  for (const { name, stayed, freed } of record.viewers) {
    if (!stayed) continue;
    const heard = new Map();
    let sum = 0;
    for (const { count, spaces, truncated } of freed) {
      const keys = spaces.flatMap(({ spazioId, sedeId, slots }) => slots.map((slot) => `${sedeId}/${spazioId}/${slot}`));
      // If two holds of a slot end within the second that a node merges, the slot is named once and counted twice.
      if (count < keys.length && !truncated) found.add('freed-count', `${name}: count ${count} of ${keys.length} slots`);
      for (const key of keys) heard.set(key, (heard.get(key) ?? 0) + 1);
      sum += count;
    }
    const [least, most] = record.loses ? [always, undefined] : [due, due];
    const off = differences(heard, least, most);
    const [lower, upper] = [total(least), most ? total(most) : Number.POSITIVE_INFINITY];
    if (sum < lower || sum > upper) off.unshift(`${sum} in all for ${lower}`);
    if (off.length > 0) found.add('freed-sum', `${name} heard of ended holds (site/space/slot): ${off.slice(0, 8).join(', ')}`);
  }
}

const total = (counts) => [...counts.values()].reduce((sum, count) => sum + count, 0);

/** The slots that were reported less often than `least` says, or more often than `most` says. */
function differences(heard, least, most) {
  const keys = new Set([...heard.keys(), ...least.keys()]);
  return [...keys].flatMap((key) => {
    const [count, lower, upper] = [heard, least, most ?? heard].map((counts) => counts.get(key) ?? 0);
    return count < Math.min(1, lower) || count > upper ? [`${key} ${count} of ${count > upper ? upper : lower}`] : [];
  });
}

/**
 * What was called again under its key is answered as the first time. An answer that only repeated that of another call, as a
 * hold of what the user holds already, is not kept under the key (CONTRACT, *Repeats*): once the hold has ended, the same key
 * holds anew.
 */
function checkRepeats(found) {
  const firsts = new Map();
  const done = found.record.records.filter(({ ok, key }) => ok && key !== undefined);
  for (const one of done.sort((left, right) => left.received - right.received)) {
    const first = firsts.get(one.key) ?? one;
    firsts.set(one.key, first);
    // If the first answer was lost with the store's past, the repeat is another act.
    const isAs = same(first.data, one.data) || repeatsAnotherCall(first, found.record) || (found.record.loses && overlaps({ ...one, sentAt: first.sentAt }, found.record));
    if (isAs) continue;
    const [before, now] = [first.data, one.data].map(({ epoch, version, holdToken }) => `${epoch} ${version} ${holdToken ?? ''}`);
    found.add('repeat-differs', `answered ${now}, before ${before}: ${brief(one)}`, { room: one.room, version: one.data.version });
  }
}

/** Whether what an answer tells was done, or may have been, by a call that was sent before it came, under another key or none. */
function repeatsAnotherCall(answered, { records }) {
  const isBefore = (one) =>
    one.key !== answered.key && one.act === answered.act && one.user === answered.user && one.room === answered.room && one.sent < answered.received;
  const mayTell = (one) => one.unknown && answered.slots.some((slot) => one.slots.includes(slot));
  return records.some((one) => isBefore(one) && (one.ok ? same(one.data, answered.data) : mayTell(one)));
}

const same = (left, right) =>
  left.epoch === right.epoch && left.version === right.version && left.holdToken === right.holdToken;

/** Checks that acknowledged messages were received at least once and in order. */
function checkMessages(found) {
  for (const { what, sent, clients, isToAll } of found.record.messages) {
    const kept = sent.filter(({ ok, receivedAt, sentAt }) => ok && !(found.record.loses && overlaps({ sentAt, receivedAt }, found.record)));
    for (const { name, stayed, got } of clients) {
      if (isToAll && !stayed) continue;
      const missing = kept.filter(({ n }) => !got.includes(n)).map(({ n }) => n);
      if (missing.length > 0) found.add(isToAll ? 'broadcast-lost' : 'notification-lost', `${name} missed ${missing.length} of ${kept.length} of ${what}: ${missing.slice(0, 10)}`);
      const firsts = [...new Set(got)].filter((n) => kept.some((one) => one.n === n));
      const at = firsts.findIndex((n, index) => index > 0 && n < firsts[index - 1]);
      if (at > 0) found.add('message-order', `${name} heard ${firsts[at]} of ${what} after ${firsts[at - 1]}`);
    }
  }
}

/** Checks that a node that answers only 503 says so in `/readyz`. */
function checkReadiness(found) {
  const { records, readiness } = found.record;
  const nodes = new Set(readiness.map(({ node }) => node));
  for (const node of nodes) {
    const answered = records.filter((one) => one.node === node && one.status !== undefined);
    for (const row of refusalsOf(answered.sort((left, right) => left.sentAt - right.sentAt))) {
      const [first, last] = [row[0], row.at(-1)];
      if (row.length < REFUSALS || last.receivedAt - first.sentAt < REFUSING_MS) continue;
      // On a Cluster one space may refuse writes, for example in a moving slot, while all others work.
      if (new Set(row.map(({ room }) => room)).size === 1) continue;
      const meanwhile = readiness.filter((one) => one.node === node && one.at >= first.sentAt && one.at <= last.receivedAt + 1_000);
      if (meanwhile.some(({ status }) => status !== 200)) continue;
      // On a busy machine the test may have asked the node before the node could know, or not at all.
      const isLate = ({ at }) => at >= first.receivedAt + REFUSING_MS && at <= last.receivedAt;
      if (!meanwhile.some(isLate)) continue;
      found.add('ready-while-refusing', `${node} answered every act with 503 for ${last.receivedAt - first.sentAt} ms, and /readyz with 200`);
    }
  }
}

/** The runs of consecutive refusals as unavailable. */
function refusalsOf(answered) {
  const rows = [];
  let row;
  for (const one of answered) {
    if (one.status !== 503) row = undefined;
    else if (row) row.push(one);
    else rows.push((row = [one]));
  }
  return rows;
}

const brief = ({ act, slots, user, key, again, holdToken, data, code, status, sentAt }) =>
  JSON.stringify({ act, slots, user, status, code, version: data?.version, key: key !== undefined, again, token: holdToken !== undefined, at: new Date(sentAt).toISOString().slice(11, 23) });

/** A violation as a few lines: its text and, unless `isBrief`, the changes around it. */
export function explain(record, { name, text, room, version }, isBrief = false) {
  const lines = [`${name}: ${text.length > 400 ? `${text.slice(0, 400)} ...` : text}`];
  if (isBrief || room === undefined || version === undefined || record.logs[room] === undefined) return lines.join('\n');
  const near = (one) => one !== undefined && Math.abs(one - version) <= AROUND;
  const changes = record.logs[room].filter((entry) => near(entry.version)).map((entry) => ({
    at: entry.version,
    text: `${entry.version} ${entry.epoch.slice(0, 8)} ${entry.kind} ${entry.payload?.slotId ?? ''} ${entry.payload?.status ?? ''} ${entry.payload?.timestamp ?? ''}`,
  }));
  const acts = record.records.filter((one) => one.room === room && near(one.data?.version)).map((one) => ({
    at: one.data.version + 0.5,
    text: `    answered: ${brief(one)}`,
  }));
  const all = [...changes, ...acts].sort((left, right) => left.at - right.at);
  return [...lines, `  ${room}:`, ...all.map((one) => `    ${one.text}`)].join('\n');
}
