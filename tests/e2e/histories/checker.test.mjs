// Whether the checker sees: a history in which nothing fails has no violation, and each thing that may go wrong, done to its
// record by hand or to the store behind the nodes' back, is found by its name.

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';

import { check, explain } from './checks.mjs';
import { range } from '../lib/fixtures.mjs';
import { BECOMES } from '../lib/load.mjs';
import { faultOf } from './faults/index.mjs';
import { runHistory } from './history.mjs';

const names = (violations) => [...new Set(violations.map(({ name }) => name))];

/** The last item that matches. Throws without one, because a break that breaks nothing would prove nothing. */
function last(list, matches) {
  const found = list.filter(matches).at(-1);
  assert.ok(found, 'the history has what is to be broken');
  return found;
}

const room = (record) => record.spaces[0].room;
const isDone = (act) => (one) => one.ok && one.act === act && !one.again && !one.first;

/** What is broken in the record of a good history, and the names under which that is found: one of them, at least. */
const BREAKS = {
  'an act that the journal has not': {
    found: ['journal-lacks'],
    break: (record) => {
      const done = last(record.records, isDone('hold'));
      record.journal.entries = record.journal.entries.filter(({ epoch, spazioId, version }) => epoch !== done.data.epoch || version !== done.data.version || !done.room.includes(`_${spazioId}_`));
    },
  },
  'an entry of no act': {
    found: ['journal-invents'],
    break: ({ journal }) => {
      const entry = journal.entries.at(-1);
      const version = entry.version + 9_000;
      journal.entries.push({ ...entry, id: `${entry.epoch}-1-${entry.spazioId}-${version}`, version });
    },
  },
  'an entry that comes twice from the beginning on': {
    found: ['journal-twice'],
    break: ({ journal }) => journal.entries.push(journal.entries.at(-1)),
  },
  'an entry that a reader skipped': {
    found: ['journal-skipped'],
    break: ({ journal }) => journal.ids.splice(journal.ids.indexOf(journal.entries.at(-1).id), 1),
  },
  'a hold that is told of another user': {
    found: ['journal-differs'],
    break: (record) => {
      const done = last(record.records, isDone('hold'));
      record.journal.entries.find(({ epoch, spazioId, version }) => epoch === done.data.epoch && version === done.data.version && done.room.includes(`_${spazioId}_`)).id_utente = 'another';
    },
  },
  'a second holder of a held slot': {
    found: ['double-hold'],
    break: (record) => {
      // A hold of slots that the user holds already gets its old answer, with an old version.
      const isFirst = (one) => !record.records.some((other) => other.ok && other.room === one.room && other.data.version === one.data.version && other.sent < one.sent);
      const held = last(record.records, (one) => isDone('hold')(one) && one.holdSeconds === 600 && isFirst(one));
      const log = record.logs[held.room];
      const events = held.slots.map((_, index) => log[held.data.version - held.slots.length + index]);
      // The same hold again by another user, at the next version.
      const copies = structuredClone(events);
      const shift = copies.length;
      for (const later of log.slice(held.data.version)) later.version += shift;
      for (const later of log.slice(held.data.version)) later.payload.version += shift;
      for (const copy of copies) {
        copy.version += shift;
        copy.payload.version += shift;
      }
      log.splice(held.data.version, 0, ...copies);
      for (const one of record.records) if (one.room === held.room && one.data?.version > held.data.version) one.data.version += shift;
      const data = { ...held.data, version: held.data.version + shift, holdToken: 'another' };
      record.records.push({ ...held, user: 9_999, key: undefined, data, sent: held.received + 0.1, received: held.received + 0.2 });
    },
  },
  'an act that the log has not': {
    found: ['act-lost'],
    break: (record) => {
      const done = last(record.records, isDone('hold'));
      record.records.push({ ...done, key: undefined, data: { ...done.data, version: record.logs[done.room].length + 3 } });
    },
  },
  'a booking that is gone': {
    found: ['board-differs', 'viewer-differs'],
    break: (record) => {
      const board = Object.values(record.boards).find(({ slots }) => slots.some(({ status }) => status === 'booked' || status === 'blocked'));
      assert.ok(board, 'a board with a booking');
      board.slots.find(({ status }) => status === 'booked' || status === 'blocked').status = 'available';
    },
  },
  'a refusal that nothing explains': {
    found: ['answer-unexplained'],
    break: (record) => {
      const done = last(record.records, isDone('hold'));
      const sent = record.records.at(-1).received + 1;
      // Slot 9 after everything: what the log leaves it in is not what refuses an extension with this conflict.
      const refused = { ...done, slots: [9], ok: false, status: 409, code: 'slot_unavailable', conflicts: [8], data: undefined, key: undefined };
      record.records.push({ ...refused, sent, received: sent + 1, sentAt: record.endedBefore, receivedAt: record.endedBefore + 1 });
    },
  },
  'an event that a viewer did not hear': {
    found: ['viewer-differs'],
    break: (record) => {
      const followed = record.viewers[1].rooms[room(record)];
      followed.updates.pop();
      followed.position = { ...followed.position, version: followed.position.version - 1 };
    },
  },
  'a gap that a viewer noticed': {
    found: ['gap'],
    break: (record) => record.viewers[0].faults.push(`${room(record)}: not the next version: {"version":5}`),
  },
  'an event that no log has': {
    found: ['event-of-no-act', 'two-contents'],
    break: (record) => {
      const { updates } = record.viewers[2].rooms[room(record)];
      updates.push({ ...updates.at(-1), epoch: 'another' });
    },
  },
  'two contents of one version': {
    found: ['two-contents'],
    break: (record) => {
      const update = record.viewers[2].rooms[room(record)].updates.at(-1);
      update.status = update.status === 'booked' ? 'blocked' : 'booked';
    },
  },
  'a hold that ends twice': {
    found: ['end-announced-twice'],
    break: (record) => {
      const isEnd = ({ kind, payload }, index, log) => kind === 'slot_update' && payload.status === 'available' && !record.records.some((one) => one.ok && one.room === log.room && one.data.version === index + 1);
      for (const [name, log] of Object.entries(record.logs)) {
        log.room = name;
        const end = log.findLast((entry, index) => isEnd(entry, index, log));
        delete log.room;
        if (end === undefined) continue;
        const again = structuredClone(end);
        again.version = log.length + 1;
        again.payload.version = again.version;
        const free = log.filter(({ payload }) => payload?.slotId === end.payload.slotId).at(-1) === end;
        if (!free) continue;
        log.push(again);
        record.boards[name].version += 1;
        return;
      }
      assert.fail('the history has no end of a hold');
    },
  },
  'a hold whose end nobody announced': {
    found: ['end-not-announced'],
    break: (record) => {
      const entry = last(record.logs[room(record)], ({ payload }) => payload?.status === 'occupied');
      const log = record.logs[room(record)];
      log.splice(log.indexOf(entry) + 1);
      record.endedBefore = Date.parse(entry.payload.data.held_until) + 1;
    },
  },
  'a freed slot that one viewer did not hear of': {
    found: ['freed-sum'],
    break: (record) => last(record.viewers, ({ freed }) => freed.length > 0).freed.pop(),
  },
  'a freed slot that was told twice': {
    found: ['freed-sum'],
    break: (record) => {
      const { freed } = last(record.viewers, (viewer) => viewer.freed.length > 0);
      freed.push(freed[0]);
    },
  },
  'a count of freed slots that is too high': {
    found: ['freed-sum'],
    break: (record) => (last(record.viewers, ({ freed }) => freed.length > 0).freed[0].count += 1),
  },
  'a count of freed slots that is too low': {
    found: ['freed-count'],
    break: (record) => (last(record.viewers, ({ freed }) => freed.length > 0).freed[0].count = 0),
  },
  'a repeat with another version': {
    found: ['repeat-differs'],
    break: (record) => {
      // Another call did this, so nothing is stored under this call's key.
      const isAnother = (one, other) => other.key !== one.key && other.user === one.user && other.room === one.room;
      const mayTell = (one, other) => other.unknown && one.slots.some((slot) => other.slots.includes(slot));
      const tellsIt = (one, other) => (other.ok ? other.data.version === one.data.version : mayTell(one, other));
      const isAlone = (one) => !record.records.some((other) => isAnother(one, other) && tellsIt(one, other));
      const first = last(record.records, (one) => one.ok && one.key !== undefined && one.act === 'hold' && isAlone(one));
      const data = { ...first.data, version: first.data.version - 1 };
      record.records.push({ ...first, data, sent: first.received + 0.1, received: first.received + 0.2 });
    },
  },
  'a repeat with another version, beside an unknown hold of another slot': {
    found: ['repeat-differs'],
    break: (record) => {
      const first = last(record.records, (one) => one.ok && one.key !== undefined && one.act === 'hold');
      const another = range(1, 9).find((slot) => !first.slots.includes(slot));
      const keep = (one) => one.key === first.key || one.user !== first.user || one.act !== 'hold';
      record.records = record.records.filter(keep);
      const unknown = { ...first, key: undefined, slots: [another], ok: false, unknown: true, status: 503, data: undefined, sent: first.sent - 0.1 };
      const data = { ...first.data, version: first.data.version - 1 };
      record.records.push(unknown, { ...first, data, sent: first.received + 0.1, received: first.received + 0.2 });
    },
  },
  'an answer with a position that no event has': {
    found: ['no-such-position'],
    break: (record) => (last(record.records, isDone('hold')).data.epoch = 'another'),
  },
  'a notification that was not received': {
    found: ['notification-lost'],
    break: (record) => record.messages[0].clients[0].got.shift(),
  },
  'notifications in another order': {
    found: ['message-order'],
    break: (record) => record.messages[0].clients[0].got.reverse(),
  },
  'a broadcast that was not received': {
    found: ['broadcast-lost'],
    break: (record) => record.messages.find(({ isToAll }) => isToAll).clients.at(-1).got.shift(),
  },
  'a log with a hole': {
    found: ['log-gap', 'head-differs'],
    break: (record) => record.logs[room(record)].splice(2, 1),
  },
  'a node that is ready while it refuses everything': {
    found: ['ready-while-refusing'],
    break: (record) => {
      const { node, at } = record.readiness[0];
      const refused = { ...last(record.records, isDone('hold')), node, ok: false, unknown: true, status: 503, data: undefined, key: undefined };
      for (const after of range(0, 7)) {
        const { room: name } = record.spaces[after % record.spaces.length];
        record.records.push({ ...refused, room: name, sentAt: at - 9_000 + after * 1_000, receivedAt: at - 8_999 + after * 1_000 });
      }
      record.readiness.push({ node, at: at - 3_000, status: 200 });
    },
  },
  'a change that nobody made': {
    found: ['change-of-no-act'],
    break: (record) => {
      const { room: name, data } = last(record.records, isDone('hold'));
      // No repeat could have been the act either.
      record.records = record.records.filter((one) => !(one.ok && one.room === name && one.data.version === data.version));
    },
  },
};

describe('a history that was broken by hand', () => {
  let good;

  before(async () => {
    const fault = { ...faultOf('none'), sizes: { lasts: 3_000, warmUp: 80, afterwards: 80 } };
    const result = await runHistory(fault, 'checker');
    assert.deepEqual(result.violations, [], result.violations.map((one) => explain(result.record, one)).join('\n'));
    assert.ok(result.acts > 100, 'there were acts');
    good = result.record;
  });

  for (const [what, { found, break: breakIt }] of Object.entries(BREAKS)) {
    test(`${what} is found`, () => {
      const record = structuredClone(good);
      breakIt(record);
      const { violations } = check(record);
      assert.ok(names(violations).some((name) => found.includes(name)), `${found} is not among ${names(violations)}`);
      for (const violation of violations) assert.ok(explain(record, violation).length > 0);
    });
  }
});

/** Acts by hand at the end of a history, each recorded as those of the load are: `act(act, key)` with one slot that is free. */
async function byHand({ homes: [node], spaces: [space], load }, acts) {
  const user = 8_889;
  const { slots } = await node.board(space);
  const [slot] = slots.filter(({ status }) => status === 'available').map(({ id_slot: number }) => number);
  assert.ok(slot, 'a free slot');
  return acts(async (act, key) => {
    const asked = { act, space, slots: [slot], user, key, becomes: BECOMES[act], holdSeconds: 600, sent: (load.clock += 1), sentAt: Date.now() };
    const headers = key === undefined ? {} : { 'idempotency-key': key };
    const { status, data, text } = await node.userCaller(user).post(`/api/slots/${act}`, space.body({ slots: [slot], holdSeconds: 600 }), headers);
    assert.equal(status, 200, text);
    load.records.push({ ...asked, ok: true, status, data, received: (load.clock += 1), receivedAt: Date.now() });
    return data;
  });
}

/** Records that look wrong but are right. */
const RIGHT = {
  'a key acts anew when the act of another call, which it only repeated, is over': async (act) => {
    const first = await act('hold');
    const repeat = await act('hold', 'a-key');
    assert.deepEqual([repeat.version, repeat.holdToken], [first.version, first.holdToken]);
    await act('release');
    const anew = await act('hold', 'a-key');
    assert.equal(anew.version, first.version + 2);
    // From here on the key's own answer is stored.
    await act('release');
    assert.deepEqual(await act('hold', 'a-key'), anew);
  },
  'so does one that repeated a booking': async (act) => {
    await act('hold');
    const first = await act('book');
    assert.equal((await act('book', 'another-key')).version, first.version);
  },
};

describe('a history with acts that look wrong and are right', { concurrency: 2 }, () => {
  for (const [what, acts] of Object.entries(RIGHT)) {
    test(`${what}: nothing is found`, async () => {
      const sizes = { lasts: 0, warmUp: 30, afterwards: 20 };
      const fault = { ...faultOf('none'), sizes, beforeCollect: (world) => byHand(world, acts) };
      const { violations, record } = await runHistory(fault, what);
      assert.deepEqual(violations, [], violations.map((one) => explain(record, one)).join('\n'));
    });
  }
});

/** Deletes all keys of the nodes that match a pattern, again and again while they act. */
const deleting = (pattern) => async ({ store, dice }) => {
  for (let round = 0; round < 25; round += 1) {
    const keys = await store.ask('KEYS', pattern);
    if (keys.length > 0) await store.command('DEL', dice.pick(keys));
    await new Promise((done) => setTimeout(done, 80));
  }
};

/** Damage to the store behind the nodes' back. */
const LIVE = {
  'days are deleted while users act': { inject: deleting('slotcast:*:day:*'), found: ['double-hold', 'act-against-the-rule', 'answer-unexplained', 'board-differs', 'act-lost'] },
  'a hold is taken out of the index of ends': {
    inject: async () => {},
    beforeCollect: async ({ store, homes, spaces, load }) => {
      const slots = range(1, 9).map(String);
      const board = await homes[0].board(spaces[0]);
      const free = slots.find((slot) => board.slots[slot - 1].status === 'available');
      const sentAt = Date.now();
      const held = await homes[0].userCaller(8_888).settled.post(`/api/slots/${free}/hold`, spaces[0].body({ holdSeconds: 2 }));
      assert.equal(held.status, 200, held.text);
      const answer = { ok: true, status: 200, data: held.data, sent: load.clock + 1, received: load.clock + 2, sentAt, receivedAt: Date.now() };
      const asked = { act: 'hold', space: spaces[0], slots: [Number(free)], user: 8_888, becomes: 'occupied', holdSeconds: 2 };
      load.records.push({ ...asked, ...answer });
      await store.command('DEL', ...(await store.ask('KEYS', 'slotcast:*:ends')));
    },
    found: ['end-not-announced'],
  },
  'a change is taken out of a log': {
    inject: async () => {},
    beforeCollect: async ({ store }) => {
      const [key] = await store.ask('KEYS', 'slotcast:*:log:1:1001');
      await store.command('XDEL', key, '5-0');
    },
    found: ['log-gap'],
  },
};

describe('a store that was broken behind the nodes\' back', { concurrency: 2 }, () => {
  for (const [what, { found, ...hooks }] of Object.entries(LIVE)) {
    test(`${what}: that is found`, async () => {
      const fault = { ...faultOf('none'), sizes: { lasts: 0, warmUp: 30, afterwards: 20 }, ...hooks };
      const { violations } = await runHistory(fault, what);
      assert.ok(names(violations).some((name) => found.includes(name)), `${found} is not among ${names(violations)}`);
    });
  }
});
