// HTTP besides the acts: one error shape, CORS, health, metrics, and the OpenAPI document.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { freshSpace } from './lib/fixtures.mjs';
import { runCommand, startSlotcast } from './lib/slotcast.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const ORIGINS = [
  'http://localhost:3000',
  'http://localhost:3002',
  'http://localhost:8000',
  'http://127.0.0.1:5500',
  'https://coworking-mio-1.onrender.com',
  'https://coworking-mio-1-backend.onrender.com',
];

const listed = (header) => (header ?? '').toLowerCase().split(/\s*,\s*/);

test('every origin of the page may call with credentials, over both paths', async () => {
  for (const origin of ORIGINS) {
    for (const path of ['/api/slots/1/hold', '/socket.io/?EIO=4&transport=polling']) {
      const preflight = await fetch(slotcast.url + path, {
        method: 'OPTIONS',
        headers: {
          origin,
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'authorization,content-type,idempotency-key',
        },
      });
      assert.ok([200, 204].includes(preflight.status), `${path}: ${preflight.status}`);
      assert.equal(preflight.headers.get('access-control-allow-origin'), origin);
      assert.equal(preflight.headers.get('access-control-allow-credentials'), 'true');
      const methods = listed(preflight.headers.get('access-control-allow-methods'));
      for (const method of ['get', 'post', 'put', 'delete']) assert.ok(methods.includes(method), methods.join());
      const headers = listed(preflight.headers.get('access-control-allow-headers'));
      for (const name of ['authorization', 'content-type', 'idempotency-key']) {
        assert.ok(headers.includes(name), headers.join());
      }
    }
  }
});

test('an answer to a page carries the headers too, also a refusal', async () => {
  const [origin] = ORIGINS;
  for (const path of ['/socket.io/?EIO=4&transport=polling', '/api/holds', freshSpace().boardPath()]) {
    const answer = await fetch(slotcast.url + path, { headers: { origin } });
    assert.equal(answer.headers.get('access-control-allow-origin'), origin, path);
    assert.equal(answer.headers.get('access-control-allow-credentials'), 'true', path);
    await answer.text();
  }
});

test('another origin is not allowed', async () => {
  for (const path of ['/socket.io/?EIO=4&transport=polling', '/api/holds']) {
    const answer = await fetch(slotcast.url + path, { headers: { origin: 'https://evil.example' } });
    assert.equal(answer.headers.get('access-control-allow-origin'), null, path);
    await answer.text();
  }
});

test('CORS_ORIGIN replaces the origins', async () => {
  const own = await startSlotcast({ settings: { CORS_ORIGIN: 'https://a.example, https://b.example' } });
  try {
    const allowed = async (origin) => {
      const answer = await fetch(`${own.url}/api/holds`, { headers: { origin } });
      await answer.text();
      return answer.headers.get('access-control-allow-origin');
    };
    assert.equal(await allowed('https://a.example'), 'https://a.example');
    assert.equal(await allowed('https://b.example'), 'https://b.example');
    assert.equal(await allowed(ORIGINS[0]), null);
  } finally {
    await own.stop();
  }
});

test('what does not exist is not_found in the one shape', async () => {
  for (const path of ['/api/nothing', '/api/spaces/1', '/api/users/7']) {
    const answer = await slotcast.staffCaller().get(path);
    assert.equal(answer.status, 404, `${path}: ${answer.text}`);
    assert.equal(answer.body.success, false);
    assert.equal(answer.body.code, 'not_found');
    assert.equal(typeof answer.body.error, 'string');
  }
});

test('a wrong method gets the one shape too', async () => {
  const answer = await slotcast.staffCaller().delete('/api/slots/1/hold');
  assert.ok([404, 405].includes(answer.status), String(answer.status));
  assert.equal(answer.body.success, false);
  assert.equal(typeof answer.body.code, 'string');
});

test('every answer has a request id', async () => {
  const first = await slotcast.caller().get('/api/holds');
  const second = await slotcast.caller().get('/healthz');
  assert.ok(first.headers.get('x-request-id').length > 0);
  assert.ok(second.headers.get('x-request-id').length > 0);
  assert.notEqual(first.headers.get('x-request-id'), second.headers.get('x-request-id'));
});

test('the node says that it is alive and ready', async () => {
  assert.equal((await slotcast.caller().get('/healthz')).status, 200);
  assert.equal((await slotcast.caller().get('/readyz')).status, 200);
});

test('metrics are on the admin listener only, in the Prometheus text format', async () => {
  const space = freshSpace();
  await slotcast.userCaller(7).post('/api/slots/1/hold', space.body());
  await slotcast.userCaller(8).post('/api/slots/1/hold', space.body());
  const client = await slotcast.user(7);
  await client.join(space);
  const answer = await fetch(`http://127.0.0.1:${slotcast.adminPort}/metrics`);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get('content-type'), /^text\/plain/);
  const text = await answer.text();
  const line = /^(#( HELP| TYPE) [a-z_]+ .+|[a-zA-Z_:][\w:]*(\{.*\})? [-+]?(\d[\d.e+-]*|Inf|NaN)( \d+)?)$/;
  for (const one of text.trimEnd().split('\n')) assert.match(one, line);
  for (const topic of ['connections', 'room', 'event', 'act', 'late', 'lag', 'queue', 'store']) {
    assert.match(text, new RegExp(`^slotcast_\\w*${topic}`, 'm'), `a metric about ${topic}`);
  }
  assert.match(text, /slot_unavailable/, 'acts are counted by outcome');
  assert.match(text, /join_space/, 'events are counted by name');
  assert.equal((await slotcast.caller().get('/metrics')).status, 404);
});

test('the OpenAPI document tells every call, and is what the command prints', async () => {
  const answer = await slotcast.caller().get('/api/openapi.json');
  assert.equal(answer.status, 200);
  assert.match(answer.body.openapi, /^3\.1\./);
  const calls = Object.entries(answer.body.paths).flatMap(([path, item]) =>
    Object.keys(item)
      .filter((key) => ['get', 'post', 'put', 'delete'].includes(key))
      .map((method) => `${method.toUpperCase()} ${path.replace(/\{[^}]+\}/g, '{}')}`),
  );
  const expected = [
    'GET /api/slots/{}/{}',
    ...['hold', 'book', 'release', 'extend'].flatMap((act) => [`POST /api/slots/{}/${act}`, `POST /api/slots/${act}`]),
    'GET /api/holds',
    'PUT /api/slots/{}',
    ...['PUT', 'GET', 'DELETE'].map((method) => `${method} /api/spaces/{}/{}`),
    'GET /api/spaces/{}/{}/changes',
    'POST /api/spaces/{}/{}/broadcast',
    'POST /api/users/{}/notify',
    'POST /api/users/{}/disconnect',
    'POST /api/broadcast',
    'POST /api/sweep',
    'GET /api/stats',
    'GET /healthz',
    'GET /readyz',
    'GET /api/openapi.json',
  ];
  assert.deepEqual(expected.filter((call) => !calls.includes(call)), [], 'missing in the document');
  const printed = await runCommand(['openapi']);
  assert.equal(printed.code, 0, printed.stderr);
  assert.deepEqual(JSON.parse(printed.stdout), answer.body);
});

test('no log line carries a token or an engine id', async () => {
  const client = await slotcast.user('mario.rossi@example.org');
  const engineId = client.socket.io.engine.id;
  const { token } = client.socket.auth;
  await client.join(freshSpace());
  const log = slotcast.log();
  assert.ok(log.length > 0, 'the node logs');
  assert.ok(!log.includes(token) && !log.includes(token.split('.')[2]), 'no token');
  assert.ok(!log.includes(engineId), 'no engine id');
});
