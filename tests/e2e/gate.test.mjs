// In front of the Socket.IO library: a request that is not of its protocol, or that two readers would read differently, is
// answered as Node's server does, and never reaches the library.

import assert from 'node:assert/strict';
import { createServer, connect } from 'node:net';
import { after, test } from 'node:test';

import { WebSocket } from 'ws';

import { Client } from './lib/client.mjs';
import { freshNumber } from './lib/fixtures.mjs';
import { POLLING, RawClient, beginPolling, head } from './lib/raw_client.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const WEBSOCKET = '/socket.io/?EIO=4&transport=websocket';
const UPGRADE = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
};

/** The answer to a raw request head: `{status, headers, body}`. The body is what has arrived so far. */
async function ask(text) {
  const client = await RawClient.open(slotcast.port);
  client.write(text);
  await client.sees('\r\n\r\n');
  const [answer, body] = client.received.split('\r\n\r\n', 2);
  const [line, ...headers] = answer.split('\r\n');
  const length = Number(headers.find((name) => /^content-length:/i.test(name))?.split(':')[1] ?? 0);
  await eventually(() => client.received.length >= answer.length + 4 + length, 'the body');
  client.close();
  return { status: Number(line.split(' ')[1]), headers: headers.join('\n').toLowerCase(), body: client.received.slice(answer.length + 4) || body };
}

const BAD_REQUEST = '{"code":3,"message":"Bad request"}';

test('a websocket that is not asked for as one is refused in the form of Node', async () => {
  const without = (name) => Object.fromEntries(Object.entries(UPGRADE).filter(([other]) => other !== name));
  const inputs = {
    'no Upgrade': head('GET', WEBSOCKET, without('upgrade')),
    'no Connection': head('GET', WEBSOCKET, without('connection')),
    'another protocol': head('GET', WEBSOCKET, { ...UPGRADE, upgrade: 'h2c' }),
    'HTTP/1.0': head('GET', WEBSOCKET, UPGRADE).replace('HTTP/1.1', 'HTTP/1.0'),
    'no key': head('GET', WEBSOCKET, without('sec-websocket-key')),
    'a bad key': head('GET', WEBSOCKET, { ...UPGRADE, 'sec-websocket-key': 'x' }),
    'a bad subprotocol': head('GET', WEBSOCKET, { ...UPGRADE, 'sec-websocket-protocol': 'a b' }),
  };
  for (const [name, text] of Object.entries(inputs)) {
    const { status, body } = await ask(text);
    assert.deepEqual([status, body], [400, BAD_REQUEST], name);
  }
});

test('another version of websockets is told which one is spoken', async () => {
  for (const version of ['8', '14', 'x']) {
    const { status, headers } = await ask(head('GET', WEBSOCKET, { ...UPGRADE, 'sec-websocket-version': version }));
    assert.equal(status, 426, version);
    assert.match(headers, /^sec-websocket-version: 13$/m);
  }
});

test('a poll that would rather speak another protocol is a poll', async () => {
  const { status, body } = await ask(head('GET', POLLING, { connection: 'Upgrade', upgrade: 'h2c' }));
  assert.equal(status, 200);
  assert.match(body, /^0\{"sid":/);
});

// Attack 4: queries that two readers would read differently.
test('a query that two readers would read differently is refused', async () => {
  const sid = await beginPolling(slotcast.url);
  for (const query of [
    `EIO=4&transport=polling&s%69d=${sid}`,
    `EIO=4&transport=polling&sid=${sid}&sid=${sid}`,
    `EIO=4&transport=polling&sid=x&s%69d=${sid}`,
    `EIO=4&transport=poll%69ng&sid=${sid}`,
    `EIO=4&transport=polling&transport=websocket`,
    `%45IO=4&EIO=4&transport=polling`,
  ]) {
    const answer = await fetch(`${slotcast.url}/socket.io/?${query}`);
    assert.deepEqual([answer.status, await answer.text()], [400, BAD_REQUEST], query);
  }
  assert.equal((await fetch(`${slotcast.url}${POLLING}&sid=${sid}`, { method: 'POST', body: '40{}' })).status, 200);
});

test('what is refused has the numbers of Node', async () => {
  const inputs = [
    ['GET', 'EIO=4&transport=carrier', 0, 'Transport unknown'],
    ['POST', 'EIO=4&transport=polling', 2, 'Bad handshake method'],
    ['GET', 'EIO=3&transport=polling', 5, 'Unsupported protocol version'],
  ];
  for (const [method, query, code, message] of inputs) {
    const answer = await fetch(`${slotcast.url}/socket.io/?${query}`, { method });
    assert.deepEqual([answer.status, await answer.json()], [400, { code, message }], query);
  }
});

test('the first subprotocol that a client asks for is the one it gets', async () => {
  const socket = new WebSocket(`${slotcast.url.replace('http', 'ws')}${WEBSOCKET}`, ['v1.app', 'v2.app']);
  await new Promise((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  });
  assert.equal(socket.protocol, 'v1.app');
  socket.close();
  const client = new Client(slotcast.url, { token: userToken(freshNumber()), protocols: ['v1.app'] });
  await client.connected();
  client.close();
});

test('behind a proxy that drops Upgrade, a stock client goes on by polling at once', async (t) => {
  const proxy = createServer((near) => {
    const far = connect(slotcast.port, '127.0.0.1');
    near.on('data', (chunk) => far.write(chunk.toString('latin1').replace(/^(upgrade|connection): .*\r\n/gim, ''), 'latin1'));
    far.pipe(near);
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.after(() => proxy.close());
  const client = new Client(`http://127.0.0.1:${proxy.address().port}`, {
    token: userToken(freshNumber()),
    transports: ['websocket', 'polling'],
    tryAllTransports: true,
  });
  t.after(() => client.close());
  await client.connected();
  assert.equal(client.transport, 'polling');
  assert.deepEqual(client.refusals, []);
});
