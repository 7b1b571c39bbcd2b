/** One connection to a node, and the spaces that are followed over it. */

import { io, type Socket } from 'socket.io-client';

import { ServerClock } from './clock.js';
import type { DayDate, SpaceId, WireBoard, WireJoined, WireSnapshot, WireUpdate } from './core/protocol.js';
import { Calls } from './http.js';
import { Refusal } from './refusal.js';
import { Space, type Wire } from './space.js';
import { Store } from './store.js';

/** How long an answer may take before the call counts as unanswered. */
const ANSWER_MS = 10_000;

/** How long the host may take to give a token, in ms. After that the client asks again. */
const TOKEN_MS = 10_000;

/** The first and the longest wait before the client asks again for a token that did not come, in ms. */
const TOKEN_RETRY_FIRST_MS = 500;
const TOKEN_RETRY_LONGEST_MS = 15_000;

/** Why a token is asked for. */
export interface TokenReason {
  /** At the first connection, at a later one, before the present token ends, or after the server refused it. */
  readonly reason: 'connect' | 'reconnect' | 'expiring' | 'refused';
  /** When the present token ends, in ms since 1970 UTC; only if that is the reason. */
  readonly expiresAt?: number;
}

/** A token, or a function that gives one; nothing for a guest. */
export type TokenSource = string | null | undefined | ((why: TokenReason) => TokenAnswer | Promise<TokenAnswer>);

type TokenAnswer = string | null | undefined;

/** How to connect. */
export interface ConnectOptions {
  /** The address of the node. The default is the origin of the page. */
  readonly url?: string;
  readonly token?: TokenSource;
  /** How long an answer may take before the call is repeated, in ms: 10,000. */
  readonly answerTimeout?: number;
}

/** What is known of the connection. */
export interface ClientState {
  /** `refused`: the server does not take the token; `closed`: by `close`, or by the server, which ended it for good. */
  readonly link: 'connecting' | 'online' | 'offline' | 'refused' | 'closed';
  /** The reason for this state, in the server's or the socket's words. */
  readonly reason: string;
  /** `null` for a guest, `undefined` until the server has confirmed the connection. */
  readonly userId: string | null | undefined;
  /** When the token ends, in ms since 1970 UTC. */
  readonly expiresAt: number | null;
  /** Whether the token says that its user is staff. This decides only what is shown: the server checks the token. */
  readonly isStaff: boolean;
}

const INITIAL: ClientState = { link: 'connecting', reason: '', userId: undefined, expiresAt: null, isStaff: false };

const STAFF_ROLES: ReadonlySet<unknown> = new Set(['responsabile', 'gestore', 'amministratore', 'admin', 'servizio']);

/** Connects to a node. */
export function connect(options: ConnectOptions = {}): Client {
  return new Client(options);
}

/** A connection. Made by {@link connect}. */
export class Client {
  readonly #socket: Socket;
  readonly #clock = new ServerClock();
  readonly #store = new Store<ClientState>(INITIAL);
  readonly #spaces = new Map<string, Space>();
  readonly #wire: Wire;
  /** The calls over HTTP, with the token of the connection. */
  readonly calls: Calls;
  readonly #answerTimeout: number;
  #token: TokenSource;
  /** The token that the connection has, or is being made with. */
  #present: Promise<TokenAnswer> | undefined;
  #wasConnected = false;
  #wasRefused = false;
  /** Counts the attempts to get a token for a connection. Only the last attempt goes on. */
  #asking = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unconfirmed: ReturnType<typeof setTimeout> | undefined;

  /** For {@link connect}. */
  constructor({ url, token, answerTimeout = ANSWER_MS }: ConnectOptions) {
    this.#token = token;
    this.#answerTimeout = answerTimeout;
    const options = {
      auth: (take: (auth: object) => void) => void this.#answerAuth(take),
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      forceNew: true,
    };
    this.calls = new Calls(url ?? '', () => (this.#present ?? this.#askToken({ reason: 'connect' })).catch(() => undefined));
    this.#socket = url === undefined ? io(options) : io(url, options);
    this.#wire = {
      now: () => this.now(),
      isOnline: () => this.state.link === 'online',
      request: (event, payload) => this.request(event, payload),
      online: () => this.#online(),
      board: (space, date) => this.#board(space, date),
      describe: (space) => this.calls.describe(space),
      asksForOwners: () => this.state.isStaff,
      keep: (space) => this.#keep(space),
      forget: (space) => this.#spaces.delete(keyOf(space.id)),
      schedule: () => this.#schedule(),
    };
    this.#listen();
  }

  /** What is known of the connection: the same object until it changes. */
  get state(): ClientState {
    return this.#store.get();
  }

  /** Calls the listener after each change, until the returned function is called. */
  readonly subscribe = (listener: () => void): (() => void) => this.#store.subscribe(listener);

  /** The server's time now, in ms since 1970 UTC. */
  now(): number {
    return this.#clock.now();
  }

  /** A space: the same object for as long as it is followed. */
  space({ sedeId, spazioId }: SpaceId): Space {
    const id = { sedeId: Number(sedeId), spazioId: Number(spazioId) };
    const key = keyOf(id);
    return this.#spaces.get(key) ?? this.#keep(new Space(id, this.#wire));
  }

  /** Goes on with another token: on the same connection if the user is the same, else on a new one. */
  async setToken(token: TokenSource): Promise<void> {
    this.#token = token;
    const value = await this.#askToken({ reason: 'reconnect' }).catch(() => undefined);
    if (value && this.state.link === 'online' && (await this.#refresh(value))) return;
    this.#wasRefused = false;
    this.#socket.disconnect();
    this.#change({ link: 'connecting', reason: '' });
    this.#socket.connect();
  }

  /**
   * Sends an event, and gives the fields of its answer.
   *
   * @throws {Refusal}
   */
  async request(event: string, payload: object): Promise<Record<string, unknown>> {
    if (!this.#socket.connected) throw new Refusal('offline', 'Not connected');
    const answer = await this.#answerOf(event, payload);
    if (answer.ok === true) return answer;
    const error = Object(answer.error) as { code?: string; message?: string; conflicts?: number[] };
    throw new Refusal(error.code ?? 'malformed', error.message ?? 'Unreadable answer', error.conflicts);
  }

  /** Calls a listener for an event of the server, until the returned function is called. */
  on(event: string, listener: (payload: never) => void): () => void {
    this.#socket.on(event, listener as (payload: unknown) => void);
    return () => this.#socket.off(event, listener as (payload: unknown) => void);
  }

  /** Connects anew at once. Requests without an answer are sent again. */
  reconnect(): void {
    if (this.#socket.connected) this.#socket.disconnect();
    this.#socket.connect();
  }

  /** Ends the connection for good. */
  close(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#unconfirmed);
    this.#asking += 1;
    this.#spaces.clear();
    this.#change({ link: 'closed', reason: '' });
    this.#socket.removeAllListeners();
    this.#socket.disconnect();
  }

  #listen(): void {
    const on = <T>(event: string, take: (payload: T) => void) => this.#socket.on(event, take as (payload: unknown) => void);
    this.#socket.on('connect', () => this.#expectConfirmation());
    this.#socket.on('disconnect', (reason) => this.#disconnected(reason));
    this.#socket.on('connect_error', (error) => this.#connectFailed(error));
    on('connection_confirmed', (event: Confirmed) => this.#confirmed(event));
    on('token_expiring', ({ expiresAt }: { expiresAt: string }) => void this.#renew(Date.parse(expiresAt)));
    on('joined_space', (event: WireJoined) => this.#told(event, event)?.joined(event));
    on('left_space', (event: SpaceId & { timestamp: string }) => this.#told(event, event)?.left());
    on('slot_update', (event: WireUpdate) => this.#told(event, event.data)?.updated(event));
    on('slots_status_update', (event: WireSnapshot) => this.#told(event, event)?.shown(event));
  }

  /** A connection that the server does not confirm is of no use, so the client makes a new one. */
  #expectConfirmation(): void {
    clearTimeout(this.#unconfirmed);
    this.#unconfirmed = setTimeout(() => this.#socket.io.engine.close(), this.#answerTimeout);
  }

  /** Joins wait for this event, because only it tells which user the connection belongs to. */
  #confirmed(event: Confirmed): void {
    clearTimeout(this.#unconfirmed);
    this.#clock.forget();
    this.#clock.learn(event.timestamp);
    this.#wasConnected = true;
    this.#wasRefused = false;
    const userId = event.userId === null || event.userId === undefined ? null : String(event.userId);
    const isOther = this.state.userId !== undefined && this.state.userId !== userId;
    const expiresAt = event.expiresAt ? Date.parse(event.expiresAt) : null;
    this.#change({ link: 'online', reason: '', userId, expiresAt });
    for (const space of this.#spaces.values()) {
      if (isOther) space.dispatch({ kind: 'user_changed' });
      space.connected();
    }
  }

  #disconnected(reason: string): void {
    clearTimeout(this.#unconfirmed);
    const now = this.now();
    const { expiresAt } = this.state;
    // The server ends a connection whose token has ended, and such a socket does not come back by itself.
    const hasExpired = reason === 'io server disconnect' && expiresAt !== null && expiresAt <= now;
    const mayReturn = this.#socket.active || (hasExpired && typeof this.#token === 'function');
    this.#change({ link: mayReturn ? 'offline' : hasExpired ? 'refused' : 'closed', reason });
    for (const space of this.#spaces.values()) space.dispatch({ kind: 'disconnected', now });
    if (mayReturn && !this.#socket.active) this.#socket.connect();
  }

  #connectFailed(error: Error): void {
    // The socket tries again by itself.
    if (this.#socket.active) {
      this.#change({ link: this.#wasConnected ? 'offline' : 'connecting', reason: error.message });
      return;
    }
    this.#change({ link: 'refused', reason: error.message });
    // A refused token is replaced once between two connections. Otherwise the client would ask a server that refuses every
    // token for ever.
    if (this.#wasRefused || typeof this.#token !== 'function') return;
    this.#wasRefused = true;
    this.#socket.connect();
  }

  async #renew(expiresAt: number): Promise<void> {
    this.#change({ expiresAt });
    const isWanted = () => this.state.link === 'online' && this.state.expiresAt === expiresAt;
    const token = await this.#tokenAtLast(() => ({ reason: 'expiring', expiresAt }), isWanted);
    if (token) await this.#refresh(token);
  }

  /** Replaces the token of the live connection; `false` where the server does not take it there. */
  async #refresh(token: string): Promise<boolean> {
    try {
      const { expiresAt } = await this.request('refresh_token', { token });
      this.#present = Promise.resolve(token);
      this.#change({ isStaff: isStaff(token), ...(typeof expiresAt === 'string' && { expiresAt: Date.parse(expiresAt) }) });
      return true;
    } catch (error) {
      if (error instanceof Refusal) return false;
      throw error;
    }
  }

  async #answerAuth(take: (auth: object) => void): Promise<void> {
    const asking = ++this.#asking;
    const isWanted = () => this.#asking === asking;
    const reason = () => (this.#wasRefused ? 'refused' : this.#wasConnected ? 'reconnect' : 'connect');
    const token = await this.#tokenAtLast(() => ({ reason: reason() }), isWanted);
    if (!isWanted()) return;
    this.#change({ isStaff: isStaff(token) });
    take(token ? { token } : {});
  }

  /**
   * Asks until the host gives a token, or says that there is none. A host that fails, or does not answer, has no network,
   * say: that is no reason to go on as a guest.
   */
  async #tokenAtLast(why: () => TokenReason, isWanted: () => boolean): Promise<TokenAnswer> {
    for (let attempt = 0; isWanted(); attempt += 1) {
      try {
        // The request for the first board may have asked for the token already.
        const isFirst = attempt === 0 && why().reason === 'connect';
        return await ((isFirst && this.#present) || this.#askToken(why()));
      } catch (error) {
        if (why().reason !== 'expiring') this.#change({ reason: error instanceof Error ? error.message : String(error) });
        await sleep(Math.min(TOKEN_RETRY_FIRST_MS * 2 ** attempt, TOKEN_RETRY_LONGEST_MS));
      }
    }
    return undefined;
  }

  /** Rejects if the host rejects, or if it does not answer in time. */
  #askToken(why: TokenReason): Promise<TokenAnswer> {
    const answer = this.#tokenFrom(why);
    if (why.reason === 'expiring') return answer;
    this.#present = answer;
    // What failed is not asked of again.
    answer.catch(() => {
      if (this.#present === answer) this.#present = undefined;
    });
    return answer;
  }

  async #tokenFrom(why: TokenReason): Promise<TokenAnswer> {
    if (typeof this.#token !== 'function') return this.#token;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('The token function does not answer')), TOKEN_MS);
    });
    try {
      return await Promise.race([this.#token(why), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #answerOf(event: string, payload: object): Promise<Record<string, unknown>> {
    try {
      return Object(await this.#socket.timeout(this.#answerTimeout).emitWithAck(event, payload)) as Record<string, unknown>;
    } catch {
      throw new Refusal('timeout', 'No answer');
    }
  }

  #keep(space: Space): Space {
    const key = keyOf(space.id);
    if (this.#spaces.get(key) === space) return space;
    this.#spaces.set(key, space);
    if (this.state.link === 'online') space.connected();
    return space;
  }

  /** A guest who may not connect learns the server's time from this answer. */
  async #board(space: SpaceId, date: DayDate): Promise<WireBoard> {
    const board = await this.calls.board(space, date);
    this.#clock.learn(board.timestamp);
    return board;
  }

  #told(event: { timestamp?: string }, names: SpaceId): Space | undefined {
    this.#clock.learn(event.timestamp);
    return this.#spaces.get(keyOf(names));
  }

  #online(): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const { link, reason } = this.state;
        if (link === 'connecting' || link === 'offline') return false;
        if (link === 'online') resolve();
        else reject(new Refusal(link === 'refused' ? 'unauthorized' : 'closed', reason || 'Not connected'));
        return true;
      };
      if (look()) return;
      const end = this.#store.subscribe(() => {
        if (look()) end();
      });
    });
  }

  /** Sets a timer for the next instant at which the time alone changes something. */
  #schedule(): void {
    clearTimeout(this.#timer);
    const instants = [...this.#spaces.values()].map((space) => space.nextClock()).filter((next) => next !== null);
    if (instants.length === 0) return;
    // Long waits are cut: a device that slept, or a clock that was corrected, is noticed.
    const wait = Math.min(Math.max(0, Math.min(...instants) - this.now()) + 1, 30_000);
    this.#timer = setTimeout(() => {
      for (const space of this.#spaces.values()) space.tick();
      this.#schedule();
    }, wait);
  }

  #change(changes: Partial<ClientState>): void {
    const before = this.#store.get();
    const names = Object.keys(changes) as (keyof ClientState)[];
    if (names.some((name) => before[name] !== changes[name])) this.#store.set({ ...before, ...changes });
  }
}

interface Confirmed {
  readonly userId: number | string | null;
  readonly timestamp: string;
  readonly expiresAt: string | null;
}

function sleep(millis: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, millis));
}

/** The claims of the token about its user. */
function isStaff(token: TokenAnswer): boolean {
  try {
    const payload = (token ?? '').split('.')[1]?.replaceAll('-', '+').replaceAll('_', '/') ?? '';
    return STAFF_ROLES.has((JSON.parse(atob(payload)) as { ruolo?: unknown }).ruolo);
  } catch {
    return false;
  }
}

function keyOf({ sedeId, spazioId }: SpaceId): string {
  return `${sedeId}/${spazioId}`;
}
