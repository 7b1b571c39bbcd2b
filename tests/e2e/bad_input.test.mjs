// Bad input gets a refusal with a stable code and changes nothing, and the node keeps serving.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, afterEach, describe, test } from 'node:test';

import { WebSocket } from 'ws';

import { day, freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually, within } from './lib/waiting.mjs';

const slotcast = await startSlotcast({ settings: { SLOTCAST_USER_RATE: '0', SLOTCAST_EVENT_RATE: '0' } });
after(() => slotcast.stop());

const user = slotcast.userCaller(7);
const space = freshSpace();

afterEach(async () => {
  assert.equal((await slotcast.caller().get('/healthz')).status, 200, 'alive');
  assert.equal((await slotcast.board(space)).version, 0, 'nothing changed');
});

/** Values that are neither an id nor a slot number nor any other number. */
const NOT_IDS = [-1, 0, 1.5, 1e308, 2 ** 53, '', ' 1', '01', '+1', '1e3', 'uno', true, null, [], {}, [1]];

/** Strings that are no day. */
const NOT_DAYS = ['2026-02-30', '2026-13-01', '2026-00-10', '2026-1-1', '20260101', 'domani', '', `${day(7)}T00:00:00Z`];

describe('over HTTP', () => {
  test('JSON that is none is malformed', async () => {
    const bodies = ['', '{', '{"a":}', 'null', '[]', '7', '"text"', '{"idSpazio":1,}', '\u0000', '{"a":1}{"b":2}'];
    for (const body of bodies) {
      for (const path of ['/api/slots/1/hold', '/api/slots/hold']) {
        const refused = await user.post(path, body);
        assert.equal(refused.status, 400, `${JSON.stringify(body)}: ${refused.text}`);
        assert.equal(refused.body.code, 'malformed');
      }
    }
  });

  test('nesting without end is malformed', async () => {
    for (const body of ['['.repeat(30_000), `${'{"a":'.repeat(9_000)}1${'}'.repeat(9_000)}`]) {
      assert.equal((await user.post('/api/slots/1/hold', body)).body.code, 'malformed');
      assert.equal((await slotcast.staffCaller().put('/api/slots/1', body)).body.code, 'malformed');
    }
  });

  test('bytes that are no UTF-8 are malformed', async () => {
    const refused = await user.post('/api/slots/1/hold', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]));
    assert.equal(refused.status, 400, refused.text);
    assert.equal(refused.body.code, 'malformed');
  });

  test('ids that are none are malformed', async () => {
    for (const bad of NOT_IDS) {
      for (const body of [space.body({ idSpazio: bad }), space.body({ sedeId: bad })]) {
        const refused = await user.post('/api/slots/1/hold', body);
        assert.equal(refused.status, 400, `${JSON.stringify(body)}: ${refused.text}`);
        assert.equal(refused.body.code, 'malformed');
      }
    }
    for (const field of ['idSpazio', 'sedeId', 'date']) {
      const refused = await user.post('/api/slots/1/hold', space.body({ [field]: undefined }));
      assert.equal(refused.body.code, 'malformed', field);
      assert.ok(refused.body.error.includes(field), `${field} is named in: ${refused.body.error}`);
    }
  });

  test('lists of slots that are none are malformed', async () => {
    const lists = [[], [1, 1], ['x'], [1, null], [[1]], range(1, 33), 1, 'x', {}, null];
    for (const slots of [...lists, undefined, ...NOT_IDS.map((bad) => [bad])]) {
      const refused = await user.post('/api/slots/hold', space.body({ slots }));
      assert.equal(refused.status, 400, `${JSON.stringify(slots)}: ${refused.text}`);
      assert.equal(refused.body.code, 'malformed');
    }
  });

  test('a slot that the day does not have is slot_out_of_range', async () => {
    for (const slot of [10, 1000, 65_536, 1e9]) {
      for (const answer of [
        await user.post(`/api/slots/${slot}/hold`, space.body()),
        await user.post('/api/slots/hold', space.body({ slots: [1, slot] })),
        await slotcast.staffCaller().put(`/api/slots/${slot}`, space.body({ status: 'blocked' })),
      ]) {
        assert.equal(answer.status, 422, answer.text);
        assert.equal(answer.body.code, 'slot_out_of_range');
      }
    }
  });

  test('a path that names no slot, space or day is refused', async () => {
    for (const slot of ['0', '-1', '1.5', 'x', '01', '%00', '1%2F2', '9'.repeat(40)]) {
      const refused = await user.post(`/api/slots/${slot}/hold`, space.body());
      assert.ok([400, 404, 422].includes(refused.status), `${slot}: ${refused.status} ${refused.text}`);
      assert.ok(['malformed', 'not_found', 'slot_out_of_range'].includes(refused.body.code), refused.text);
    }
    for (const id of ['0', '-1', 'x', '9'.repeat(40)]) {
      const refused = await user.get(`/api/slots/${id}/${space.date}?sedeId=1`);
      assert.equal(refused.body.code, 'malformed', `${id}: ${refused.text}`);
      assert.equal((await user.get(`/api/spaces/1/${id}`)).body.code, 'malformed');
      assert.equal((await user.get(`/api/slots/1/${space.date}?sedeId=${id}`)).body.code, 'malformed');
    }
  });

  test('dates that do not exist are bad_date', async () => {
    for (const date of NOT_DAYS) {
      const refused = await user.post('/api/slots/1/hold', space.body({ date }));
      assert.equal(refused.status, 422, `${date}: ${refused.text}`);
      assert.equal(refused.body.code, 'bad_date');
      if (date !== '') {
        const board = await user.get(space.boardPath(encodeURIComponent(date)));
        assert.equal(board.body.code, 'bad_date', `${date}: ${board.text}`);
      }
    }
    for (const date of [7, null, [], {}]) {
      const refused = await user.post('/api/slots/1/hold', space.body({ date }));
      assert.ok(['malformed', 'bad_date'].includes(refused.body.code), refused.text);
    }
  });

  test('a date too far ahead is bad_date', async () => {
    for (const date of [day(410), '9999-12-31']) {
      assert.equal((await user.post('/api/slots/1/hold', space.body({ date }))).body.code, 'bad_date');
      assert.equal((await user.get(space.boardPath(date))).body.code, 'bad_date');
    }
    assert.equal((await user.get(space.boardPath(day(390)))).status, 200);
  });

  test('a hold in the past is past', async () => {
    for (const date of [day(-2), '2020-01-01']) {
      const refused = await user.post('/api/slots/1/hold', space.body({ date }));
      assert.equal(refused.status, 422, refused.text);
      assert.equal(refused.body.code, 'past');
    }
    const board = await slotcast.board(space, { date: day(-2) });
    assert.ok(board.slots.every((entry) => entry.status === 'past'));
  });

  test('seconds that no hold lasts are bad_hold_seconds', async () => {
    for (const holdSeconds of [0, -1, 1e9, 901, 1.5, '60', true, [], {}]) {
      for (const act of ['hold', 'extend']) {
        const refused = await user.post(`/api/slots/1/${act}`, space.body({ holdSeconds }));
        assert.equal(refused.status, 422, `${act} ${JSON.stringify(holdSeconds)}: ${refused.text}`);
        assert.equal(refused.body.code, 'bad_hold_seconds');
      }
    }
  });

  test('shape is checked before state', async () => {
    const refused = await user.post('/api/slots/1/book', space.body({ date: '2026-02-30' }));
    assert.equal(refused.body.code, 'bad_date');
    assert.equal((await user.post('/api/slots/99/book', space.body())).body.code, 'slot_out_of_range');
  });

  test('headers that make no sense are refused', async () => {
    for (const authorization of ['Bearer', 'Bearer ', 'Basic Zm9v', 'x', 'bearer  x y']) {
      const answer = await slotcast.caller().post('/api/slots/1/hold', space.body(), { authorization });
      assert.equal(answer.status, 401, authorization);
      assert.equal(answer.body.code, 'unauthorized');
    }
    const longKey = await user.post('/api/slots/1/release', space.body(), { 'idempotency-key': 'k'.repeat(4_000) });
    assert.equal(longKey.body.success, false);
    assert.ok(longKey.status < 500, longKey.text);
  });

  test('what is no HTTP ends its own connection only', async () => {
    const socket = connect(slotcast.port, '127.0.0.1');
    const ended = new Promise((resolve) => {
      socket.on('close', resolve);
      socket.on('error', resolve);
    });
    socket.resume();
    socket.end('\x16\x03\x01 this is not HTTP \r\n\r\n');
    await within(ended, 'the end of the connection');
  });
});

describe('on the socket', () => {
  test('payloads that are none are malformed', async () => {
    const client = await slotcast.user(7);
    const payloads = [undefined, null, 7, 'text', true, [], [1], {}, { spazioId: 1 }, { sedeId: 1 }];
    for (const event of ['join_space', 'leave_space', 'hold_slot', 'book_slot', 'release_slot', 'extend_hold', 'sync']) {
      for (const payload of payloads) {
        const answer = payload === undefined ? await client.call(event) : await client.call(event, payload);
        assert.equal(answer.ok, false, `${event} ${JSON.stringify(payload)}`);
        assert.equal(answer.error.code, 'malformed', `${event} ${JSON.stringify(payload)}: ${answer.error.message}`);
      }
    }
  });

  test('ids, dates, slots and seconds are refused as over HTTP', async () => {
    const client = await slotcast.user(7);
    const code = async (event, more) => (await client.call(event, space.event({ slots: [1], ...more }))).error?.code;
    for (const bad of NOT_IDS) {
      assert.equal(await code('join_space', { spazioId: bad }), 'malformed', JSON.stringify(bad));
      assert.equal(await code('hold_slot', { sedeId: bad }), 'malformed', JSON.stringify(bad));
      assert.equal(await code('hold_slot', { slots: [bad] }), 'malformed', JSON.stringify(bad));
    }
    for (const date of NOT_DAYS) {
      for (const event of ['join_space', 'sync', 'hold_slot']) {
        assert.equal(await code(event, { date }), 'bad_date', `${event} ${date}`);
      }
    }
    assert.equal(await code('hold_slot', { date: day(-2) }), 'past');
    assert.equal(await code('hold_slot', { slots: [10] }), 'slot_out_of_range');
    assert.equal(await code('hold_slot', { slots: [] }), 'malformed');
    assert.equal(await code('hold_slot', { slots: [1, 1] }), 'malformed');
    for (const holdSeconds of [0, 1e9, -1, 1.5, 'x']) {
      assert.equal(await code('hold_slot', { holdSeconds }), 'bad_hold_seconds', JSON.stringify(holdSeconds));
    }
    // The token does not allow the site, but the shape is checked before that.
    const bound = await slotcast.user(7, { token: userToken(7, { sedi: [99] }) });
    for (const event of ['join_space', 'sync']) {
      const refused = async (more) => (await bound.call(event, space.event(more))).error?.code;
      assert.deepEqual([await refused({ date: 'domani' }), await refused()], ['bad_date', 'forbidden'], event);
    }
    const epoch = 'x';
    for (const since of [7, 'x', [], {}, { epoch }, { version: 1 }, { epoch: 1, version: 1 }, { epoch, version: -1 }]) {
      assert.equal(await code('join_space', { since }), 'malformed', JSON.stringify(since));
    }
  });

  test('a refusal without an acknowledgement is a space_error that names the event', async () => {
    const client = await slotcast.user(7);
    client.emit('join_space', 'x');
    client.emit('hold_slot', { spazioId: 'x' });
    client.emit('sync');
    client.emit('join_space', {}, {});
    const errors = await client.many('space_error', 4);
    assert.deepEqual(errors.map((error) => [error.event, error.code]), [
      ['join_space', 'malformed'],
      ['hold_slot', 'malformed'],
      ['sync', 'malformed'],
      ['join_space', 'malformed'],
    ]);
  });

  test('a refusal repeats of long input only the beginning and the end', async () => {
    const client = await slotcast.user(7);
    const long = 'è'.repeat(20_000);
    client.emit(long, {});
    client.emit('join_space', space.event({ since: { epoch: 'x', version: long } }));
    for (const error of await client.many('space_error', 2)) {
      const { event, message, detail } = error;
      for (const text of [event, message, detail]) assert.ok(text.length < 300, `${error.code}: ${text.slice(0, 400)}`);
    }
    const answer = await client.call('hold_slot', space.event({ date: 7, slots: [long] }));
    assert.ok(JSON.stringify(answer).length < 600, JSON.stringify(answer).slice(0, 700));
  });

  test('names of events that could trip a server are unknown_event', async () => {
    const client = await slotcast.user(7);
    for (const event of ['', 'JOIN_SPACE', 'join_space ', '__proto__', 'slot_update', '🦀', 'x'.repeat(10_000)]) {
      const answer = await client.call(event, {});
      assert.equal(answer.error?.code, 'unknown_event', event.slice(0, 20));
    }
  });

  test('binary and further arguments do no harm', async () => {
    const client = await slotcast.user(7);
    client.emit('join_space', Buffer.from([1, 2, 3]));
    client.emit('join_space', { spazioId: Buffer.from([1]), sedeId: 1 });
    client.emit('join_space', space.event(), space.event(), 7);
    const answered = () => client.all('space_error').length + client.all('joined_space').length;
    await eventually(() => answered() >= 2 || client.disconnects.length > 0, 'an answer');
    const other = await slotcast.user(8);
    assert.equal((await other.call('join_space', { spazioId: freshNumber(), sedeId: 1 })).ok, true);
  });

  test('frames that are no Socket.IO end their own connection only', async () => {
    const frames = [
      ...['', '9', '4', '49', '42', '42[', '42["x"', '4299999999999999999999["x"]', '451-["x"]'],
      ...['\u0000', '40{"token":', '40[1]', 'x'.repeat(1_000)],
    ];
    const witness = await slotcast.user(8);
    for (const frame of frames) {
      const socket = new WebSocket(`${slotcast.url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
      const opened = new Promise((resolve, reject) => {
        socket.once('message', resolve);
        socket.once('error', reject);
      });
      const ended = new Promise((resolve) => {
        socket.once('close', resolve);
      });
      await within(opened, 'the handshake');
      socket.send(frame);
      socket.send(Buffer.from(frame));
      socket.close();
      await within(ended, 'the end of the connection');
    }
    assert.equal((await witness.call('join_space', { spazioId: freshNumber(), sedeId: 1 })).ok, true);
  });

  test('polling with sessions and queries that are none is refused', async () => {
    const nobody = 'EIO=4&transport=polling&sid=nobody';
    const queries = ['', 'EIO=4', 'EIO=9&transport=polling', 'EIO=4&transport=pigeon', 'EIO=4&transport=websocket', nobody];
    const requests = [...queries.map((query) => ['GET', query]), ['POST', nobody]];
    for (const [method, query] of requests) {
      const { status } = await slotcast.caller().call(method, `/socket.io/?${query}`, method === 'POST' ? '4' : undefined);
      assert.ok(status >= 400 && status < 500, `${method} ${query}: ${status}`);
    }
  });
});
