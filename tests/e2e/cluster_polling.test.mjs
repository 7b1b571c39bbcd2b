// The polling transport behind a proxy that sends each request to the next node: no session is lost, no event is missed.
//
// SLOTCAST_POLLING_CLIENTS (60) and SLOTCAST_POLLING_SECONDS (15) say how many for how long.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { TRANSPORTS, Client } from './lib/client.mjs';
import { startCluster } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range, versions } from './lib/fixtures.mjs';
import { startHttpProxy } from './lib/proxy.mjs';
import { userToken } from './lib/tokens.mjs';
import { DEADLINE_MS, eventually, sleep } from './lib/waiting.mjs';

const CLIENTS = Number(process.env.SLOTCAST_POLLING_CLIENTS ?? 60);
const SECONDS = Number(process.env.SLOTCAST_POLLING_SECONDS ?? 15);

/** Between two changes, in ms. */
const BETWEEN = 125;

const cluster = await startCluster({ settings: { SLOTCAST_USER_RATE: '0' } });
const proxy = await startHttpProxy(() => cluster.nodes.map(({ port }) => port));
after(async () => {
  proxy.close();
  await cluster.stop();
});

/** A connected stock client that knows only the proxy. */
async function connect(transports, user = freshNumber()) {
  const client = new Client(proxy.url, { token: userToken(user), transports });
  await client.connected();
  return client;
}

const lost = (clients) => clients.flatMap(({ disconnects, refusals }) => [...disconnects, ...refusals]);

test(`${CLIENTS} polling clients lose no session and no event in ${SECONDS} s without sticky sessions`, async (t) => {
  const spaces = range(1, 4).map(() => freshSpace());
  const clients = [];
  for (const index of range(0, CLIENTS - 1)) clients.push({ client: connect(TRANSPORTS.polling), space: spaces[index % 4] });
  for (const one of clients) {
    one.client = await one.client;
    t.after(() => one.client.close());
  }
  await Promise.all(clients.map(async (one) => {
    one.start = (await one.client.join(one.space)).version;
  }));

  const end = Date.now() + SECONDS * 1_000;
  let changes = 0;
  const change = async () => {
    while (Date.now() < end) {
      const space = spaces[changes % 4];
      const slot = 1 + (changes % 9);
      const body = space.body({ status: changes % 2 ? 'blocked' : 'booked' });
      const answer = await cluster.next.staffCaller().put(`/api/slots/${slot}`, body);
      assert.equal(answer.status, 200, answer.text);
      changes += 1;
      await sleep(BETWEEN);
    }
  };
  // What a client sends goes by its own requests, which come to other nodes than its polls.
  let calls = 0;
  const ask = async ({ client, space }) => {
    await sleep(Math.random() * 2_000);
    while (Date.now() < end) {
      const answer = await client.call('sync', space.event({ since: client.all('joined_space')[0] }));
      assert.equal(answer.ok, true, JSON.stringify(answer));
      calls += 1;
      await sleep(2_000);
    }
  };
  await Promise.all([change(), ...clients.slice(0, CLIENTS / 3).map(ask)]);
  t.diagnostic(`${changes} changes, ${calls} calls, requests by node ${[...proxy.counts.values()]}`);

  const heads = new Map();
  for (const space of spaces) heads.set(space, (await cluster.nodes[0].board(space)).version);
  for (const { client, space, start } of clients) {
    await client.first('slot_update', ({ version }) => version === heads.get(space), DEADLINE_MS);
    assert.equal(client.transport, 'polling');
    assert.deepEqual(lost([client]), []);
    const heard = new Set(versions(client.all('slot_update')));
    assert.deepEqual([...heard].sort((left, right) => left - right), range(start + 1, heads.get(space)));
  }
  for (const count of proxy.counts.values()) assert.ok(count > changes / 2, 'each node got its share');
});

test('polling clients that only listen hear each event once, in order', async () => {
  const space = freshSpace();
  const clients = await Promise.all(range(1, 6).map(() => connect(TRANSPORTS.polling)));
  for (const client of clients) await client.join(space);
  const book = (slot) => cluster.next.staffCaller().put(`/api/slots/${slot}`, space.body({ status: 'booked' }));
  for (const n of range(1, 50)) await book(1 + (n % 9));
  for (const client of clients) {
    await client.many('slot_update', 50);
    assert.deepEqual(versions(client.all('slot_update')), range(1, 50));
    client.close();
  }
});

test('the upgrade to websocket works through the proxy', async () => {
  const space = freshSpace();
  const clients = await Promise.all(range(1, 12).map(() => connect(TRANSPORTS.upgrade)));
  for (const client of clients) await client.join(space);
  await eventually(() => clients.every(({ transport }) => transport === 'websocket'), 'the upgrade of all');
  await cluster.next.staffCaller().put('/api/slots/1', space.body({ status: 'blocked' }));
  for (const client of clients) {
    await client.first('slot_update');
    assert.deepEqual(lost([client]), []);
    client.close();
  }
});

test('a poll has the same headers on every node', async () => {
  const origin = 'http://localhost:3000';
  const query = `EIO=4&transport=polling&token=${userToken(freshNumber())}`;
  const [home] = cluster.nodes;
  const opened = await (await fetch(`${home.url}/socket.io/?${query}`, { headers: { origin } })).text();
  const { sid } = JSON.parse(opened.slice(1));
  const ask = (node, options) => fetch(`${node.url}/socket.io/?${query}&sid=${sid}`, { headers: { origin }, ...options });
  const shown = ({ status, headers }) => {
    const { date: _, 'content-length': length, vary, ...others } = Object.fromEntries(headers);
    // To name a header twice there says nothing more.
    return { status, others, vary: new Set(vary?.split(/, */)) };
  };
  const connected = await ask(home, { method: 'POST', body: '40{}' });
  assert.equal(connected.status, 200);
  const answers = [];
  for (const [index, node] of cluster.nodes.entries()) {
    const polling = ask(node);
    await cluster.next.staffCaller().post('/api/broadcast', { event: 'giro', data: { index } });
    let answer = await polling;
    answers.push(shown(answer));
    // The first may have no more than a ping and the answer to CONNECT.
    while (!/connection_confirmed|giro/.test(await answer.text())) {
      answer = await ask(node);
      answers.push(shown(answer));
    }
  }
  assert.equal(answers[0].others['access-control-allow-credentials'], 'true');
  for (const answer of answers) assert.deepEqual(answer, answers[0]);
  const closed = await ask(cluster.nodes[1], { method: 'POST', body: '1' });
  assert.equal(closed.status, 200);
  for (const node of cluster.nodes) assert.equal((await ask(node)).status, 400);
});

test('a session that no node has is refused as unknown, and one that was closed too', async () => {
  const path = '/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAAAA';
  for (const _ of cluster.nodes) {
    const answer = await fetch(proxy.url + path);
    assert.equal(answer.status, 400, await answer.text());
  }
});
