// The upgrade from polling to a websocket, step by step. A client library would hide the steps.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';

import { WebSocket } from 'ws';

import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { DEADLINE_MS, sleep, within } from './lib/waiting.mjs';

const slotcast = await startSlotcast({ settings: { SLOTCAST_USER_RATE: '0' } });
after(() => slotcast.stop());

const SEPARATOR = '\x1e';

/** A client that polls, and upgrades when it is told to. */
class Upgrader {
  static async connect() {
    const client = new Upgrader();
    client.path = `${slotcast.url}/socket.io/?EIO=4&transport=polling`;
    const { sid } = JSON.parse((await (await fetch(client.path)).text()).slice(1));
    client.path += `&sid=${sid}`;
    client.websocketPath = client.path.replace('http', 'ws').replace('polling', 'websocket');
    client.packets = [];
    await client.post([`40${JSON.stringify({ token: userToken(7) })}`]);
    while (!client.names().includes('connection_confirmed')) await client.poll();
    return client;
  }

  async post(packets) {
    const { status } = await fetch(this.path, { method: 'POST', body: packets.join(SEPARATOR) });
    assert.equal(status, 200);
  }

  /** Polls once, and gives how many bytes came. */
  async poll() {
    const answer = await fetch(this.path);
    assert.equal(answer.status, 200);
    const text = await answer.text();
    this.packets.push(...text.split(SEPARATOR));
    return text.length;
  }

  /** Polls until an event that matches has come. */
  async pollUntil(matches) {
    const deadline = Date.now() + DEADLINE_MS;
    while (!this.events().some(matches)) {
      assert.ok(Date.now() < deadline, `only ${this.names()} came`);
      await this.poll();
    }
  }

  /** Opens the websocket, and probes it. */
  async probe() {
    this.websocket = new WebSocket(this.websocketPath);
    await once(this.websocket, 'open');
    this.websocket.send('2probe');
    const [answer] = await once(this.websocket, 'message');
    assert.equal(String(answer), '3probe');
  }

  /** Upgrades to the websocket, and waits there until an event that matches has come. */
  async upgrade(matches) {
    const found = new Promise((resolve, reject) => {
      this.websocket.on('message', (packet) => {
        this.packets.push(String(packet));
        if (this.events().some(matches)) resolve();
      });
      this.websocket.on('close', () => reject(new Error('closed')));
    });
    this.websocket.send('5');
    await within(found, 'the event over the websocket');
    this.websocket.close();
  }

  events() {
    return this.packets.filter((packet) => packet.startsWith('42')).map((packet) => JSON.parse(packet.slice(2)));
  }

  names() {
    return this.events().map(([name]) => name);
  }
}

const event = (name, payload) => `42${JSON.stringify([name, payload])}`;

test('a client that sends much while it is upgraded is upgraded, and gets all answers', async () => {
  const client = await Upgrader.connect();
  await client.probe();
  // There are more joins than may wait, and their answers are longer than a websocket may leave unread.
  const spaces = range(1, 200).map(() => freshNumber());
  await client.post(spaces.map((spazioId) => event('join_space', { spazioId, sedeId: 1 })));
  await client.upgrade(([, { spazioId }]) => spazioId === spaces.at(-1));
  const joined = client.events().filter(([name]) => name === 'joined_space');
  assert.deepEqual(joined.map(([, { spazioId }]) => spazioId), spaces);
});

test('a client with more to read than one poll brings loses none of it to its upgrade', async () => {
  const space = freshSpace();
  const staff = slotcast.staffCaller();
  const client = await Upgrader.connect();
  const witness = await slotcast.user(8);
  await witness.join(space);
  await client.post([event('join_space', { spazioId: space.number, sedeId: space.site })]);
  await client.pollUntil(([name]) => name === 'joined_space');
  // Each event is a quarter of what one poll brings.
  const change = async () => {
    const answer = await staff.put('/api/slots/1', space.body({ status: 'blocked', data: { text: 'x'.repeat(16_000) } }));
    assert.equal(answer.status, 200, answer.text);
    return answer.data.version;
  };
  const versions = [];
  for (const _ of range(1, 10)) versions.push(await change());
  const heard = ([name, { version }]) => name === 'slot_update' && version === versions.at(-1);
  // The client joined last. So when another client has heard the last event, all events wait for this client.
  await witness.first('slot_update', ({ version }) => version === versions.at(-1));
  while ((await client.poll()) < 40_000);
  const probing = client.probe();
  // If the upgrade had begun already, these polls would bring nothing.
  await Promise.race([probing, sleep(500)]);
  await client.pollUntil(heard);
  await probing;
  versions.push(await change());
  await client.upgrade(heard);
  const updates = client.events().filter(([name]) => name === 'slot_update');
  assert.deepEqual(updates.map(([, { version }]) => version), versions, 'each once, in order');
});
