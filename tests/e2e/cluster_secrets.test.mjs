// A secret changes while stock clients are connected: the new one is rolled in as JWT_SECRET_PREVIOUS, the two are exchanged,
// the old one is removed. No connect is refused, and polling goes on through nodes that sign with different secrets.
//
// SLOTCAST_SECRET_CLIENTS says how many clients (40).

import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { io } from 'socket.io-client';

import { startBalancer } from './lib/balancer.mjs';
import { startCluster } from './lib/cluster.mjs';
import { freshSpace, range } from './lib/fixtures.mjs';
import { settled } from './lib/http.mjs';
import { temporaryFolder } from './lib/slotcast.mjs';
import { secondsNow, signToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const CLIENTS = Number(process.env.SLOTCAST_SECRET_CLIENTS ?? 40);
const PATIENCE_MS = 60_000 + CLIENTS * 50;

const OLD = 'the secret that all nodes begin with in this test';
const NEW = 'another secret, which takes the place of the old';

/** How many questions a polling client asks while nodes of two secrets serve. */
const ASKED = 12;

const token = (user, secret) => signToken({ id_utente: user, exp: secondsNow() + 3_600 }, { secret });

// The first secret is in a file, as Docker and Kubernetes give it.
const file = join(temporaryFolder(), 'jwt_secret');
writeFileSync(file, `${OLD}\n`);
chmodSync(file, 0o400);

const settings = { SLOTCAST_DRAIN_GRACE: '1', SLOTCAST_DRAIN_TIME: '8', SLOTCAST_USER_RATE: '0' };
const cluster = await startCluster({ nodes: 2, settings: { ...settings, JWT_SECRET: undefined, JWT_SECRET_FILE: file } });
const balancer = await startBalancer(() => cluster.nodes);
const space = freshSpace();
const sockets = [];
const refusals = [];
after(async () => {
  for (const socket of sockets) socket.close();
  await balancer.close();
  await cluster.stop();
});

/** The secret with which the backend signs the token of a user's next connect. */
let secretOf = () => OLD;

function connect(user, transports) {
  const auth = (give) => give({ token: token(user, secretOf(user)) });
  const socket = io(balancer.url, { auth, transports, forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 500 });
  socket.on('connect_error', ({ message }) => {
    // A stock client does not come back after a refusal. It does after a node has left.
    if (!socket.active) refusals.push(`${user}: ${message}`);
  });
  sockets.push(socket);
  return socket;
}

const areAllConnected = () => eventually(() => sockets.every((socket) => socket.connected), 'all clients connected', PATIENCE_MS);

/** Replaces the nodes one by one with nodes of these secrets. In between, polling clients have sessions on both kinds. */
async function rollOut(secrets) {
  cluster.settings = { ...settings, ...secrets };
  for (const old of [...cluster.nodes]) {
    await cluster.stopNode(old);
    await cluster.addNode({}, old.port);
    await balancer.askAll();
    await areAllConnected();
    await assertPollingGoesOn();
  }
}

let asked = 0;

/** Polling sessions ask both nodes in turn, and each node sends on what belongs to the other. */
async function assertPollingGoesOn() {
  const pollers = range(1, 2).map((turn) => connect((asked += 1) * 10_000 + turn, ['polling']));
  await areAllConnected();
  for (const poller of pollers) {
    const ended = [];
    poller.on('disconnect', (reason) => ended.push(reason));
    for (const _ of range(1, ASKED)) {
      // Asked again if a busy machine did not ask Redis in time.
      const answer = await eventually(async () => {
        const told = await poller.timeout(PATIENCE_MS).emitWithAck('join_space', { spazioId: space.number, sedeId: space.site });
        return told.error?.code !== 'unavailable' && told;
      }, 'a room');
      assert.ok(answer.ok, JSON.stringify(answer));
    }
    assert.deepEqual(ended, [], 'its session went on');
    sockets.splice(sockets.indexOf(poller), 1);
    poller.close();
  }
}

/** Asks each node a question that needs a token. */
async function statuses(secret) {
  const headers = { authorization: `Bearer ${token(1, secret)}` };
  const ask = ({ url }) => settled(() => fetch(`${url}/api/holds`, { headers }), `the holds by ${url}`);
  return Promise.all(cluster.nodes.map(async (node) => (await ask(node)).status));
}

test(`a secret changes under ${CLIENTS} stock clients, none of which is refused`, { timeout: 600_000 }, async () => {
  for (const user of range(1, CLIENTS)) connect(user, [['websocket'], ['polling', 'websocket'], ['polling']][user % 3]);
  await areAllConnected();
  assert.deepEqual(await statuses(OLD), [200, 200]);
  assert.deepEqual(await statuses(NEW), [401, 401]);

  await rollOut({ JWT_SECRET: OLD, JWT_SECRET_PREVIOUS: NEW });
  assert.deepEqual([await statuses(OLD), await statuses(NEW)].flat(), [200, 200, 200, 200]);

  // From here on the backend may sign with either secret: half of the users get a token of the new one.
  secretOf = (user) => (user % 2 === 0 ? NEW : OLD);
  await rollOut({ JWT_SECRET: NEW, JWT_SECRET_PREVIOUS: OLD });
  assert.deepEqual([await statuses(OLD), await statuses(NEW)].flat(), [200, 200, 200, 200]);

  secretOf = () => NEW;
  await rollOut({ JWT_SECRET: NEW });
  assert.deepEqual(await statuses(OLD), [401, 401]);
  assert.deepEqual(await statuses(NEW), [200, 200]);
  assert.deepEqual(refusals, []);
});
