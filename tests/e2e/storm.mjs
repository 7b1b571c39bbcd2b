// The join storm: stock clients in processes of their own connect at once, and each emits `join_space` the moment it is
// connected. As many `joined_space` must come, and then every client must hear its room.
//
// SLOTCAST_STORM_CLIENTS says how many (1,000); `ulimit -n` must be above twice that.

import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { day, range } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually, within } from './lib/waiting.mjs';

const CLIENTS = Number(process.env.SLOTCAST_STORM_CLIENTS ?? 1_000);
const CLIENTS_A_PROCESS = 2_500;
const SPACES = 20;
const PATIENCE_MS = 120_000 + CLIENTS * 20;

/** A process that runs clients. It is driven by messages with answers. */
class Herd {
  constructor(url, first, count) {
    this.process = fork(fileURLToPath(new URL('./lib/storm_clients.mjs', import.meta.url)), [
      url,
      String(first),
      String(count),
      String(SPACES),
    ]);
  }

  /** Waits for a message of a kind. */
  answer(kind) {
    const answered = new Promise((resolve, reject) => {
      this.process.on('message', (message) => message.kind === kind && resolve(message));
      this.process.once('exit', (code) => reject(new Error(`a process of clients ended with ${code}`)));
    });
    return within(answered, `${kind} of all clients`, PATIENCE_MS);
  }

  async ask(question, kind) {
    const answer = this.answer(kind);
    this.process.send(question);
    return answer;
  }
}

test(`${CLIENTS} clients that join the moment they connect are all joined`, async () => {
  const slotcast = await startSlotcast();
  const processes = Math.max(2, Math.ceil(CLIENTS / CLIENTS_A_PROCESS));
  const share = Math.ceil(CLIENTS / processes);
  const herds = range(0, processes - 1).map(
    (index) => new Herd(slotcast.url, index * share, Math.min(share, CLIENTS - index * share)),
  );
  try {
    await Promise.all(herds.map((herd) => herd.answer('prepared')));
    const start = Date.now();
    const results = await Promise.all(herds.map((herd) => herd.ask('connect', 'joined')));
    const total = (name) => results.reduce((sum, result) => sum + result[name], 0);
    console.log(`${CLIENTS} clients joined in ${Date.now() - start} ms, ${total('retries')} connections tried again`);
    assert.deepEqual(results.flatMap((result) => result.troubles), []);
    assert.deepEqual({ connected: total('connected'), joined: total('joined') }, { connected: CLIENTS, joined: CLIENTS });
    const stats = async () => (await slotcast.staffCaller().get('/api/stats')).data;
    await eventually(async () => (await stats()).totalSockets === CLIENTS, 'as many sockets as clients');
    const { connectedUsers, roomCount } = await stats();
    assert.deepEqual({ connectedUsers, roomCount }, { connectedUsers: CLIENTS, roomCount: Math.min(SPACES, CLIENTS) });

    const heard = herds.map((herd) => herd.answer('heard'));
    for (const idSpazio of range(1, SPACES)) {
      const body = { idSpazio, sedeId: 1, date: day(7), status: 'blocked' };
      assert.equal((await slotcast.staffCaller().put('/api/slots/1', body)).status, 200);
    }
    const updates = (await Promise.all(heard)).reduce((sum, result) => sum + result.updates, 0);
    assert.equal(updates, CLIENTS, 'each heard its room once');
  } finally {
    for (const herd of herds) herd.process.kill('SIGKILL');
    await slotcast.stop();
  }
});
