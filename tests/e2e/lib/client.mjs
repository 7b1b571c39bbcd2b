// The stock `socket.io-client` with a memory: every event is kept in the order in which it came, so that a test can ask
// for what has come already and wait for what has not.

import assert from 'node:assert/strict';

import { io } from 'socket.io-client';

import { eventually, within } from './waiting.mjs';

/** The ways in which the stock client connects, by name. */
export const TRANSPORTS = {
  websocket: ['websocket'],
  polling: ['polling'],
  upgrade: ['polling', 'websocket'],
};

export class Client {
  /** Starts to connect at once. `options` are those of `socket.io-client`, besides `token`. */
  constructor(url, { token, ...options } = {}) {
    this.events = [];
    this.frames = [];
    this.disconnects = [];
    this.refusals = [];
    this.waiting = new Set();
    this.socket = io(url, {
      forceNew: true,
      reconnection: false,
      transports: TRANSPORTS.websocket,
      timeout: 60_000,
      ...(token === undefined ? {} : { auth: { token } }),
      ...options,
    });
    this.socket.onAny((name, payload, ...rest) => this.#note(this.events, { name, payload, rest }));
    this.socket.on('disconnect', (reason) => this.#note(this.disconnects, reason));
    this.socket.on('connect_error', (error) => this.#note(this.refusals, error.message));
    this.socket.io.on('open', () => {
      this.socket.io.engine.on('packet', ({ data }) => typeof data === 'string' && this.frames.push(data));
    });
  }

  #note(list, entry) {
    list.push(entry);
    for (const look of this.waiting) look();
  }

  /** The first truthy answer of `look`, which is called now and after each event. */
  async #until(look, what, deadline) {
    let again;
    const found = new Promise((resolve) => {
      again = () => {
        const answer = look();
        if (answer) resolve(answer);
      };
    });
    this.waiting.add(again);
    again();
    const seen = () => `${what} (got ${JSON.stringify(this.events.slice(-5))}, ${JSON.stringify(this.refusals)})`;
    try {
      return await within(found, seen, deadline);
    } finally {
      this.waiting.delete(again);
    }
  }

  /** Waits for the server's `connection_confirmed`, and gives its payload. */
  async connected() {
    return this.first('connection_confirmed');
  }

  /** Waits for the message of the `connect_error`. */
  async refused() {
    return this.#until(() => this.refusals[0], 'connect_error');
  }

  /** Waits for the reason of the disconnection. */
  async disconnected(deadline) {
    return this.#until(() => this.disconnects[0], 'disconnect', deadline);
  }

  /** The payloads of an event so far, in order. */
  all(name) {
    return this.events.filter((event) => event.name === name).map((event) => event.payload);
  }

  /** The first payload of an event that `matches`, now or later. */
  async first(name, matches = () => true, deadline = undefined) {
    const event = await this.#until(
      () => this.events.find((one) => one.name === name && matches(one.payload)),
      `event ${name}`,
      deadline,
    );
    return event.payload;
  }

  /** Waits until an event has come `count` times, and gives all of its payloads. */
  async many(name, count, deadline = undefined) {
    return this.#until(
      () => (this.all(name).length >= count ? this.all(name) : undefined),
      () => `${count} events ${name}, not ${this.all(name).length}`,
      deadline,
    );
  }

  /** Forgets the events so far. */
  forget() {
    this.events = [];
    this.frames = [];
  }

  /** Emits, and waits for nothing. */
  emit(event, ...payload) {
    this.socket.emit(event, ...payload);
  }

  /** Emits, and gives the acknowledgement. */
  async call(event, ...payload) {
    return within(
      new Promise((resolve) => {
        this.socket.emit(event, ...payload, resolve);
      }),
      `acknowledgement of ${event}`,
    );
  }

  /**
   * Emits until the acknowledgement is final, and returns it. `unavailable` is not final: a store answers it that cannot be
   * asked in time, or while a subscription is being made anew. Asking again is safe.
   */
  async callUntilSettled(event, ...payload) {
    return eventually(async () => {
      const answer = await this.call(event, ...payload);
      return answer.error?.code !== 'unavailable' && answer;
    }, `an answer of ${event}`);
  }

  /** Joins a space, and gives its `joined_space`. */
  async join(space, more = {}) {
    const before = this.all('joined_space').length;
    const { ok, error } = await this.callUntilSettled('join_space', { spazioId: space.number, sedeId: space.site, ...more });
    assert.equal(ok, true, JSON.stringify(error));
    return (await this.many('joined_space', before + 1)).at(before);
  }

  /** The transport in use now. */
  get transport() {
    return this.socket.io.engine.transport.name;
  }

  close() {
    this.socket.disconnect();
  }
}
