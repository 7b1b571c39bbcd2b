// Each request and each event has an id: its caller's or a new one. The answer bears it, and so does each line that the
// node logs of it. An act leaves one line, which says who did what to which slots.

import assert from 'node:assert/strict';
import http from 'node:http';
import { after, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { day, freshSpace } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { signToken, secondsNow, staffToken, userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const JSON_LOG = { SLOTCAST_ENV: 'production', HOST: '127.0.0.1', SLOTCAST_OPEN_CATALOG: 'true', SLOTCAST_LOG: 'debug' };
const node = await startSlotcast({ settings: { ...JSON_LOG, SLOTCAST_STORE: 'embedded' } });
after(() => node.stop());

const tokens = new Set();
const keep = (token) => {
  tokens.add(token);
  return token;
};
const user = keep(userToken(7));
const staff = keep(staffToken('gestore'));

/** The lines of a node's log as objects, but for the last one, which may be half written. */
const lines = (of = node) => of.log().split('\n').slice(0, -1).filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));

/** Whether a line is of the request with this id. */
const isOf = (id) => (line) => line['request.id'] === id || line.span?.['request.id'] === id;

/** The lines of acts with a request's id, as soon as there is one. */
async function actsOf(id, of = node) {
  const isAct = (line) => line.message === 'act' && line['request.id'] === id;
  return eventually(() => {
    const found = lines(of).filter(isAct);
    return found.length > 0 && found;
  }, `a line of the act ${id}`);
}

async function call(method, path, body, { token = user, headers = {}, url = node.url } = {}) {
  const all = { ...(token && { authorization: `Bearer ${token}` }), 'content-type': 'application/json', ...headers };
  const text = typeof body === 'string' ? body : body && JSON.stringify(body);
  const response = await fetch(url + path, { method, headers: all, body: text });
  return { status: response.status, id: response.headers.get('x-request-id'), headers: response.headers, answer: await response.json() };
}

test('one act is one line that says who did what to which slots', async () => {
  const space = freshSpace();
  const ids = [];
  const acts = [
    ['hold', 'POST', '/api/slots/hold', { slots: [3, 2] }, user, [7, undefined]],
    ['extend', 'POST', '/api/slots/2/extend', {}, user, [7, undefined]],
    ['book', 'POST', '/api/slots/2/book', {}, user, [7, undefined]],
    ['release', 'POST', '/api/slots/3/release', {}, user, [7, undefined]],
    ['update', 'PUT', '/api/slots/5', { status: 'blocked', data: { note: 'x' } }, staff, [900, 'gestore']],
  ];
  for (const [act, method, path, more, token, [actor, role]] of acts) {
    const { status, id, answer } = await call(method, path, space.body(more), { token });
    assert.equal(status, 200, JSON.stringify(answer));
    ids.push([act, id]);
    const found = await actsOf(id);
    assert.equal(found.length, 1);
    const [line] = found;
    const slots = { hold: '3,2', extend: '2', book: '2', release: '3', update: '5' }[act];
    assert.equal(line.level, 'INFO');
    assert.deepEqual(
      [line.act, line.outcome, line['user.id'], line['actor.id'], line['actor.role'], line.day, line.slots, line.version],
      [act, 'ok', String(actor), String(actor), role, space.date, slots, answer.data.version],
    );
    assert.ok(line['space.id'].includes(String(space.number)), line['space.id']);
    assert.ok(line.duration_ms > 0);
    assert.equal(line.span['request.id'], id, 'the span of its request has the id, too');
  }
  const journal = await call('GET', `/api/journal?sedeId=${space.site}&spazioId=${space.number}`, undefined, { token: staff });
  assert.deepEqual(journal.answer.data.entries.map(({ act, requestId }) => [act, requestId]), ids, 'the journal has them, too');
  const registered = await call('PUT', space.path, { opens: '08:00' }, { token: staff });
  assert.deepEqual((await actsOf(registered.id)).map(({ act, outcome }) => [act, outcome]), [['space', 'space_in_use']]);
});

test('a backend that acts for a user is the actor, and the slots are the user\'s', async () => {
  const service = keep(userToken('backend', { ruolo: 'servizio' }));
  const { id } = await call('POST', '/api/slots/1/hold', freshSpace().body({ id_utente: 8 }), { token: service });
  const [line] = await actsOf(id);
  assert.deepEqual([line['user.id'], line['actor.role']], ['8', 'servizio']);
  assert.match(line['actor.id'], /^digest-/);
});

test('an event of a socket is a request: one line, and an id of its own', async () => {
  const space = freshSpace();
  const { socket } = node.connect({ token: user });
  const ask = (event, payload) => socket.timeout(20_000).emitWithAck(event, payload);
  const before = lines().filter(({ message }) => message === 'act').length;
  const held = await ask('hold_slot', space.event({ slots: [1] }));
  assert.ok(held.ok, JSON.stringify(held));
  assert.equal((await ask('hold_slot', space.event({ slots: [99] }))).ok, false);
  const told = await eventually(() => {
    const acts = lines().filter(({ message }) => message === 'act').slice(before);
    return acts.length === 2 && acts;
  }, 'two lines');
  assert.deepEqual(told.map(({ level, outcome }) => [level, outcome]), [['INFO', 'ok'], ['DEBUG', 'slot_out_of_range']]);
  const [one, other] = told.map((line) => line['request.id']);
  assert.match(one, /^[0-9a-f]{32}$/);
  assert.notEqual(one, other);
  assert.equal(told[0].span.name, 'event');
  assert.equal(told[0].span['request.id'], one);
});

test('each refusal bears its id in the answer and in the log', async () => {
  const space = freshSpace();
  const refused = [
    [409, await call('POST', '/api/slots/1/book', space.body({ slots: [1] })).then(async () => {
      await call('POST', '/api/slots/1/hold', space.body());
      return call('POST', '/api/slots/1/hold', space.body(), { token: keep(userToken(8)) });
    })],
    [400, await call('POST', '/api/slots/1/hold', '{')],
    [401, await call('GET', '/api/holds', undefined, { token: keep(`${user}x`) })],
    [401, await call('GET', '/api/holds', undefined, { token: keep(signToken({ id_utente: 7, exp: secondsNow() - 60 })) })],
    [403, await call('GET', '/api/stats')],
    [404, await call('GET', '/api/nothing')],
    [405, await call('POST', '/api/sweep/../stats')],
    [413, await call('POST', '/api/slots/1/hold', `{"x": "${'x'.repeat(70_000)}"}`)],
    [422, await call('POST', '/api/slots/1/hold', space.body({ date: '2026-02-30' }))],
  ];
  for (const [status, answered] of refused) {
    assert.equal(answered.status, status);
    assert.match(answered.id, /^[0-9a-f]{32}$/);
    await eventually(() => lines().some(isOf(answered.id)), `a line of the ${status} ${answered.id}`);
  }
});

test('an id of the caller is kept, a bad one is not, and a trace goes on', async () => {
  const trace = '0af7651916cd43dd8448eb211c80319c';
  const traceparent = `00-${trace}-b7ad6b7169203331-01`;
  for (const path of ['/api/nothing', '/readyz', '/api/stats', '/socket.io/?EIO=4&transport=polling', '/socket.io/?EIO=3']) {
    const ask = async (headers) => {
      const response = await fetch(node.url + path, { headers });
      await response.text();
      return [response.headers.get('x-request-id'), response.headers.get('traceparent')];
    };
    assert.deepEqual(await ask({ 'x-request-id': 'My.id_1-2' }), ['My.id_1-2', null], path);
    assert.match((await ask({ 'x-request-id': 'a b' }))[0], /^[0-9a-f]{32}$/, path);
    assert.match((await ask({ 'x-request-id': 'x'.repeat(65) }))[0], /^[0-9a-f]{32}$/, path);
    const [id, answered] = await ask({ traceparent });
    assert.equal(id, trace, path);
    assert.match(answered, new RegExp(`^00-${trace}-[0-9a-f]{16}-01$`));
    assert.notEqual(answered, traceparent);
  }
  const { id } = await call('POST', '/api/slots/1/hold', freshSpace().body(), { headers: { traceparent } });
  assert.equal(id, trace);
  assert.equal((await actsOf(trace)).length, 1);
});

test('the answer to a websocket bears it as well', async () => {
  const request = http.get(`${node.url}/socket.io/?EIO=4&transport=websocket`, {
    headers: {
      connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', 'x-request-id': 'ws-1',
    },
  });
  const response = await new Promise((done, failed) => {
    request.once('upgrade', (answer, socket) => (socket.destroy(), done(answer)));
    request.once('error', failed);
  });
  assert.equal(response.headers['x-request-id'], 'ws-1');
});

test('a failure of the store is one WARN line of the act, and a request that is sent on keeps its id', async () => {
  const cluster = await startCluster({ nodes: 2, settings: JSON_LOG });
  const [near, far] = cluster.nodes;
  try {
    const begun = await (await fetch(`${far.url}/socket.io/?EIO=4&transport=polling`)).text();
    const { sid } = JSON.parse(begun.slice(1));
    const session = `/socket.io/?EIO=4&transport=polling&sid=${sid}`;
    assert.equal((await fetch(near.url + session, { method: 'POST', body: '1' })).status, 200, 'it ends the session');
    const over = await fetch(near.url + session, { headers: { 'x-request-id': 'sent-on-1' } });
    assert.deepEqual([over.status, over.headers.get('x-request-id')], [400, 'sent-on-1']);
    for (const one of [near, far]) {
      await eventually(() => lines(one).some(isOf('sent-on-1')), 'a line of each node that served it');
    }
    await cluster.redis.kill();
    const { status, id } = await call('POST', '/api/slots/1/hold', freshSpace({ date: day(3) }).body(), { url: near.url });
    assert.equal(status, 503);
    const [line, ...more] = await actsOf(id, near);
    assert.deepEqual([line.level, line.outcome, more.length], ['WARN', 'unavailable', 0]);
    for (const one of [near, far]) for (const token of tokens) assert.ok(!one.log().includes(token));
  } finally {
    await Promise.all(cluster.nodes.map((one) => one.kill()));
  }
});

test('no line has a token', () => {
  const log = node.log();
  for (const token of tokens) {
    assert.ok(!log.includes(token), 'a token is in the log');
    assert.ok(!log.includes(token.split('.')[2]), 'a signature is in the log');
  }
});
