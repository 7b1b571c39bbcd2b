// Messages that staff sends during a history: notifications to a few users, and broadcasts to everyone. Records who heard
// them.

import { Client } from '../lib/client.mjs';
import { callerOf } from '../lib/http.mjs';
import { staffToken, userToken } from '../lib/tokens.mjs';
import { eventually, sleep } from '../lib/waiting.mjs';

const RECONNECTING = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 500, timeout: 5_000 };

/** How long a call of staff may take, in ms. */
const PATIENCE_MS = 4_000;

/** The notified users, each with a home and a transport. */
const USERS = [
  { user: 7001, home: 0, transports: ['websocket'] },
  { user: 7002, home: 1, transports: ['websocket'] },
  { user: 7003, home: 2, transports: ['polling'] },
];

/** How often a client's connection breaks, in ms, where clients are restless. */
const BREAK_MS = 700;

export class Messages {
  /** With `breaks`, the second user's connection breaks repeatedly. */
  constructor(world, { pause = 200, breaks = false } = {}) {
    this.world = world;
    this.breaks = breaks;
    this.pause = pause;
    this.streams = [];
    this.last = 0;
  }

  async start() {
    for (const { user, home, transports } of USERS) {
      const client = new Client(this.world.door(home), { token: userToken(user), ...RECONNECTING, transports });
      const listener = { name: `user ${user} at ${home} (${transports})`, client };
      const isRestless = this.breaks && home === 1;
      if (isRestless) listener.breaking = setInterval(() => client.socket.connected && client.socket.io.engine.close(), BREAK_MS);
      this.streams.push({ what: `notifications to ${user}`, path: `/api/users/${user}/notify`, event: 'avviso', sent: [], listeners: [listener] });
    }
    const listeners = this.streams.flatMap((stream) => stream.listeners);
    await eventually(() => listeners.every(({ client }) => client.all('connection_confirmed').length > 0), 'clients of notifications');
    this.streams.push({ what: 'broadcasts', path: '/api/broadcast', event: 'annuncio', sent: [], listeners, isToAll: true });
    this.running = Promise.all(this.streams.map((stream) => this.#keepSending(stream)));
    return this;
  }

  /** Also counts the broadcasts that the viewers' clients hear. */
  listen(named) {
    this.streams.at(-1).listeners = [...this.streams.at(-1).listeners, ...named];
  }

  /** Sends one message after the other, so that the order of the answers is the order of sending. */
  async #keepSending(stream) {
    while (!this.stopped) {
      await this.#send(stream);
      await sleep(this.pause * this.world.dice.between(0.5, 1.5));
    }
  }

  async #send({ path, event, sent }) {
    const { nodes } = this.world;
    if (nodes.length === 0) return;
    this.last += 1;
    const one = { n: this.last, sentAt: Date.now() };
    sent.push(one);
    const staff = callerOf(this.world.dice.pick(nodes).url, staffToken(), PATIENCE_MS);
    const answer = await staff.post(path, { event, data: { n: one.n } }).catch(() => undefined);
    Object.assign(one, { ok: answer?.status === 200, status: answer?.status, receivedAt: Date.now() });
  }

  /** Ends the sending, and waits until everybody has heard everything, or until the deadline. */
  async stop(deadline) {
    this.stopped = true;
    await this.running;
    for (const { listeners } of this.streams) for (const { breaking } of listeners) clearInterval(breaking);
    const isHeard = ({ sent, listeners, event }) =>
      listeners.every(({ client }) => {
        const got = numbersOf(client, event);
        return sent.every(({ ok, n }) => !ok || got.has(n));
      });
    await eventually(() => this.streams.every(isHeard), 'all messages', deadline).catch(() => {});
  }

  /** The record in the form that `checks.mjs` reads. */
  record() {
    return this.streams.map(({ what, event, sent, listeners, isToAll = false }) => ({
      what,
      sent,
      isToAll,
      clients: listeners.map(({ name, client }) => ({
        name,
        stayed: client.disconnects.length === 0,
        got: client.all(event).map(({ n }) => n),
      })),
    }));
  }

  close() {
    this.stopped = true;
    for (const { listeners } of this.streams) {
      for (const { client, breaking } of listeners) {
        clearInterval(breaking);
        client.close();
      }
    }
  }
}

const numbersOf = (client, event) => new Set(client.all(event).map(({ n }) => n));
