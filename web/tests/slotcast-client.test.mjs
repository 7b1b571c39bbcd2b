// The client is fed a server's events through a socket without a network.
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';

import { Refusal, SlotcastClient } from '../slotcast-client.js';

const DATE = '2027-03-01';
const SPACE = { sedeId: 1, spazioId: 2 };

/** A socket.io-client socket as far as the client uses it: `sent` is what it sent, `answers` what it will get. */
class FakeSocket extends EventEmitter {
  connected = false;
  active = true;
  auth = { token: 'first' };
  sent = [];
  answers = [];

  timeout() {
    return this;
  }

  emitWithAck(event, payload) {
    this.sent.push({ event, ...JSON.parse(JSON.stringify(payload)) });
    const answer = this.answers.shift() ?? { ok: true };
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  }

  connect() {
    this.connectCalls = (this.connectCalls ?? 0) + 1;
  }

  disconnect() {
    this.connected = false;
  }

  open() {
    this.connected = true;
    this.emit('connect');
  }

  drop(reason = 'transport close', active = true) {
    this.connected = false;
    this.active = active;
    this.emit('disconnect', reason);
  }
}

function entry(number, status = 'available', more = {}) {
  return { id_slot: number, orario: `${8 + number}:00`.padStart(5, '0'), status, title: '', ...more };
}

function snapshot(version, entries, { epoch = 'e1', date = DATE, timestamp } = {}) {
  return {
    type: 'slots_status_update',
    slotsStatus: entries,
    ...SPACE,
    date,
    epoch,
    version,
    timestamp: timestamp ?? new Date().toISOString(),
  };
}

function update(version, number, status, { epoch = 'e1', date = DATE, ...more } = {}) {
  return {
    type: 'slot_update',
    slotId: number,
    status,
    data: { id: number, ...SPACE, date, ...entry(number, status, more) },
    epoch,
    version,
    timestamp: new Date().toISOString(),
  };
}

function joined(recovered) {
  return { room: 'spazio_2_sede_1', ...SPACE, epoch: 'e1', version: 5, recovered, timestamp: new Date().toISOString() };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** A board that has joined and has the snapshot of version 5 with three free slots. */
async function openBoard(options) {
  const socket = new FakeSocket();
  const client = new SlotcastClient(socket, options);
  const board = client.open({ ...SPACE, date: DATE });
  socket.open();
  socket.emit('connection_confirmed', { userId: 7, timestamp: new Date().toISOString() });
  socket.emit('joined_space', joined(false));
  socket.emit('slots_status_update', snapshot(5, [entry(1), entry(2), entry(3)]));
  await settled();
  return { socket, client, board };
}

const statuses = (board) => board.slots.map((slot) => slot.status).join(' ');

test('joins when the socket connects, with the date and without a position', async () => {
  const { socket, board } = await openBoard();
  assert.deepEqual(socket.sent, [{ event: 'join_space', ...SPACE, date: DATE }]);
  assert.equal(statuses(board), 'available available available');
  assert.deepEqual(board.position, { epoch: 'e1', version: 5 });
  assert.equal(board.isCurrent, true);
});

test('applies the next version, drops one that it has', async () => {
  const { socket, board } = await openBoard();
  socket.emit('slot_update', update(6, 2, 'booked'));
  socket.emit('slot_update', update(6, 2, 'available'));
  socket.emit('slot_update', update(4, 1, 'blocked'));
  assert.equal(statuses(board), 'available booked available');
  assert.equal(board.position.version, 6);
  assert.equal(board.slots[1].title, 'Slot prenotato');
});

test('counts the versions of other days without painting them', async () => {
  const { socket, board } = await openBoard();
  socket.emit('slot_update', update(6, 2, 'booked', { date: '2027-03-02' }));
  socket.emit('slot_update', update(7, 3, 'booked'));
  assert.equal(statuses(board), 'available available booked');
  assert.equal(socket.sent.length, 1);
});

test('asks once for what is missing, and applies the replay in order', async () => {
  const { socket, board } = await openBoard();
  socket.emit('slot_update', update(8, 3, 'booked'));
  socket.emit('slot_update', update(9, 3, 'available'));
  assert.equal(board.isCurrent, false);
  assert.deepEqual(socket.sent.slice(1), [{ event: 'sync', ...SPACE, date: DATE, since: { epoch: 'e1', version: 5 } }]);
  for (const [version, slot] of [
    [6, 1],
    [7, 2],
    [8, 3],
  ])
    socket.emit('slot_update', update(version, slot, 'booked'));
  socket.emit('slot_update', update(9, 3, 'available'));
  await settled();
  assert.equal(statuses(board), 'booked booked available');
  assert.equal(board.isCurrent, true);
});

test('joins again with its position, and keeps the board when it is recovered', async () => {
  const { socket, board } = await openBoard();
  socket.drop();
  assert.equal(board.isCurrent, false);
  assert.equal(statuses(board), 'available available available');
  socket.open();
  socket.emit('joined_space', joined(true));
  socket.emit('slot_update', update(6, 1, 'booked'));
  await settled();
  assert.deepEqual(socket.sent[1], { event: 'join_space', ...SPACE, date: DATE, since: { epoch: 'e1', version: 5 } });
  assert.equal(statuses(board), 'booked available available');
  assert.equal(board.isCurrent, true);
});

test('takes a snapshot of a new epoch although its version is lower', async () => {
  const { socket, board } = await openBoard();
  socket.emit('slots_status_update', snapshot(2, [entry(1, 'blocked')], { epoch: 'e2' }));
  socket.emit('slot_update', update(3, 1, 'available', { epoch: 'e2' }));
  assert.equal(statuses(board), 'available');
  assert.deepEqual(board.position, { epoch: 'e2', version: 3 });
});

test('asks for a snapshot when an update bears an unknown epoch', async () => {
  const { socket, board } = await openBoard();
  socket.emit('slot_update', update(6, 1, 'booked', { epoch: 'e2' }));
  assert.deepEqual(socket.sent[1], { event: 'sync', ...SPACE, date: DATE });
  assert.equal(statuses(board), 'available available available');
});

test('ignores an older snapshot of its own epoch', async () => {
  const { socket, board } = await openBoard();
  socket.emit('slots_status_update', snapshot(4, [entry(1, 'booked')]));
  assert.equal(statuses(board), 'available available available');
});

test('asks again when a snapshot of another day passed over changes', async () => {
  const { socket, board } = await openBoard();
  socket.emit('slots_status_update', snapshot(9, [entry(1)], { date: '2027-03-02' }));
  assert.equal(board.isCurrent, false);
  assert.deepEqual(socket.sent[1], { event: 'sync', ...SPACE, date: DATE });
  socket.emit('slots_status_update', snapshot(9, [entry(1, 'booked')]));
  await settled();
  assert.equal(statuses(board), 'booked');
});

test('shows another day from a snapshot, never from an update', async () => {
  const { socket, board } = await openBoard();
  board.show('2027-03-02');
  assert.deepEqual(board.slots, []);
  socket.emit('slot_update', update(6, 1, 'booked', { date: '2027-03-02' }));
  assert.deepEqual(board.slots, []);
  socket.emit('slots_status_update', snapshot(6, [entry(1, 'booked')], { date: '2027-03-02' }));
  await settled();
  assert.deepEqual(socket.sent[1], { event: 'sync', ...SPACE, date: '2027-03-02' });
  assert.equal(statuses(board), 'booked');
});

test('knows its own holds by the answer, whichever comes first', async () => {
  const { socket, board } = await openBoard();
  const held_until = new Date(Date.now() + 60_000).toISOString();
  const answer = { ok: true, slots: [1, 2], status: 'occupied', holdToken: 't', epoch: 'e1', version: 7 };
  socket.answers.push(answer);
  const holding = board.hold([1, 2], { holdSeconds: 60 });
  socket.emit('slot_update', update(6, 1, 'occupied', { held_until }));
  assert.equal((await holding).holdToken, 't');
  socket.emit('slot_update', update(7, 2, 'occupied', { held_until }));
  assert.deepEqual(
    board.slots.map((slot) => slot.mine),
    [true, true, false],
  );
  assert.equal(board.slots[1].holdToken, 't');
  assert.deepEqual(socket.sent[1], { event: 'hold_slot', ...SPACE, date: DATE, slots: [1, 2], holdSeconds: 60 });
});

test('a slot that was freed and taken again is no longer its own', async () => {
  const { socket, board } = await openBoard();
  const held_until = new Date(Date.now() + 60_000).toISOString();
  socket.answers.push({ ok: true, slots: [1], holdToken: 't', epoch: 'e1', version: 6 });
  socket.emit('slot_update', update(6, 1, 'occupied', { held_until }));
  await board.hold([1]);
  assert.equal(board.slots[0].mine, true);
  socket.emit('slot_update', update(7, 1, 'available'));
  assert.equal(board.slots[0].mine, false);
  socket.emit('slot_update', update(8, 1, 'occupied', { held_until }));
  assert.equal(board.slots[0].mine, false);
});

test('an answer that comes after the slot was lost does not make it its own', async () => {
  const { socket, board } = await openBoard();
  const held_until = new Date(Date.now() + 60_000).toISOString();
  socket.answers.push({ ok: true, slots: [1], holdToken: 't', epoch: 'e1', version: 6 });
  for (const [version, status] of [
    [6, 'occupied'],
    [7, 'available'],
    [8, 'occupied'],
  ]) {
    socket.emit('slot_update', update(version, 1, status, { held_until }));
  }
  await board.hold([1]);
  assert.equal(board.slots[0].mine, false);
});

test('asks whose the slots are after a snapshot, and believes nothing older than a change', async () => {
  const boards = [];
  const { socket, board } = await openBoard({
    fetchBoard: () => new Promise((resolve) => boards.push(resolve)),
  });
  assert.equal(boards.length, 1);
  socket.emit('slot_update', update(6, 1, 'booked'));
  boards[0]({
    epoch: 'e1',
    version: 5,
    date: DATE,
    slots: [entry(1, 'occupied', { mine: true }), entry(2, 'booked', { id_utente: '7' }), entry(3)],
  });
  await settled();
  assert.deepEqual(
    board.slots.map((slot) => slot.mine),
    [false, false, false],
  );
  socket.emit('slot_update', update(7, 2, 'booked'));
  board.applyOwners({
    epoch: 'e1',
    version: 7,
    date: DATE,
    slots: [entry(1, 'booked', { id_utente: 8 }), entry(2, 'booked', { id_utente: 7 })],
  });
  assert.deepEqual(
    board.slots.map((slot) => slot.mine),
    [false, true, false],
  );
  assert.equal(board.slots[0].user, 8);
});

test("shows a hold that ended by the server's clock as available", async () => {
  const { socket, board, client } = await openBoard();
  const serverNow = Date.now() + 3_600_000;
  const hold = (ms) => ({ held_until: new Date(serverNow + ms).toISOString() });
  socket.emit(
    'slots_status_update',
    snapshot(5, [entry(1, 'occupied', hold(-1)), entry(2, 'occupied', hold(60_000))], {
      timestamp: new Date(serverNow).toISOString(),
    }),
  );
  assert.ok(Math.abs(client.now() - serverNow) < 1_000);
  assert.equal(statuses(board), 'available occupied');
  const [, held] = board.slots;
  assert.ok(held.remainingMs > 55_000 && held.remainingMs <= 60_000);
});

test("passes staff's data on, and drops it with the next change", async () => {
  const { socket, board } = await openBoard();
  socket.emit('slot_update', update(6, 1, 'blocked', { note: 'manutenzione' }));
  assert.deepEqual(board.slots[0].data, { note: 'manutenzione' });
  socket.emit('slot_update', update(7, 1, 'available'));
  assert.deepEqual(board.slots[0].data, {});
});

test("a refusal carries the server's code, message and conflicts", async () => {
  const { socket, board } = await openBoard();
  const error = { code: 'slot_unavailable', message: 'Slot non disponibile', conflicts: [2] };
  socket.answers.push({ ok: false, error });
  await assert.rejects(board.hold([1, 2]), (refusal) => {
    assert.ok(refusal instanceof Refusal);
    assert.deepEqual([refusal.code, refusal.message, refusal.conflicts], Object.values(error));
    return true;
  });
});

test('sends no act while offline, and says when an answer did not come', async () => {
  const { socket, board } = await openBoard();
  socket.answers.push(new Error('operation has timed out'));
  await assert.rejects(board.book([1]), { code: 'timeout' });
  socket.drop();
  await assert.rejects(board.book([1]), { code: 'offline' });
  assert.equal(socket.sent.filter(({ event }) => event === 'book_slot').length, 1);
});

test('tries a join again when the refusal passes, and reports one that does not', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const socket = new FakeSocket();
  const board = new SlotcastClient(socket).open({ ...SPACE, date: DATE });
  const refusals = [];
  board.addEventListener('refused', (event) => refusals.push(event.detail.code));
  socket.answers.push({ ok: false, error: { code: 'rate_limited', message: '' } });
  socket.answers.push({ ok: false, error: { code: 'forbidden', message: '' } });
  socket.open();
  await settled();
  assert.equal(socket.sent.length, 1);
  context.mock.timers.tick(1_000);
  await settled();
  assert.deepEqual(
    socket.sent.map(({ event }) => event),
    ['join_space', 'join_space'],
  );
  assert.deepEqual(refusals, ['forbidden']);
});

test('renews the token in place when it is about to end', async () => {
  const { socket } = await openBoard({ renewToken: async () => 'second' });
  socket.emit('token_expiring', { expiresAt: '2027-03-01T10:00:00.000Z' });
  await settled();
  assert.deepEqual(socket.sent[1], { event: 'refresh_token', token: 'second' });
  assert.equal(socket.auth.token, 'second');
});

test('says that the token is about to end when nobody renews it', async () => {
  const { socket, client } = await openBoard();
  const ends = [];
  client.addEventListener('tokenexpiring', (event) => ends.push(event.detail.expiresAt));
  socket.emit('token_expiring', { expiresAt: '2027-03-01T10:00:00.000Z' });
  await settled();
  assert.deepEqual(ends, ['2027-03-01T10:00:00.000Z']);
});

test('renews a refused token once, and then stops', async () => {
  const { socket, client } = await openBoard({ renewToken: async () => 'second' });
  for (let refused = 0; refused < 2; refused += 1) {
    socket.drop('transport close', false);
    socket.emit('connect_error', new Error('Token non valido'));
    await settled();
  }
  assert.equal(socket.connectCalls, 1);
  assert.equal(client.state, 'refused');
  assert.equal(client.reason, 'Token non valido');
});

test('tells a connection that comes back from one that does not', async () => {
  const { socket, client } = await openBoard();
  assert.equal(client.state, 'online');
  socket.drop('transport close', true);
  assert.equal(client.state, 'reconnecting');
  socket.open();
  socket.drop('io server disconnect', false);
  assert.equal(client.state, 'closed');
});

test('leaves the space when the board is closed, and hears nothing more', async () => {
  const { socket, board } = await openBoard();
  let changes = 0;
  board.addEventListener('change', () => (changes += 1));
  board.close();
  socket.emit('slot_update', update(6, 1, 'booked'));
  assert.equal(changes, 0);
  assert.deepEqual(socket.sent[1], { event: 'leave_space', ...SPACE });
});

test('says so when the server takes it out of the space, not when a board before it left', async () => {
  const { socket, client, board } = await openBoard();
  board.close();
  const next = client.open({ ...SPACE, date: DATE });
  const refusals = [];
  next.addEventListener('refused', (event) => refusals.push(event.detail.code));
  const left = { room: 'spazio_2_sede_1', ...SPACE, timestamp: new Date().toISOString() };
  socket.emit('left_space', left);
  assert.deepEqual(refusals, []);
  socket.emit('joined_space', joined(false));
  socket.emit('left_space', left);
  assert.deepEqual(refusals, ['forbidden']);
  assert.equal(next.isCurrent, false);
});
