// The polling transport behind a proxy that sends each request to the next node: no session is lost, no event is missed.
//
// SLOTCAST_POLLING_CLIENTS (60) and SLOTCAST_POLLING_SECONDS (15) say how many for how long.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { TRANSPORTS, Client } from './lib/client.mjs';
import { startCluster } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range, versions } from './lib/fixtures.mjs';
import { settled } from './lib/http.mjs';
import { startHttpProxy } from './lib/proxy.mjs';
import { userToken } from './lib/tokens.mjs';
import { DEADLINE_MS, eventually, sleep } from './lib/waiting.mjs';

const CLIENTS = Number(process.env.SLOTCAST_POLLING_CLIENTS ?? 60);
const SECONDS = Number(process.env.SLOTCAST_POLLING_SECONDS ?? 15);

/** The pause between two changes, in ms. */
const BETWEEN = 125;

const cluster = await startCluster({ settings: { SLOTCAST_USER_RATE: '0' } });
const proxy = await startHttpProxy(() => cluster.nodes.map(({ port }) => port));
after(async () => {
  proxy.close();
  await cluster.stop();
});

/** Whether a client's session ended because the store could not be asked. That is allowed, and loses nothing. */
const isRefused = ({ sid = null }) => proxy.refused.has(sid);

const isLost = ({ disconnects, refusals }) => disconnects.length + refusals.length > 0;

const assertNotLost = (client) => assert.ok(!isLost(client) || isRefused(client), `${client.disconnects} ${client.refusals}`);

/** The result of `work` on a client's session, or `undefined` if the session ended by such a refusal. */
async function unlessRefused(client, work) {
  let isDone = false;
  const done = work.finally(() => (isDone = true)).then((value) => ({ value }), (error) => ({ error }));
  const lost = eventually(() => isDone || isLost(client), 'the end of a session', 2 * DEADLINE_MS).then(() => ({}));
  const { value, error } = await Promise.race([done, lost]);
  assertNotLost(client);
  if (error && !isLost(client)) throw error;
  return value;
}

/** A stock client in a space, which knows only the proxy. A refused client begins anew. */
async function enter(space, transports) {
  return eventually(async () => {
    const client = new Client(proxy.url, { token: userToken(freshNumber()), transports });
    client.socket.io.once('open', () => (client.sid = client.socket.io.engine.id));
    await eventually(() => client.all('connection_confirmed').length > 0 || isLost(client), 'a connection');
    client.joined = isLost(client) ? undefined : await unlessRefused(client, client.join(space));
    assertNotLost(client);
    return client.joined && client;
  }, `a client in ${space.room}`);
}

/** Sets a slot as staff, on the next node, and gives the version. */
async function set(space, slot, status) {
  const answer = await cluster.next.staffCaller().settled.put(`/api/slots/${slot}`, space.body({ status }));
  assert.equal(answer.status, 200, answer.text);
  return answer.data.version;
}

/** Waits until a client has heard each change of a space once, up to a version. `sorted` allows any order. */
async function heardAll(client, version, sorted = (list) => list) {
  await unlessRefused(client, (async () => {
    await client.first('slot_update', (update) => update.version === version);
    assert.deepEqual(sorted(versions(client.all('slot_update'))), range(client.joined.version + 1, version));
  })());
}

test(`${CLIENTS} polling clients lose no session and no event in ${SECONDS} s without sticky sessions`, async (t) => {
  const spaces = range(1, 4).map(() => freshSpace());
  const clients = await Promise.all(
    range(0, CLIENTS - 1).map(async (index) => {
      const space = spaces[index % 4];
      const client = await enter(space, TRANSPORTS.polling);
      t.after(() => client.close());
      return { client, space };
    }),
  );

  const end = Date.now() + SECONDS * 1_000;
  let changes = 0;
  const change = async () => {
    while (Date.now() < end) {
      await set(spaces[changes % 4], 1 + (changes % 9), changes % 2 ? 'blocked' : 'booked');
      changes += 1;
      await sleep(BETWEEN);
    }
  };
  // A client sends by requests of its own, which come to other nodes than its polls.
  let calls = 0;
  const ask = async ({ client, space }) => {
    await sleep(Math.random() * 2_000);
    while (Date.now() < end && !isLost(client)) {
      const since = client.joined;
      const answer = await unlessRefused(client, client.callUntilSettled('sync', space.event({ since })));
      if (answer) assert.equal(answer.ok, true, JSON.stringify(answer));
      calls += 1;
      await sleep(2_000);
    }
  };
  await Promise.all([change(), ...clients.slice(0, CLIENTS / 3).map(ask)]);
  t.diagnostic(`${changes} changes, ${calls} calls, requests by node ${[...proxy.counts.values()]}`);

  const heads = new Map();
  for (const space of spaces) heads.set(space, (await cluster.nodes[0].board(space)).version);
  const once = (list) => [...new Set(list)].sort((left, right) => left - right);
  for (const { client, space } of clients) {
    await heardAll(client, heads.get(space), once);
    assert.equal(client.transport, 'polling');
  }
  t.diagnostic(`${clients.filter(({ client }) => isLost(client)).length} sessions ended for a 503`);
  for (const count of proxy.counts.values()) assert.ok(count > changes / 2, 'each node got its share');
});

test('polling clients that only listen hear each event once, in order', async () => {
  const space = freshSpace();
  const clients = await Promise.all(range(1, 6).map(() => enter(space, TRANSPORTS.polling)));
  let version;
  for (const n of range(1, 50)) version = await set(space, 1 + (n % 9), 'booked');
  for (const client of clients) {
    await heardAll(client, version);
    client.close();
  }
});

test('the upgrade to websocket works through the proxy', async () => {
  const space = freshSpace();
  const clients = await Promise.all(range(1, 12).map(() => enter(space, TRANSPORTS.upgrade)));
  // A refused upgrade leaves the session as it is.
  const isUpgraded = (client) => client.transport === 'websocket' || isRefused(client);
  await eventually(() => clients.every(isUpgraded), 'the upgrade of all');
  const version = await set(space, 1, 'blocked');
  for (const client of clients) {
    await heardAll(client, version);
    client.close();
  }
});

test('a poll has the same headers on every node', async () => {
  const origin = 'http://localhost:3000';
  const query = `EIO=4&transport=polling&token=${userToken(freshNumber())}`;
  const [home] = cluster.nodes;
  const open = () => fetch(`${home.url}/socket.io/?${query}`, { headers: { origin } });
  const opened = await (await settled(open, 'a session')).text();
  const { sid } = JSON.parse(opened.slice(1));
  const headers = { origin, 'x-request-id': 'one-poll' };
  const request = (node, options) => fetch(`${node.url}/socket.io/?${query}&sid=${sid}`, { headers, ...options });
  const ask = (node, options) => settled(() => request(node, options), 'an answer to a session');
  const shown = ({ status, headers }) => {
    const { date: _, 'content-length': length, vary, ...others } = Object.fromEntries(headers);
    // A header that is named twice there says nothing new.
    return { status, others, vary: new Set(vary?.split(/, */)) };
  };
  const connected = await ask(home, { method: 'POST', body: '40{}' });
  assert.equal(connected.status, 200);
  const answers = [];
  for (const [index, node] of cluster.nodes.entries()) {
    const polling = ask(node);
    const tell = () => cluster.next.staffCaller().post('/api/broadcast', { event: 'giro', data: { index } });
    assert.equal((await settled(tell, 'a broadcast')).status, 200);
    let answer = await polling;
    answers.push(shown(answer));
    // The first answer may have only a ping and the answer to CONNECT.
    while (!/connection_confirmed|giro/.test(await answer.text())) {
      answer = await ask(node);
      answers.push(shown(answer));
    }
  }
  assert.equal(answers[0].others['access-control-allow-credentials'], 'true');
  assert.equal(answers[0].others['x-request-id'], 'one-poll');
  for (const answer of answers) assert.deepEqual(answer, answers[0]);
  const closed = await ask(cluster.nodes[1], { method: 'POST', body: '1' });
  assert.equal(closed.status, 200);
  for (const node of cluster.nodes) assert.equal((await ask(node)).status, 400);
});

test('a session that no node has is refused as unknown, and one that was closed too', async () => {
  const path = '/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAA';
  for (const _ of cluster.nodes) {
    const answer = await settled(() => fetch(proxy.url + path), 'an answer');
    assert.equal(answer.status, 400, await answer.text());
  }
});
