// Tokens of an issuer with public keys: RS256, ES256 and EdDSA through a JWKS.

import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { after, describe, test } from 'node:test';

import { startSlotcast } from './lib/slotcast.mjs';
import { secondsNow, signToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const BAD_TOKEN = 'Token non valido';

/** How to make a key and a signature for each algorithm. */
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
  const issuer = { keys, asked: 0 };
  const server = createServer((request, response) => {
    issuer.asked += 1;
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
