/** One space over one join: its days, its acts, and what keeps its state true. */

import type {
  DayDate,
  SpaceId,
  WireAnswer,
  WireBoard,
  WireDescription,
  WireJoined,
  WireSnapshot,
  WireUpdate,
} from './core/protocol.js';
import { daysToAsk, nextClock, reduce, resumePosition, type Event } from './core/reduce.js';
import { initialState, type Act, type DayState, type SpaceState } from './core/state.js';
import { Refusal } from './refusal.js';
import { Store } from './store.js';

/** The first and the longest wait before a question is asked again; each is shortened by up to half, at random. */
const RETRY_FIRST_MS = 500;
const RETRY_LONGEST_MS = 15_000;

/** How long an act is repeated before it counts as unanswered. */
const ACT_TIME_MS = 30_000;

/** How long a day is still followed after it was closed: a page that is drawn anew finds it. */
const LINGER_MS = 2_000;

/** How long changes are gathered before staff asks whose the slots are. */
const OWNERS_MS = 300;

const EVENTS: Readonly<Record<Act, string>> = {
  hold: 'hold_slot',
  book: 'book_slot',
  release: 'release_slot',
  extend: 'extend_hold',
};

/** What a space needs of its client. */
export interface Wire {
  now(): number;
  isOnline(): boolean;
  /** @throws {Refusal} */
  request(event: string, payload: object): Promise<Record<string, unknown>>;
  /** Resolves when the connection is there; rejects when the client is closed. */
  online(): Promise<void>;
  /** @throws {Refusal} */
  board(space: SpaceId, date: DayDate): Promise<WireBoard>;
  /** @throws {Refusal} */
  describe(space: SpaceId): Promise<WireDescription>;
  /** Whether the viewer is staff: only a board over HTTP tells staff whose the slots are. */
  asksForOwners(): boolean;
  keep(space: Space): void;
  forget(space: Space): void;
  schedule(): void;
}

/** What an act may be given besides its slots. */
export interface ActOptions {
  /** For `hold` and `extend`, in seconds. */
  readonly holdSeconds?: number;
  /** The token of the hold. Without it the known token is sent. */
  readonly holdToken?: string;
}

/** One space. Made by `client.space`. */
export class Space {
  readonly id: SpaceId;
  readonly #wire: Wire;
  readonly #store: Store<SpaceState>;
  readonly #watchers = new Map<DayDate, number>();
  #isAsking = false;
  #isDescribed = false;
  #lastAct = 0;
  #user = 0;
  readonly #lingering = new Map<DayDate, ReturnType<typeof setTimeout>>();
  #owners: ReturnType<typeof setTimeout> | undefined;

  /** For the client. */
  constructor(id: SpaceId, wire: Wire) {
    this.id = id;
    this.#wire = wire;
    this.#store = new Store(initialState(id, wire.now()));
  }

  /** What is known of the space: the same object until it changes. */
  get state(): SpaceState {
    return this.#store.get();
  }

  /** Calls the listener after each change, until the returned function is called. */
  readonly subscribe = (listener: () => void): (() => void) => this.#store.subscribe(listener);

  /** Begins to follow a day, until {@link Day.close}. */
  day(date: DayDate): Day {
    clearTimeout(this.#lingering.get(date));
    this.#wire.keep(this);
    this.#watchers.set(date, (this.#watchers.get(date) ?? 0) + 1);
    this.dispatch({ kind: 'watched', date });
    void this.#describe();
    void this.#show(date);
    void this.#follow();
    return new Day(this, date, () => this.#unwatch(date));
  }

  /**
   * Does an act on slots of a day, all or none. It repeats by itself after a lost answer, which is safe.
   *
   * @throws {Refusal}
   */
  async act(act: Act, date: DayDate, slots: readonly number[], options: ActOptions = {}): Promise<WireAnswer> {
    const id = ++this.#lastAct;
    const payload = { ...this.id, date, slots: [...slots], ...this.#tokenOf(act, date, slots), ...options };
    this.dispatch({ kind: 'asked', id, act, date, slots: [...slots], now: this.#wire.now() });
    try {
      const answer = await this.#repeat(act, payload);
      this.dispatch({ kind: 'answered', id, answer, now: this.#wire.now() });
      return answer;
    } catch (error) {
      this.dispatch({ kind: 'abandoned', id });
      throw error;
    }
  }

  /** For the client. */
  dispatch(event: Event): void {
    if (event.kind === 'user_changed') this.#user += 1;
    this.#store.set(reduce(this.#store.get(), event));
    this.#wire.schedule();
  }

  /** For the client: connected and confirmed. */
  connected(): void {
    this.dispatch({ kind: 'connected' });
    // The server has just told its time, and what was missed may be nothing.
    this.dispatch({ kind: 'clock', now: this.#wire.now() });
    void this.#describe();
    if (this.#wire.asksForOwners()) this.#showOwners();
    void this.#follow();
  }

  /** For the client: a `joined_space`. */
  joined(joined: WireJoined): void {
    this.dispatch({ kind: 'joined', joined });
  }

  /** For the client: a `slot_update`. */
  updated(update: WireUpdate): void {
    this.dispatch({ kind: 'update', update, now: this.#wire.now() });
    if (this.#watchers.has(update.data.date) && this.#wire.asksForOwners()) this.#showOwners();
    void this.#follow();
  }

  /** For the client: a `slots_status_update`. */
  shown(snapshot: WireSnapshot): void {
    this.dispatch({ kind: 'snapshot', snapshot, now: this.#wire.now() });
    if (this.#watchers.has(snapshot.date) && this.#wire.asksForOwners()) this.#showOwners();
    void this.#follow();
  }

  /** For the client: a `left_space`. One that was not asked for: the token no longer allows the space. */
  left(): void {
    if (this.state.isJoined) this.dispatch({ kind: 'left' });
  }

  /** For the client: the time has come that {@link nextClock} named. */
  tick(): void {
    this.dispatch({ kind: 'clock', now: this.#wire.now() });
    void this.#follow();
  }

  /** For the client: when the time is to be looked at; `null` when never. */
  nextClock(): number | null {
    return nextClock(this.state);
  }

  /** What the space is called. */
  async #describe(): Promise<void> {
    if (this.#isDescribed || this.#watchers.size === 0) return;
    const description = await this.#wire.describe(this.id).catch(() => null);
    if (!description) return;
    this.#isDescribed = true;
    this.dispatch({ kind: 'described', description });
  }

  /** A first picture, beside the socket. A board that the previous user asked for marks that user's slots, and is dropped. */
  async #show(date: DayDate): Promise<void> {
    const user = this.#user;
    const board = await this.#wire.board(this.id, date).catch(() => null);
    if (board && user === this.#user) this.dispatch({ kind: 'board', board });
  }

  #showOwners(): void {
    this.#owners ??= setTimeout(() => {
      this.#owners = undefined;
      for (const date of this.#watchers.keys()) void this.#show(date);
    }, OWNERS_MS);
  }

  /** A repeat names its hold by the token: it never touches another hold. */
  #tokenOf(act: Act, date: DayDate, slots: readonly number[]): ActOptions {
    if (act === 'hold') return {};
    const own = this.state.days.get(date)?.slots.filter(({ number }) => slots.includes(number)) ?? [];
    const [token, ...others] = new Set(own.map(({ holdToken }) => holdToken));
    const isOne = others.length === 0 && own.length === slots.length && typeof token === 'string';
    return isOne ? { holdToken: token } : {};
  }

  async #repeat(act: Act, payload: object): Promise<WireAnswer> {
    const ends = Date.now() + ACT_TIME_MS;
    const user = this.#user;
    let wasSent = false;
    for (let attempt = 0; ; attempt += 1) {
      try {
        await within(this.#wire.online(), ends);
        if (user !== this.#user) throw new Refusal('closed', 'Another user has signed in since');
        return (await this.#wire.request(EVENTS[act], payload)) as unknown as WireAnswer;
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        // A repeated release is told that nothing is held any more.
        const isDone = wasSent && act === 'release' && ['not_held', 'hold_expired'].includes(error.code);
        if (isDone && this.state.position) return this.state.position;
        wasSent ||= error.code === 'timeout' || error.code === 'unavailable';
        const pause = backoff(attempt);
        if (!error.isPassing || Date.now() + pause >= ends) throw error;
        await sleep(pause);
      }
    }
  }

  /** Joins, and asks for each day that is not in sync, one after the other. */
  async #follow(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      for (let attempt = 0; this.#isToAsk(); attempt += 1) {
        const known = this.state;
        const refusal = await this.#ask();
        if (refusal && !refusal.isPassing && refusal.code !== 'rate_limited') {
          this.dispatch({ kind: 'refused', code: refusal.code, message: refusal.message });
          return;
        }
        const hasProgress = daysToAsk(this.state).length < daysToAsk(known).length || known.isJoined !== this.state.isJoined;
        if (hasProgress) attempt = 0;
        else await sleep(backoff(attempt));
      }
    } finally {
      this.#isAsking = false;
    }
  }

  #isToAsk(): boolean {
    const { isJoined, refusal } = this.state;
    if (!this.#wire.isOnline() || refusal !== null || this.#watchers.size === 0) return false;
    return !isJoined || daysToAsk(this.state).length > 0;
  }

  async #ask(): Promise<Refusal | null> {
    const since = resumePosition(this.state) ?? undefined;
    const date = daysToAsk(this.state)[0] ?? [...this.#watchers.keys()].at(-1);
    const question = { ...this.id, date, ...(since && { since }) };
    try {
      await this.#wire.request(this.state.isJoined ? 'sync' : 'join_space', question);
      return null;
    } catch (error) {
      if (error instanceof Refusal) return error;
      throw error;
    }
  }

  #unwatch(date: DayDate): void {
    const count = (this.#watchers.get(date) ?? 1) - 1;
    if (count > 0) {
      this.#watchers.set(date, count);
      return;
    }
    this.#watchers.delete(date);
    this.#lingering.set(date, setTimeout(() => this.#drop(date), LINGER_MS));
  }

  #drop(date: DayDate): void {
    this.#lingering.delete(date);
    if (this.#watchers.has(date)) return;
    this.dispatch({ kind: 'unwatched', date });
    if (this.#watchers.size === 0 && this.#lingering.size === 0) this.#leave();
  }

  #leave(): void {
    clearTimeout(this.#owners);
    this.#owners = undefined;
    this.#wire.forget(this);
    const wasJoined = this.state.isJoined;
    this.dispatch({ kind: 'left' });
    if (wasJoined && this.#wire.isOnline()) this.#wire.request('leave_space', this.id).catch(() => undefined);
  }
}

/** One day of a space, for as long as it is looked at. */
export class Day {
  readonly space: Space;
  readonly date: DayDate;
  #end: (() => void) | undefined;

  /** For {@link Space.day}. */
  constructor(space: Space, date: DayDate, end: () => void) {
    this.space = space;
    this.date = date;
    this.#end = end;
  }

  /** What is known of the day: the same object until it changes; `undefined` after {@link close}. */
  get state(): DayState | undefined {
    return this.#end && this.space.state.days.get(this.date);
  }

  /** Calls the listener after each change of the space, until the returned function is called. */
  readonly subscribe = (listener: () => void): (() => void) => this.space.subscribe(listener);

  /** Takes slots until the answer's `heldUntil`: all or none. @throws {Refusal} */
  hold(slots: readonly number[], options?: ActOptions): Promise<WireAnswer> {
    return this.space.act('hold', this.date, slots, options);
  }

  /** Confirms own holds. @throws {Refusal} */
  book(slots: readonly number[], options?: ActOptions): Promise<WireAnswer> {
    return this.space.act('book', this.date, slots, options);
  }

  /** Lets own holds go, and own bookings where they can be cancelled. @throws {Refusal} */
  release(slots: readonly number[], options?: ActOptions): Promise<WireAnswer> {
    return this.space.act('release', this.date, slots, options);
  }

  /** Moves the end of own holds to now plus `holdSeconds`. @throws {Refusal} */
  extend(slots: readonly number[], options?: ActOptions): Promise<WireAnswer> {
    return this.space.act('extend', this.date, slots, options);
  }

  /** Ends the following; the second call does nothing. */
  close(): void {
    this.#end?.();
    this.#end = undefined;
  }
}

function backoff(attempt: number): number {
  return Math.min(RETRY_FIRST_MS * 2 ** attempt, RETRY_LONGEST_MS) * (0.5 + Math.random() / 2);
}

function sleep(millis: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, millis));
}

/** @throws {Refusal} `offline` when it does not resolve in time. */
async function within(promise: Promise<void>, ends: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Refusal('offline', 'No connection')), Math.max(0, ends - Date.now()));
  });
  try {
    await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
