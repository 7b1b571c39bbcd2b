// Webhooks of one node: what is sent, what failing receivers cost, and how the settings are.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { Webhook } from 'standardwebhooks';

import { readMetric } from './lib/cluster.mjs';
import { freshSpace } from './lib/fixtures.mjs';
import { freePort } from './lib/ports.mjs';
import { runCommand, startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { eventually } from './lib/waiting.mjs';
import { startReceiver, WEBHOOK_SECRET } from './lib/webhook_receiver.mjs';

const OTHER_SECRET = `whsec_${Buffer.from('another secret that is long enough').toString('base64')}`;

const ALL_TYPES = 'slot.held,slot.booked,slot.released,slot.cancelled,slot.extended,slot.expired,slot.updated,space.changed';

/** Does an act that must succeed, and gives the id of its entry. */
async function act(space, promise) {
  const { status, data, text } = await promise;
  assert.equal(status, 200, text);
  return `${data.epoch}-${space.site}-${space.number}-${data.version}`;
}

test('each kind of act is told once, as the journal has it', async () => {
  const receiver = await startReceiver();
  const node = await startSlotcast({ settings: { ...receiver.settings(ALL_TYPES), SLOT_CANCEL_UNTIL: '0' } });
  const [user, staff] = [node.userCaller(7), node.staffCaller()];
  const space = freshSpace();
  const body = (more) => space.body(more);
  const ids = [
    await act(space, user.post('/api/slots/hold', body({ slots: [1, 2] }))),
    await act(space, user.post('/api/slots/extend', body({ slots: [1, 2] }))),
    await act(space, user.post('/api/slots/1/book', body())),
    await act(space, user.post('/api/slots/2/release', body())),
    await act(space, user.post('/api/slots/1/release', body())),
    await act(space, staff.put('/api/slots/3', body({ status: 'blocked' }))),
    await act(space, user.post('/api/slots/4/hold', body({ holdSeconds: 1 }))),
  ];
  assert.equal((await staff.put(space.path, { name: 'Sala', opens: '09:00', closes: '18:00' })).status, 200);
  await receiver.hasAll(ids);
  await eventually(() => receiver.accepted.length === 9, () => `9 messages, and not ${receiver.accepted.length}`);
  const types = receiver.accepted.map(({ message }) => message.type).sort();
  assert.deepEqual(types, [...ALL_TYPES.split(','), 'slot.held'].sort());
  const { entries } = (await staff.get('/api/journal')).data;
  const told = receiver.accepted.map(({ message }) => message.data).sort((one, other) => one.version - other.version);
  assert.deepEqual(told, entries.sort((one, other) => one.version - other.version));
  receiver.check();
  const delivered = () => readMetric(node, 'slotcast_webhook_deliveries_total{endpoint="environment",outcome="delivered"}');
  // The node counts an answer a moment after the receiver sent it.
  await eventually(async () => (await delivered()) >= 9, 'nine deliveries');
  await eventually(async () => (await readMetric(node, 'slotcast_webhook_waiting{endpoint="environment"}')) === 0, 'nothing waits');
  assert.equal(await delivered(), 9);
  await node.stop();
  await receiver.close();
});

test('bookings alone are told where nobody says otherwise, of the sites that are named, signed by both secrets', async () => {
  const [receiver, other] = [await startReceiver(), await startReceiver({ secret: OTHER_SECRET })];
  const both = { SLOTCAST_WEBHOOK_SECRET: `${WEBHOOK_SECRET},${OTHER_SECRET}`, SLOTCAST_WEBHOOK_SITES: '1' };
  const node = await startSlotcast({ settings: { ...receiver.settings(), ...both, SLOTCAST_JOURNAL_DAYS: '0' } });
  const [here, elsewhere] = [freshSpace(), freshSpace({ site: 2 })];
  const user = node.userCaller(7);
  const ids = [];
  for (const space of [elsewhere, here]) {
    await act(space, user.post('/api/slots/1/hold', space.body()));
    ids.push(await act(space, user.post('/api/slots/1/book', space.body())));
  }
  await receiver.hasAll(ids.slice(1));
  assert.deepEqual(receiver.got.map(({ id }) => id), ids.slice(1));
  const [{ body, headers }] = receiver.got;
  assert.equal(new Webhook(OTHER_SECRET).verify(body, headers).type, 'slot.booked');
  assert.throws(() => new Webhook(OTHER_SECRET).verify(`${body} `, headers));
  assert.equal((await node.staffCaller().get('/api/journal')).status, 404, 'with no days, no journal is shown');
  await node.stop();
  await receiver.close();
  await other.close();
});

test('an endpoint that was away gets all of it when it is back, in order, and the node keeps little meanwhile', async () => {
  const port = await freePort();
  const away = await startReceiver({ port });
  await away.close();
  const node = await startSlotcast({ settings: away.settings('slot.updated') });
  const spaces = Array.from({ length: 40 }, () => freshSpace());
  const staff = node.staffCaller();
  const ids = [];
  for (let round = 1; round <= 3; round += 1) {
    for (const space of spaces) ids.push(await act(space, staff.put('/api/slots/1', space.body({ status: 'blocked' }))));
  }
  const unreachable = 'slotcast_webhook_deliveries_total{endpoint="environment",outcome="unreachable"}';
  await eventually(async () => (await readMetric(node, unreachable)) > 40, 'tries');
  await eventually(async () => (await readMetric(node, 'slotcast_webhook_waiting{endpoint="environment"}')) === 40, '40 spaces that wait');
  await eventually(async () => (await readMetric(node, 'slotcast_webhook_oldest_seconds{endpoint="environment"}')) > 0, 'an age');
  // The node that comes after it goes on where it was.
  await node.kill();
  const receiver = await startReceiver({ port });
  const next = await startSlotcast({ settings: receiver.settings('slot.updated'), dataDir: node.dataDir });
  await receiver.hasAll(ids, 120_000);
  receiver.check();
  await next.stop();
  await receiver.close();
});

/** A receiver that is no HTTP server, or a bad one: `serve` gets each connection once a request has begun. */
async function startBadReceiver(serve) {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => serve(socket));
  });
  const port = await freePort();
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${port}/`, close: () => server.close() };
}

const dribble = (socket) => {
  socket.write('HTTP/1.1 200 OK\r\n');
  const timer = setInterval(() => socket.write('x: y\r\n'), 300);
  socket.on('close', () => clearInterval(timer));
};

const hundredMegabytes = (status) => (socket) => {
  socket.write(`HTTP/1.1 ${status} X\r\ncontent-length: 104857600\r\n\r\n`);
  const chunk = Buffer.alloc(64 * 1024);
  let sent = 0;
  const send = () => {
    while (!socket.destroyed && sent < 104857600) {
      sent += chunk.length;
      if (!socket.write(chunk)) return void socket.once('drain', send);
    }
  };
  send();
};

test('receivers that hang, dribble, reset, redirect, talk without end or have no name are bounded, counted and tried again', async () => {
  const target = await startReceiver();
  const bad = {
    hangs: { serve: () => {}, outcome: 'timeout' },
    dribbles: { serve: dribble, outcome: 'timeout' },
    resets: { serve: (socket) => socket.resetAndDestroy(), outcome: 'unreachable' },
    nonsense: { serve: (socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n'), outcome: 'unreachable' },
    redirects: {
      serve: (socket) => socket.end(`HTTP/1.1 307 X\r\nlocation: ${target.url}\r\ncontent-length: 0\r\n\r\n`),
      outcome: 'refused',
    },
    refuses: { serve: hundredMegabytes(500), outcome: 'refused' },
    accepts: { serve: hundredMegabytes(200), outcome: 'delivered' },
    // If the machine's resolver does not answer, looking up the name takes longer than a try may take.
    nameless: { url: 'https://slotcast-receiver.invalid/', outcome: 'unreachable', orElse: 'timeout' },
    good: { url: target.url, outcome: 'delivered' },
  };
  const tables = [];
  for (const [name, one] of Object.entries(bad)) {
    one.receiver = one.serve && (await startBadReceiver(one.serve));
    const url = one.url ?? one.receiver.url;
    tables.push(`[[webhooks]]\nname = "${name}"\nurl = "${url}"\nsecret = "${WEBHOOK_SECRET}"\ntypes = ["slot.updated"]`);
  }
  const file = join(temporaryFolder(), 'webhooks.toml');
  writeFileSync(file, tables.join('\n\n'));
  const node = await startSlotcast({ settings: { SLOTCAST_CONFIG: file } });
  const space = freshSpace();
  const id = await act(space, node.staffCaller().put('/api/slots/1', space.body({ status: 'blocked' })));
  await target.hasAll([id]);
  for (const [name, { outcome, orElse = outcome }] of Object.entries(bad)) {
    const counted = (one) => readMetric(node, `slotcast_webhook_deliveries_total{endpoint="${name}",outcome="${one}"}`);
    await eventually(async () => (await counted(outcome)) >= 1 || (await counted(orElse)) >= 1, `${name}: ${outcome}`, 60_000);
  }
  assert.equal(target.got.length, 1, 'no redirect was followed');
  const later = freshSpace();
  await target.hasAll([await act(later, node.staffCaller().put('/api/slots/1', later.body({ status: 'blocked' })))]);
  assert.doesNotMatch(node.log(), /whsec_/);
  await node.stop();
  for (const { receiver } of Object.values(bad)) receiver?.close();
  await target.close();
});

test('a receiver that asks for a pause gets it', async () => {
  const times = [];
  const receiver = await startReceiver({
    answer: ({ response, before }) => {
      times.push(Date.now());
      if (before === 0) response.writeHead(429, { 'retry-after': '3' }).end();
      else response.writeHead(200).end();
    },
  });
  const node = await startSlotcast({ settings: receiver.settings('slot.updated') });
  const space = freshSpace();
  await receiver.hasAll([await act(space, node.staffCaller().put('/api/slots/1', space.body({ status: 'blocked' })))]);
  assert.ok(times[1] - times[0] >= 2_900, `${times[1] - times[0]} ms`);
  await node.stop();
  await receiver.close();
});

test('a wrong endpoint is a wrong configuration, and the command says which field', async () => {
  const settings = { SLOTCAST_WEBHOOK_URL: 'http://user:geheim@example.org/', SLOTCAST_WEBHOOK_SECRET: 'geheim', SLOTCAST_WEBHOOK_TYPES: 'slot.eaten' };
  const { code, stdout, stderr } = await runCommand(['check-config'], settings);
  assert.equal(code, 64, stderr);
  for (const name of Object.keys(settings)) assert.match(stdout + stderr, new RegExp(`${name} must be`));
  assert.doesNotMatch(stdout + stderr, /geheim/);
});
