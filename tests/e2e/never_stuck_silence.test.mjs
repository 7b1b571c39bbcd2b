// Clients that say nothing, too little or only half: each is gone within its documented limit (docs/limits.md), and
// the node holds nothing for it any more. They are all there at once, so that waiting for the slowest is waiting for all.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { countsAtRest, countsReturn, readCounts } from './lib/figures.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { POLLING, RawClient, beginPolling, frame, head } from './lib/raw_client.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually, within } from './lib/waiting.mjs';

/** How many clients of each kind. */
const EACH = Number(process.env.SLOTCAST_SILENT_CLIENTS ?? 3);

/** The documented limits in seconds. */
const HEAD = 75;
const BODY = 30;
const UNREAD_BODY = BODY + 10;
const PONG = 25 + 20;
const CONNECT = 10;
const UPGRADE = 10;
const STALL = 10;

/** The additional time that a busy machine may need, in seconds. */
const MARGIN_MS = 20_000;

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const space = freshSpace();
const { port, url } = slotcast;
const open = () => RawClient.open(port);
const websocket = async () => (await open()).upgrade();
const joined = async () => (await websocket()).join(freshNumber(), space);

/** A polling session of a connected user. */
async function polling() {
  const sid = await beginPolling(url);
  const path = `${POLLING}&sid=${sid}`;
  await fetch(url + path, { method: 'POST', body: `40{"token":"${userToken(freshNumber())}"}` });
  // A poll is answered with the packets that wait. The ping, the answer to the connect packet and the packets after it may
  // come one by one.
  await eventually(async () => (await (await fetch(url + path)).text()).includes('connection_confirmed'), 'the confirmation');
  return { sid, path };
}

/** For each thing that a client may do: the limit, and how the test begins it. `begin` gives what the server is to end. */
const KINDS = {
  'says nothing': [HEAD, open],
  'sends a head, a byte a second': [HEAD, async () => (await open()).dribble(head('GET', `/${'x'.repeat(500)}`))],
  'idles after an answer': [
    HEAD,
    async () => {
      const client = await open();
      client.write(head('GET', '/healthz'));
      await client.sees('200 OK');
      return client;
    },
  ],
  'sends the body of a call, a byte a second': [
    UNREAD_BODY,
    async () => {
      const client = await open();
      const headers = { authorization: `Bearer ${userToken(freshNumber())}`, 'content-length': 500 };
      client.write(head('POST', '/api/slots/1/hold', headers));
      return client.dribble(' '.repeat(500));
    },
  ],
  'sends the body of a poll, a byte a second': [
    BODY,
    async () => {
      const { path } = await polling();
      const client = await open();
      client.write(head('POST', path, { 'content-length': 500 }));
      return client.dribble('4'.repeat(500));
    },
  ],
  'sends a frame, a byte a second': [
    PONG,
    async () => {
      const client = await joined();
      client.write(frame('', { announce: 500 }));
      return client.dribble('4'.repeat(500));
    },
  ],
  'upgrades and never connects': [CONNECT, async () => (await websocket()).pongs()],
  'is refused and stays': [
    CONNECT,
    async () => {
      const client = (await websocket()).pongs();
      client.write(frame('40{"token":"no"}'));
      await client.sees('Token non valido');
      return client;
    },
  ],
  'never answers a ping': [PONG, joined],
  'begins an upgrade from polling, and no more': [
    UPGRADE,
    async () => {
      const { sid } = await polling();
      const client = await (await open()).upgrade({ sid });
      client.write(frame('2probe'));
      await client.sees('3probe');
      return client;
    },
  ],
  'ends its side of a websocket': [
    0,
    async () => {
      const client = await joined();
      client.socket.end();
      return client;
    },
  ],
  'ends its side in the middle of a head': [
    0,
    async () => {
      const client = await open();
      client.socket.end('GET / HTTP');
      return client;
    },
  ],
  'ends its side while it polls': [
    0,
    async () => {
      const { path } = await polling();
      const client = await open();
      client.socket.end(head('GET', path));
      return client;
    },
  ],
  'asks again and again and reads no answer': [
    STALL,
    async () => {
      const client = await open();
      client.socket.pause();
      client.write(head('GET', '/api/openapi.json').repeat(500));
      // A client that does not read does not see the end. It looks at the time by which the server must have hung up.
      setTimeout(() => client.socket.resume(), STALL * 1_000 + MARGIN_MS / 2);
      return client;
    },
  ],
};

test(
  'clients that keep a connection and say too little are gone within the limits, and nothing of them is left',
  { timeout: 240_000 },
  async (t) => {
    const before = await countsAtRest(slotcast);
    const clients = await Promise.all(
      Object.entries(KINDS).flatMap(([kind, [limit, begin]]) =>
        range(1, EACH).map(async () => ({ kind, limit, client: await begin() })),
      ),
    );
    // Polling sessions without a connection of their own: one that never asks again, one that never connects.
    await Promise.all(range(1, EACH).flatMap(() => [polling(), beginPolling(url)]));
    let during;
    const areThere = async () => {
      during = await readCounts(slotcast);
      // Some clients are ended at once, and some while the others still begin slowly.
      const left = clients.filter(({ client }) => !client.hasEnded);
      return during.tcp_connections >= before.tcp_connections + left.length;
    };
    await eventually(areThere, 'all that were not ended');
    t.diagnostic(`before ${JSON.stringify(before)}`);
    t.diagnostic(`with ${clients.length} silent clients ${JSON.stringify(during)}`);
    const lasted = {};
    await Promise.all(
      clients.map(async ({ kind, limit, client }) => {
        const deadline = limit * 1_000 + MARGIN_MS;
        const took = await within(client.ended, `the end of one that ${kind}`, deadline + MARGIN_MS);
        lasted[kind] = Math.max(lasted[kind] ?? 0, took);
        assert.ok(took < deadline, `one that ${kind} was there for ${took} ms`);
        // The client never closes its own side.
      }),
    );
    t.diagnostic(JSON.stringify(lasted));
    await countsReturn(slotcast, before, 60_000);
    const tooSlow = clients.filter(({ kind }) => kind === 'sends the body of a poll, a byte a second');
    for (const { client } of tooSlow) assert.match(client.received, /^HTTP\/1.1 408 Request Timeout/);
    for (const { client } of clients) client.close();
    assert.equal((await fetch(`${url}/readyz`)).status, 200);
  },
);
