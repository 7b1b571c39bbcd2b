// The files that a node serves for browsers: compressed, cached for as long as they are valid, and open to pages of other
// origins.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { startSlotcast } from './lib/slotcast.mjs';

const CLIENTS = ['/socket.io/socket.io.js', '/socket.io/socket.io.min.js', '/socket.io/socket.io.esm.min.js'];

let slotcast;
before(async () => {
  slotcast = await startSlotcast({ settings: { SLOTCAST_FRAME_ANCESTORS: 'https://www.example.org' } });
});
after(() => slotcast?.stop());

const get = (path, headers) => fetch(slotcast.url + path, { headers });

/** The first digits of a file's hash, as in the name under which it never changes. */
const hashOf = (text) => createHash('sha256').update(text).digest('hex').slice(0, 16);

test('the page names files that never change, and each is there', async () => {
  const page = await get('/');
  const html = await page.text();
  const names = [...html.matchAll(/(?:src|href)="(\/page\.[^"]+)"/g)].map(([, name]) => name);
  assert.equal(names.length, 2);
  for (const name of names) {
    const file = await get(name);
    assert.equal(file.status, 200, name);
    assert.match(file.headers.get('cache-control'), /max-age=31536000, immutable/);
    assert.equal(name.split('.')[1], hashOf(await file.text()));
  }
  assert.equal(page.headers.get('cache-control'), 'no-cache');
});

test('the policy of the page names no scheme, and who may frame it', async () => {
  const policy = (await get('/')).headers.get('content-security-policy');
  assert.match(policy, /connect-src 'self';/);
  assert.match(policy, /frame-ancestors https:\/\/www\.example\.org$/);
  assert.doesNotMatch(policy, /ws:|wss:|unsafe/);
});

test('the element is for pages of any origin, under its own name and under one that never changes', async () => {
  const plain = await get('/slotcast.js', { origin: 'https://www.example.org' });
  const text = await plain.text();
  assert.equal(plain.headers.get('access-control-allow-origin'), '*');
  assert.equal(plain.headers.get('cross-origin-resource-policy'), 'cross-origin');
  assert.equal(plain.headers.get('cache-control'), 'no-cache');
  const hashed = await get(`/slotcast.${hashOf(text)}.js`);
  assert.equal(hashed.headers.get('access-control-allow-origin'), '*');
  assert.match(hashed.headers.get('cache-control'), /immutable/);
  assert.equal(await hashed.text(), text);
  const known = await get('/slotcast.js', { 'if-none-match': plain.headers.get('etag') });
  assert.equal(known.status, 304);
});

test('the stock client is where the servers of Socket.IO have it', async () => {
  for (const path of CLIENTS) {
    const file = await get(path, { 'accept-encoding': 'gzip' });
    assert.equal(file.status, 200, path);
    assert.match(file.headers.get('content-type'), /^text\/javascript/);
    assert.equal(file.headers.get('content-encoding'), 'gzip');
    assert.equal(file.headers.get('vary'), 'accept-encoding');
    assert.match(await file.text(), /Socket\.IO v4\.8\.4/);
    const installed = new URL(`../../web/node_modules/socket.io-client/dist/${path.split('/').at(-1)}`, import.meta.url);
    assert.ok(readFileSync(installed, 'utf8').startsWith((await (await get(path)).text()).trimEnd().slice(0, 5_000)));
  }
});

test('what a node tells its own page, it tells no proxy and no other name', async () => {
  const told = async (headers) => (await get('/page.json', headers)).json();
  assert.equal((await told()).users.length, 3);
  assert.deepEqual(await told({ 'x-forwarded-for': '10.0.0.1' }), { isDevelopment: true, users: [] });
  assert.equal((await get('/page.json')).headers.get('cache-control'), 'no-store');
});
