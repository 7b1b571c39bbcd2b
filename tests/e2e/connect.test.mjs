// Connecting: tokens, refusals with the origin's exact texts, and `connection_confirmed`, over every transport.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { TRANSPORTS } from './lib/client.mjs';
import { TIMESTAMP, freshNumber } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { SECRET, secondsNow, signToken, userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const NO_TOKEN = 'Token di autenticazione richiesto';
const BAD_TOKEN = 'Token non valido';

for (const [name, transports] of Object.entries(TRANSPORTS)) {
  describe(`over ${name}`, () => {
    test('a good token is confirmed with who, when and until when', async () => {
      const exp = secondsNow() + 1800;
      const client = slotcast.connect({ transports, token: userToken(7, { exp }) });
      const confirmed = await client.connected();
      assert.deepEqual(Object.keys(confirmed).sort(), ['expiresAt', 'message', 'timestamp', 'userId']);
      assert.equal(confirmed.message, 'Connesso al sistema real-time');
      assert.equal(confirmed.userId, 7);
      assert.match(confirmed.timestamp, TIMESTAMP);
      assert.equal(confirmed.expiresAt, new Date(exp * 1000).toISOString());
    });

    test('no token is refused with the origin\'s text', async () => {
      const client = slotcast.connect({ transports });
      assert.equal(await client.refused(), NO_TOKEN);
      assert.equal(client.socket.connected, false);
    });

    test('a bad token is refused with the origin\'s text', async () => {
      const client = slotcast.connect({ transports, token: 'not.a.token' });
      assert.equal(await client.refused(), BAD_TOKEN);
    });

    test('an event emitted before the connection is there takes effect', async () => {
      const client = slotcast.connect({ transports, token: userToken(7) });
      const spazioId = freshNumber();
      client.emit('join_space', { spazioId, sedeId: 1 });
      const joined = await client.first('joined_space');
      assert.equal(joined.spazioId, spazioId);
      assert.equal(client.events[0].name, 'connection_confirmed', 'the confirmation comes first');
    });
  });
}

test('the upgrade reaches websocket and loses no event on the way', async () => {
  const client = slotcast.connect({ transports: TRANSPORTS.upgrade, token: userToken(8) });
  const spaces = Array.from({ length: 200 }, () => freshNumber());
  for (const spazioId of spaces) {
    client.emit('join_space', { spazioId, sedeId: 1 });
  }
  const joined = await client.many('joined_space', spaces.length);
  assert.deepEqual(joined.map((one) => one.spazioId), spaces, 'in the order in which they were sent');
  await eventually(() => client.transport === 'websocket', 'the upgrade');
  const after = await client.call('join_space', { spazioId: freshNumber(), sedeId: 1 });
  assert.equal(after.ok, true);
});

test('the query parameter token serves where auth has none', async () => {
  const byQuery = slotcast.connect({ query: { token: userToken(9) } });
  assert.equal((await byQuery.connected()).userId, 9);
  const emptyAuth = slotcast.connect({ token: '', query: { token: userToken(10) } });
  assert.equal((await emptyAuth.connected()).userId, 10);
  const authFirst = slotcast.connect({ token: userToken(11), query: { token: userToken(12) } });
  assert.equal((await authFirst.connected()).userId, 11);
});

test('an empty token is none', async () => {
  for (const options of [{ token: '' }, { query: { token: '' } }, { auth: {} }]) {
    assert.equal(await slotcast.connect(options).refused(), NO_TOKEN, JSON.stringify(options));
  }
});

test('a user id that is text is confirmed as text, digits as a number', async () => {
  for (const [claimed, shown] of [['anna', 'anna'], ['12', 12], [12, 12], ['007', '007']]) {
    const client = slotcast.connect({ token: userToken(claimed) });
    assert.strictEqual((await client.connected()).userId, shown);
  }
});

/** Tokens that must never be taken, each under the fault that it has. */
const BAD_TOKENS = {
  'alg none': signToken({ id_utente: 7, exp: secondsNow() + 60 }, { header: { alg: 'none', typ: 'JWT' } }),
  'alg None': signToken({ id_utente: 7, exp: secondsNow() + 60 }, { header: { alg: 'None', typ: 'JWT' } }),
  'another HMAC': signToken({ id_utente: 7, exp: secondsNow() + 60 }, { header: { alg: 'HS512', typ: 'JWT' } }),
  'another secret': signToken({ id_utente: 7, exp: secondsNow() + 60 }, { secret: `${SECRET}!` }),
  'an asymmetric name on an HMAC': `${Buffer.from('{"alg":"RS256"}').toString('base64url')}.${userToken(7).split('.').slice(1).join('.')}`,
  expired: userToken(7, { exp: secondsNow() - 60 }),
  'without exp': signToken({ id_utente: 7 }),
  'with an exp of text': userToken(7, { exp: 'tomorrow' }),
  'not yet valid': userToken(7, { nbf: secondsNow() + 3600 }),
  'without id_utente': signToken({ exp: secondsNow() + 60 }),
  'with an id_utente that is null': userToken(null),
  'with an id_utente that is an object': userToken({ id: 7 }),
  truncated: userToken(7).slice(0, -3),
  'without its signature': userToken(7).split('.').slice(0, 2).join('.'),
  'with its claims changed': userToken(7).replace(/\.[^.]+\./, `.${Buffer.from(JSON.stringify({ id_utente: 1, exp: secondsNow() + 60 })).toString('base64url')}.`),
  garbage: '🤷',
  'of fifty thousand dots': '.'.repeat(50_000),
};

for (const [what, token] of Object.entries(BAD_TOKENS)) {
  test(`a token ${what} is refused on the socket and over HTTP`, async () => {
    assert.equal(await slotcast.connect({ token }).refused(), BAD_TOKEN);
    if (/^[\x21-\x7e]{1,4000}$/.test(token)) {
      const answer = await slotcast.caller(token).get('/api/holds');
      assert.equal(answer.status, 401, answer.text);
      assert.equal(answer.body.code, 'unauthorized');
    }
  });
}

test('a token that ended a moment ago is within the leeway', async () => {
  const client = slotcast.connect({ token: userToken(7, { exp: secondsNow() - 2 }) });
  assert.equal((await client.connected()).userId, 7);
});

test('issuer and audience are not asked for where none is configured', async () => {
  const client = slotcast.connect({ token: userToken(7, { iss: 'anyone', aud: ['this', 'that'] }) });
  assert.equal((await client.connected()).userId, 7);
});

test('issuer and audience are checked where they are configured', async () => {
  const strict = await startSlotcast({ settings: { JWT_ISSUER: 'booking', JWT_AUDIENCE: 'slotcast' } });
  try {
    const good = { iss: 'booking', aud: ['slotcast', 'other'] };
    assert.equal((await strict.connect({ token: userToken(7, good) }).connected()).userId, 7);
    for (const bad of [{}, { iss: 'booking' }, { aud: 'slotcast' }, { ...good, iss: 'x' }, { ...good, aud: 'x' }]) {
      assert.equal(await strict.connect({ token: userToken(7, bad) }).refused(), BAD_TOKEN, JSON.stringify(bad));
    }
  } finally {
    await strict.stop();
  }
});

test('the handshake tells the heartbeat and the upgrade', async () => {
  const answer = await slotcast.caller().get('/socket.io/?EIO=4&transport=polling');
  assert.equal(answer.status, 200);
  const { pingInterval, pingTimeout, upgrades } = JSON.parse(answer.text.slice(1));
  assert.deepEqual(
    { pingInterval, pingTimeout, upgrades },
    { pingInterval: 25_000, pingTimeout: 20_000, upgrades: ['websocket'] },
  );
});

test('another namespace ends the connection', async () => {
  for (const transports of Object.values(TRANSPORTS)) {
    const client = await slotcast.user(7, { transports });
    client.socket.io.socket('/admin', { auth: { token: userToken(7) } });
    assert.match(await client.disconnected(), /transport (close|error)/);
    client.close();
  }
});
