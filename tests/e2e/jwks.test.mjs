// Tokens of an issuer with public keys: RS256, ES256 and EdDSA through a JWKS.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { after, describe, test } from 'node:test';

import { Client, TRANSPORTS } from './lib/client.mjs';
import { range } from './lib/fixtures.mjs';
import { startTcpProxy } from './lib/proxy.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { secondsNow, signToken } from './lib/tokens.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

const BAD_TOKEN = 'Token non valido';

/** How each algorithm makes a key and a signature. */
const ALGORITHMS = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A key of the issuer: the private part to sign with, and the public part for the key set. */
class Key {
  constructor(algorithm, kid) {
    this.algorithm = algorithm;
    this.kid = kid;
    Object.assign(this, ALGORITHMS[algorithm]());
    this.jwk = { ...this.publicKey.export({ format: 'jwk' }), kid, alg: algorithm, use: 'sig' };
  }

  token(claims = {}, kid = this.kid) {
    const payload = { id_utente: 7, exp: secondsNow() + 3600, ...claims };
    const signed = `${base64url({ alg: this.algorithm, typ: 'JWT', kid })}.${base64url(payload)}`;
    const key = this.algorithm === 'ES256' ? { key: this.privateKey, dsaEncoding: 'ieee-p1363' } : this.privateKey;
    const hash = this.algorithm === 'EdDSA' ? null : 'sha256';
    return `${signed}.${sign(hash, Buffer.from(signed), key).toString('base64url')}`;
  }
}

/** An issuer on this machine that serves its keys, and counts how often it was asked. */
async function startIssuer(keys) {
  const issuer = { keys, asked: 0, isDown: false };
  const server = createServer(async (request, response) => {
    issuer.asked += 1;
    if (issuer.isDown) {
      // A busy issuer answers late. So clients are at any step of their connection when it turns out that there are no
      // keys.
      await sleep(Math.random() * 1_000);
      response.writeHead(500).end();
      return;
    }
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ keys: issuer.keys.map((key) => key.jwk) }));
  });
  await new Promise((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  after(() => server.close());
  issuer.url = `http://127.0.0.1:${server.address().port}/keys`;
  return issuer;
}

for (const algorithm of Object.keys(ALGORITHMS)) {
  describe(`with ${algorithm}`, () => {
    test('tokens of the issuer are taken, and no others', async () => {
      const [key, stranger] = [new Key(algorithm, 'one'), new Key(algorithm, 'one')];
      const issuer = await startIssuer([key]);
      const slotcast = await startSlotcast({
        settings: { JWT_SECRET: undefined, JWT_ALGORITHM: algorithm, JWT_JWKS_URL: issuer.url },
      });
      try {
        assert.equal((await slotcast.connect({ token: key.token() }).connected()).userId, 7);
        assert.equal((await slotcast.caller(key.token()).get('/api/holds')).status, 200);
        const publicPem = key.publicKey.export({ type: 'spki', format: 'pem' });
        const other = Object.keys(ALGORITHMS).find((name) => name !== algorithm);
        const bad = {
          'another key': stranger.token(),
          'another algorithm': new Key(other, 'one').token(),
          'the public key as a secret': signToken(
            { id_utente: 7, exp: secondsNow() + 60 },
            { secret: publicPem, header: { alg: 'HS256', typ: 'JWT', kid: 'one' } },
          ),
          'no algorithm': signToken({ id_utente: 7, exp: secondsNow() + 60 }, { header: { alg: 'none', kid: 'one' } }),
          expired: key.token({ exp: secondsNow() - 60 }),
          'an unknown key id': key.token({}, 'nobody'),
        };
        for (const [what, token] of Object.entries(bad)) {
          assert.equal(await slotcast.connect({ token }).refused(), BAD_TOKEN, what);
          assert.equal((await slotcast.caller(token).get('/api/holds')).status, 401, what);
        }
      } finally {
        await slotcast.stop();
      }
    });
  });
}

test('a key that the issuer adds is found, and unknown ones do not make the node ask without end', async () => {
  const [first, second] = [new Key('ES256', 'first'), new Key('ES256', 'second')];
  const issuer = await startIssuer([first]);
  const slotcast = await startSlotcast({
    settings: { JWT_SECRET: undefined, JWT_ALGORITHM: 'ES256', JWT_JWKS_URL: issuer.url },
  });
  try {
    const status = async (token) => (await slotcast.caller(token).get('/api/holds')).status;
    assert.equal(await status(first.token()), 200);
    issuer.keys = [first, second];
    await eventually(async () => (await status(second.token())) === 200, 'the added key', 90_000);
    const before = issuer.asked;
    for (let index = 0; index < 50; index += 1) {
      assert.equal(await status(first.token({}, `unknown-${index}`)), 401);
    }
    assert.ok(issuer.asked - before <= 5, `asked ${issuer.asked - before} times`);
    assert.equal(await status(first.token()), 200);
  } finally {
    await slotcast.stop();
  }
});

/** How many clients come at once while there are no keys. */
const CROWD = 8;

for (const [name, transports] of Object.entries(TRANSPORTS)) {
  test(`clients that come by ${name} before the keys are known come back by themselves`, async () => {
    const key = new Key('ES256', 'one');
    const issuer = await startIssuer([key]);
    issuer.isDown = true;
    const settings = { JWT_SECRET: undefined, JWT_ALGORITHM: 'ES256', JWT_JWKS_URL: issuer.url };
    const slotcast = await startSlotcast({ settings, probe: '/healthz' });
    const proxy = await startTcpProxy(() => [slotcast.port]);
    // An upgrade takes several round trips.
    proxy.delay = 50;
    const [clients, closed] = [[], []];
    try {
      for (let index = 0; index < CROWD; index += 1) {
        const client = new Client(proxy.url, { token: key.token(), transports, reconnection: true });
        client.socket.io.on('close', (reason) => closed.push([index, reason]));
        clients.push(client);
        await sleep(100);
      }
      const hasCrowdLeft = () => new Set(closed.map(([index]) => index)).size === CROWD;
      await eventually(hasCrowdLeft, () => `all connections to be closed (${JSON.stringify(closed)})`, 60_000);
      assert.equal((await slotcast.caller(key.token()).get('/api/holds')).status, 503);
      issuer.isDown = false;
      for (const client of clients) {
        await eventually(() => client.events[0]?.name === 'connection_confirmed', 'to be connected', 60_000);
        assert.ok(!client.refusals.includes(BAD_TOKEN), 'a stock client does not come back from a refusal');
      }
      // A client that must wait for its ping shows a dead page for 45 seconds.
      assert.deepEqual(closed.filter(([, reason]) => reason === 'ping timeout'), []);
    } finally {
      for (const client of clients) client.close();
      proxy.close();
      await slotcast.stop();
    }
  });
}

test('a poll that waits while a client is turned away for want of keys bears no refusal', async () => {
  const key = new Key('ES256', 'one');
  const issuer = await startIssuer([key]);
  issuer.isDown = true;
  const settings = { JWT_SECRET: undefined, JWT_ALGORITHM: 'ES256', JWT_JWKS_URL: issuer.url };
  const slotcast = await startSlotcast({ settings, probe: '/healthz' });
  const path = `${slotcast.url}/socket.io/?EIO=4&transport=polling`;
  const isNoise = (packets) => packets.split('\x1e').every((packet) => packet === '2' || packet === '6');
  /** Polls until the node ends the session. Gives the status and the body of that last answer. */
  const lastOfPolls = async (sid) => {
    for (;;) {
      const answer = await fetch(`${path}&sid=${sid}`);
      const packets = await answer.text();
      if (answer.status !== 200 || !isNoise(packets)) return `${answer.status} ${packets}`;
    }
  };
  const turnedAway = async () => {
    const { sid } = JSON.parse((await (await fetch(path)).text()).slice(1));
    const polls = lastOfPolls(sid);
    await fetch(`${path}&sid=${sid}`, { method: 'POST', body: `40${JSON.stringify({ token: key.token() })}` });
    return polls;
  };
  for (const _ of range(1, 30)) {
    const answers = await Promise.all(range(1, 20).map(turnedAway));
    assert.deepEqual(answers.filter((answer) => !answer.startsWith('400 ')), []);
  }
  await slotcast.stop();
});
