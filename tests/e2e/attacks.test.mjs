// Attacks by strangers without a token and by users with one. Each attack worked once. Now the node survives it, an honest
// client keeps its board, and everything that was counted goes back to where it was.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';

import { readMetric } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { POLLING, RawClient, beginPolling, frame, head } from './lib/raw_client.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually, inLanes, sleep } from './lib/waiting.mjs';

/** The bounds of docs/limits.md on sessions without a token: of a node, and of one connection. */
const STRANGERS = 4_096;
const OF_A_CONNECTION = 256;

const slotcast = await startSlotcast();
after(() => slotcast.stop());

const connectPacket = (user) => `40{"token":"${userToken(user)}"}`;
const gauges = ['slotcast_strangers', 'slotcast_engine_sessions', 'slotcast_connections', 'slotcast_queue_depth'];
const readGauges = async () => Object.fromEntries(await Promise.all(gauges.map(async (name) => [name, await readMetric(slotcast, name)])));
const post = (sid, body) => fetch(`${slotcast.url}${POLLING}&sid=${sid}`, { method: 'POST', body });

/** Attacks while a client watches a space. The client misses nothing, and in the end nothing is left but it. */
async function besideAWatcher(attack) {
  const space = freshSpace();
  const watcher = await slotcast.user(freshNumber());
  await watcher.join(space, { date: space.date });
  await watcher.first('slots_status_update');
  const alone = { slotcast_strangers: 0, slotcast_engine_sessions: 1, slotcast_connections: 1, slotcast_queue_depth: 0 };
  await eventually(async () => (await readMetric(slotcast, 'slotcast_connections')) === 1, 'one socket');
  await attack();
  const staff = slotcast.staffCaller();
  const answer = await staff.put('/api/slots/1', space.body({ status: 'blocked' }));
  await watcher.first('slot_update', ({ version }) => version === answer.data.version);
  let seen;
  const isAlone = async () => JSON.stringify((seen = await readGauges())) === JSON.stringify(alone);
  await eventually(isAlone, () => `all gone but one: ${JSON.stringify(seen)}`, 60_000);
  assert.equal((await staff.get('/api/stats')).data.totalSockets, 1);
  assert.deepEqual(watcher.disconnects, []);
  watcher.close();
  await eventually(async () => (await readMetric(slotcast, 'slotcast_engine_sessions')) === 0, 'nobody');
}

/** Sends `count` handshakes by polling over one connection, and counts the answers. */
async function sendHandshakes(count) {
  const client = await RawClient.open(slotcast.port);
  client.write(head('GET', POLLING).repeat(count));
  const answers = () => client.received.match(/HTTP\/1\.1 \d+/g) ?? [];
  await eventually(() => answers().length === count, () => `${answers().length} of ${count} answers`);
  const refused = answers().filter((line) => line.endsWith('503')).length;
  assert.equal((client.received.match(/retry-after: /gi) ?? []).length, refused, 'a refusal says when to come back');
  return { client, begun: (client.received.match(/"sid"/g) ?? []).length, refused };
}

// Attack 1: handshakes that never show a token.
test('handshakes without a token have a bound, and who comes with one is let in beside them', async (t) => {
  await besideAWatcher(async () => {
    const one = await sendHandshakes(1_000);
    assert.deepEqual([one.begun, one.refused], [OF_A_CONNECTION, 1_000 - OF_A_CONNECTION]);
    let begun = one.begun;
    const clients = [one.client];
    await inLanes(8, range(1, 40), async () => {
      const { client, begun: more } = await sendHandshakes(300);
      clients.push(client);
      begun += more;
    });
    t.diagnostic(`${begun} sessions of 13,000 handshakes`);
    assert.ok(begun <= STRANGERS, `${begun}`);
    assert.ok((await readMetric(slotcast, 'slotcast_strangers')) <= STRANGERS);
    // Over either transport, because crowds leave room for others.
    for (const transports of [['websocket'], ['polling']]) {
      const honest = slotcast.connect({ token: userToken(freshNumber()), transports });
      await honest.connected();
      assert.deepEqual(honest.refusals, []);
      honest.close();
    }
    for (const client of clients) client.close();
    assert.ok((await readMetric(slotcast, 'slotcast_connects_total{outcome="connection_full"}')) > 0);
  });
});

// Attack 1: a session that never shows a token.
test('a session that shows no token ends after ten seconds', async () => {
  const started = Date.now();
  const sid = await beginPolling(slotcast.url);
  // Its pongs keep it alive until then.
  const isOver = async () => (await post(sid, '3')).status === 400;
  await eventually(isOver, 'its end', 60_000);
  const took = Date.now() - started;
  assert.ok(took >= 9_900, 'not before');
  assert.ok(took < 40_000, 'its own end, not that of one that answers no ping');
  await eventually(async () => (await readMetric(slotcast, 'slotcast_strangers')) === 0, 'no strangers');
});

const NAMESPACES = range(1, 100).map((number) => `40/${'a'.repeat(60_000)}${number},`);

/** Sends the names until the session is refused, and gives how many were taken. */
async function askForNamespaces(sid) {
  for (const [index, name] of NAMESPACES.entries()) if ((await post(sid, name)).status !== 200) return index;
  return NAMESPACES.length;
}

// Attack 2: names of namespaces, by polling.
test('a namespace that does not exist ends the session, by polling', async () => {
  await besideAWatcher(async () => {
    for (const packet of [undefined, connectPacket(7)]) {
      const sid = await beginPolling(slotcast.url);
      if (packet) {
        assert.equal((await post(sid, packet)).status, 200);
        await eventually(async () => (await readMetric(slotcast, 'slotcast_connections')) === 2, 'the socket');
      }
      const taken = await askForNamespaces(sid);
      assert.ok(taken < NAMESPACES.length / 2, `${taken} names were taken`);
      assert.equal((await post(sid, '3')).status, 400);
    }
  });
});

// Attack 2: names of namespaces, on a websocket.
test('a namespace that does not exist ends the session, on a websocket and in one that was upgraded', async () => {
  await besideAWatcher(async () => {
    for (const packet of [undefined, connectPacket(7)]) {
      for (const isUpgraded of [false, true]) {
        const sid = isUpgraded ? await beginPolling(slotcast.url) : undefined;
        const client = await (await RawClient.open(slotcast.port)).upgrade({ sid });
        if (isUpgraded) {
          client.write(frame('2probe'));
          await client.sees('3probe');
          client.write(frame('5'));
        }
        if (packet) {
          client.write(frame(packet));
          await client.sees('connection_confirmed');
        }
        client.socket.pause();
        for (const name of NAMESPACES) client.write(frame(name));
        client.socket.resume();
        await eventually(() => client.hasEnded, 'the end of the connection');
        assert.ok(client.received.length < NAMESPACES.length * 30_000, `${client.received.length} bytes came back`);
      }
    }
  });
});

// Attack 3: sockets that come and go quickly.
test('sockets that connect and leave in a hurry leave nobody behind', async () => {
  const sequences = [
    ['C', '41', 'C', '41'],
    ['C', '41', 'C'],
    ['C', '41', 'C', '43[1]'],
    ['C', 'C', '41', 'C', 'C', '41'],
    ['C', '41', '42["x",{}]', 'C', '1'],
  ];
  await besideAWatcher(async () => {
    await inLanes(4, range(1, 600), async (number) => {
      const client = await (await RawClient.open(slotcast.port)).upgrade();
      const packets = sequences[number % sequences.length];
      for (const packet of packets) {
        client.write(frame(packet === 'C' ? connectPacket(number) : packet));
        // Each request is written by itself, so that one may find the request before it half done.
        await new Promise(setImmediate);
      }
      await sleep(2);
      client.close();
    });
  });
});

// Attack 3: a client that comes back over its connection.
test('a client that comes back over its connection is connected, or told to start anew', async () => {
  await inLanes(4, range(1, 100), async (number) => {
    const client = await (await RawClient.open(slotcast.port)).upgrade();
    client.pongs();
    for (const packet of [connectPacket(number), '41', connectPacket(number)]) client.write(frame(packet));
    // If the library forgot the second socket, nobody would tell the client. The client may miss the word about the first
    // one, which may have left earlier, so the words cannot be counted.
    const join = frame(`427${JSON.stringify(['join_space', freshSpace().event()])}`);
    const isSettled = () => client.hasEnded || client.received.includes('437[{"ok":true');
    await eventually(async () => {
      client.write(join);
      await sleep(100);
      return isSettled();
    }, () => `an answer to its second socket, or its end, after ${client.received.slice(-300)}`);
    client.close();
  });
});

// Attack 4: many requests of one session at once.
test('requests with packets of one session are handled in turn', async () => {
  const sid = await beginPolling(slotcast.url);
  const slow = await RawClient.open(slotcast.port);
  // The node asks for the body when it is this request's turn.
  slow.write(head('POST', `${POLLING}&sid=${sid}`, { 'content-length': 3, expect: '100-continue' }));
  await slow.sees('HTTP/1.1 100 Continue');
  slow.write('3');
  const quick = await RawClient.open(slotcast.port);
  quick.write(`${head('POST', `${POLLING}&sid=${sid}`, { 'content-length': 1 })}3`);
  await sleep(500);
  assert.equal(quick.received, '', 'it waits for the one before');
  slow.write('\x1e3');
  await slow.sees('HTTP/1.1 200');
  await quick.sees('HTTP/1.1 200');
  for (const client of [slow, quick]) client.close();
});

const residentBytesOf = (node) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.child.pid}/status`, 'utf8'))[1]) * 1024;

/** How much more memory a new node has after an act, or the most that the act measures itself. */
async function measureGrowth(act) {
  const node = await startSlotcast();
  const clients = [];
  try {
    const before = residentBytesOf(node);
    const most = Number(await act(node, clients)) || 0;
    return Math.max(most, residentBytesOf(node)) - before;
  } finally {
    for (const client of clients) client.close();
    await node.stop();
  }
}

// Attack 4: only the needed parts of a session's head are kept.
test('a handshake with a query of 44 KB costs a node no more than a short one', async (t) => {
  const [connections, each] = [125, 8];
  const handshake = head('GET', `${POLLING}&x=${'x'.repeat(44_000)}`);
  const grown = await measureGrowth((node, clients) =>
    inLanes(8, range(1, connections), async () => {
      const client = await RawClient.open(node.port);
      clients.push(client);
      for (let begun = 1; begun <= each; begun += 1) {
        client.write(handshake);
        await eventually(() => client.received.match(/"sid"/g)?.length === begun, () => client.received.slice(-200));
      }
    }),
  );
  t.diagnostic(`${Math.round(grown / 1024 / connections / each)} KiB a session`);
  assert.ok(grown < connections * each * 30_000, `${grown} bytes for ${connections * each} sessions`);
});

/** A session that begins by polling, and asks for its upgrade with a cookie; the socket that it becomes. */
async function upgradeWithCookie(node, cookie) {
  const sid = await beginPolling(node.url);
  const url = `${node.url}${POLLING}&sid=${sid}`;
  await fetch(url, { method: 'POST', body: connectPacket(freshNumber()) });
  const polled = async () => (await fetch(url)).text();
  let told;
  await eventually(async () => (told = await polled()).includes('connection_confirmed'), () => told);
  const client = await RawClient.open(node.port);
  const [websocket, key] = [POLLING.replace('polling', 'websocket'), 'dGhlIHNhbXBsZSBub25jZQ=='];
  const upgrade = { upgrade: 'websocket', connection: 'upgrade', 'sec-websocket-version': 13, 'sec-websocket-key': key };
  client.write(head('GET', `${websocket}&sid=${sid}`, { ...upgrade, cookie }));
  await client.sees('101 Switching Protocols');
  const lastPoll = polled();
  client.write(frame('2probe'));
  await client.sees('3probe');
  await lastPoll;
  client.write(frame('5'));
  return client;
}

test('an upgrade with a cookie of 44 KB costs a node no more than one without', async (t) => {
  const count = 200;
  const cookie = 'x'.repeat(44_000);
  const grown = await measureGrowth((node, clients) =>
    inLanes(4, range(1, count), async () => clients.push(await upgradeWithCookie(node, cookie))),
  );
  t.diagnostic(`${Math.round(grown / 1024 / count)} KiB a socket`);
  assert.ok(grown < count * 50_000, `${grown} bytes for ${count} sockets`);
});

// Attack 2: answers that the library queues and the node does not count.
test('a websocket that sends pings and reads no answer is held back and closed', { timeout: 180_000 }, async (t) => {
  const pings = Buffer.concat(range(1, 500).map(() => frame('x'.repeat(125), { opcode: 9 })));
  let sent = 0;
  const grown = await measureGrowth(async (node) => {
    const client = await (await RawClient.open(node.port)).upgrade();
    client.write(frame(connectPacket(freshNumber())));
    await client.sees('connection_confirmed');
    client.socket.pause();
    let most = 0;
    // Sends as fast as the node reads. A node that reads no more closes the connection after ten seconds.
    while (!client.socket.destroyed && sent < 200_000_000) {
      sent += pings.length;
      most = Math.max(most, residentBytesOf(node));
      const hasRoom = client.socket.write(pings);
      if (!hasRoom) await new Promise((resolve) => ['drain', 'close'].forEach((event) => client.socket.once(event, resolve)));
    }
    client.close();
    return most;
  });
  t.diagnostic(`${Math.round(sent / 2 ** 20)} MiB of pings, ${Math.round(grown / 2 ** 20)} MiB more memory`);
  assert.ok(grown < 24 * 2 ** 20, `${grown} bytes more`);
});

// Attack 5: calls with invalid tokens.
test('no call takes a token that does not hold for one, so that it could ask without limit', async () => {
  const document = await (await fetch(`${slotcast.url}/api/openapi.json`)).json();
  const values = { idSpazio: 1, sedeId: 1, id: 1, date: freshSpace().date };
  let asked = 0;
  for (const [path, methods] of Object.entries(document.paths)) {
    // The probes and this document do not ask the store.
    if (!path.startsWith('/api/') || path === '/api/openapi.json') continue;
    for (const method of Object.keys(methods)) {
      const filled = path.replace(/\{(\w+)\}/g, (_, name) => values[name]);
      const answer = await slotcast.caller().call(method.toUpperCase(), filled, undefined, { authorization: 'Bearer x.y.z' });
      assert.equal(answer.status, 401, `${method} ${filled}: ${answer.text}`);
      asked += 1;
    }
  }
  assert.ok(asked > 25, `${asked} calls`);
});

// Attack 5: many reads without a token.
test('reads without a token have a limit by address, which handshakes and callers with a token have not', async () => {
  const settings = { SLOTCAST_ANONYMOUS_RATE: '1', SLOTCAST_TRUSTED_PROXIES: '127.0.0.0/8' };
  const node = await startSlotcast({ settings });
  try {
    const space = freshSpace();
    const read = async (headers) => (await node.caller().get(space.boardPath(space.date), headers)).status;
    const from = (address) => ({ 'x-forwarded-for': `6.6.6.6, ${address}` });
    // Ten at once are allowed, and one more each second.
    const statuses = [];
    await inLanes(10, range(1, 100), async () => statuses.push(await read(from('203.0.113.7'))));
    const refused = statuses.filter((status) => status === 429).length;
    assert.deepEqual([...new Set(statuses)].sort(), [200, 429]);
    assert.ok(refused >= 50, `${refused} of 100 were refused`);
    assert.equal(await read(from('203.0.113.8')), 200, 'another address');
    assert.equal((await read({ forwarded: 'for=203.0.113.9', ...from('203.0.113.10') })), 200);
    const unlimited = async (ask) => {
      for (const _ of range(1, 30)) assert.equal(await ask(), 200);
    };
    await unlimited(async () => (await node.userCaller(7).get(space.boardPath(space.date), from('203.0.113.7'))).status);
    await unlimited(async () => (await fetch(`${node.url}${POLLING}`, { headers: from('203.0.113.7') })).status);
    await unlimited(async () => (await fetch(`${node.url}/readyz`, { headers: from('203.0.113.7') })).status);
    const answer = await node.caller().get(space.boardPath(space.date), from('203.0.113.8'));
    assert.equal(answer.status, 200);
  } finally {
    await node.stop();
  }
});
