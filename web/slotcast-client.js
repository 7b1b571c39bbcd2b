/**
 * The browser client of slotcast: it keeps the board of a space true over a stock socket.io-client socket.
 *
 *     import { io } from "socket.io-client";
 *     import { SlotcastClient } from "./slotcast-client.js";
 *
 *     const client = new SlotcastClient(io({ auth: { token } }), { renewToken: () => fetchNewToken() });
 *     const board = client.open({ sedeId: 1, spazioId: 2, date: "2027-03-01" });
 *     board.addEventListener("change", () => draw(board.slots));
 *     await board.hold([3, 4]);
 *
 * It does what every client of the protocol should do and none should write twice:
 *
 * - it joins with the last (epoch, version) that it has, after every reconnection, and so gets exactly what it missed;
 * - it applies an update only if it is the next version, drops what it has, and asks for what is missing;
 * - it applies an update to its own day only (a room carries the updates of all days);
 * - it counts holds down by the server's clock, not by this device's;
 * - it renews the token of the live connection when the server says that it is about to end.
 *
 * The file has no dependency: it is given a socket. Copy it. Licence: Apache-2.0.
 */

/** How long an answer may take before the call counts as unanswered. Repeating an act is safe. */
const ANSWER_TIMEOUT_MS = 10_000;

/** The first and the longest wait before a failed join is tried again; each is shortened by up to half, at random. */
const RETRY_FIRST_MS = 1_000;
const RETRY_LONGEST_MS = 30_000;

/** Refusals that say nothing about the request itself. */
const PASSING_REFUSALS = new Set(['timeout', 'rate_limited', 'unavailable', 'draining']);

/** The server's texts: a `slot_update` carries a status only. */
export const TITLES = Object.freeze({
  available: 'Slot disponibile',
  occupied: 'Slot occupato',
  booked: 'Slot prenotato',
  blocked: 'Slot chiuso',
  past: 'Orario passato',
});

/** The keys of the protocol in an entry or an update; every other key is staff's own data. */
const PROTOCOL_KEYS = new Set(
  (
    'id id_slot spazioId sedeId date orario status title held_until expires_at ' + 'mine id_utente minutes_remaining'
  ).split(' '),
);

/**
 * A no from the server, or from here when there was no answer.
 *
 * `code` is a code of the contract, or `offline` (not sent) or `timeout` (sent, outcome unknown; repeating is safe).
 * `conflicts` lists the slots that stood in the way.
 */
export class Refusal extends Error {
  constructor(code, message, conflicts = []) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
    this.conflicts = conflicts;
  }
}

/**
 * One connection. Events:
 *
 * - `state`: {@link state} changed;
 * - `tokenexpiring`: `detail.expiresAt`, when `renewToken` gave no new token;
 * - `refused`: `detail` is a {@link Refusal} that belongs to no call.
 */
export class SlotcastClient extends EventTarget {
  #socket;
  #renewToken;
  #fetchBoard;
  #boards = new Map();
  #listeners = [];
  #state = 'connecting';
  #reason = '';
  #clockSkewMs = null;
  #renewedSinceConnect = false;
  #userId;

  /**
   * @param socket a socket.io-client `Socket`, connected or not. Its `auth` should be an object, so that the token of
   *   later connections can be replaced.
   * @param {object} [options]
   * @param {(why: {expiresAt?: string}) => Promise<string|undefined>} [options.renewToken] gives a new token, called
   *   when the present one is about to end or is refused.
   * @param {(space: {sedeId, spazioId, date}) => Promise<object>} [options.fetchBoard] gives the `data` of
   *   `GET /api/slots/{idSpazio}/{date}` as this user: broadcasts never say whose a slot is, that call does.
   */
  constructor(socket, { renewToken, fetchBoard } = {}) {
    super();
    this.#socket = socket;
    this.#renewToken = renewToken;
    this.#fetchBoard = fetchBoard;
    this.#listen('connect', () => this.#connected());
    this.#listen('disconnect', (reason) => this.#disconnected(reason));
    this.#listen('connect_error', (error) => this.#connectFailed(error));
    this.#listen('connection_confirmed', (event) => this.#confirmed(event));
    this.#listen('slot_update', (event) => this.#deliver(event, event.data, (board) => board.applyUpdate(event)));
    this.#listen('slots_status_update', (event) => this.#deliver(event, event, (board) => board.applySnapshot(event)));
    this.#listen('joined_space', (event) => this.#deliver(event, event, (board) => board.applyJoined(event)));
    this.#listen('left_space', (event) => this.#deliver(event, event, (board) => board.applyLeft()));
    this.#listen('token_expiring', (event) => this.#renew(event));
    this.#listen('space_error', ({ code, message }) => this.#emit('refused', new Refusal(code, message)));
    if (socket.connected) this.#connected();
  }

  /**
   * `connecting`, `online`, `reconnecting` (the socket is trying by itself), `refused` (the token was refused) or
   * `closed` (the server ended the connection, or {@link close} was called); the last two need {@link useToken}.
   */
  get state() {
    return this.#state;
  }

  /** Why the state is what it is, in the socket's or the server's words; may be empty. */
  get reason() {
    return this.#reason;
  }

  /** The server's time now, in milliseconds since 1970 UTC; this device's until the first event. */
  now() {
    return Date.now() + (this.#clockSkewMs ?? 0);
  }

  /** Opens the board of a space on a day (`YYYY-MM-DD` in the space's zone); one board a space, see {@link Board.show}. */
  open({ sedeId, spazioId, date }) {
    const key = boardKey(sedeId, spazioId);
    const open = this.#boards.get(key);
    if (open) {
      open.show(date);
      return open;
    }
    const board = new Board({
      sedeId: Number(sedeId),
      spazioId: Number(spazioId),
      date,
      now: () => this.now(),
      isOnline: () => this.#socket.connected,
      request: (event, payload) => this.request(event, payload),
      fetchBoard: this.#fetchBoard,
      isMe: (user) => this.#userId !== undefined && String(user) === this.#userId,
      forget: () => this.#boards.delete(key),
    });
    this.#boards.set(key, board);
    if (this.#socket.connected) board.join();
    return board;
  }

  /**
   * Sends an event and gives the answer's fields.
   *
   * @throws {Refusal}
   */
  async request(event, payload) {
    if (!this.#socket.connected) throw new Refusal('offline', 'Connessione assente, riprovare');
    const answer = await this.#socket
      .timeout(ANSWER_TIMEOUT_MS)
      .emitWithAck(event, payload)
      .catch(() => {
        throw new Refusal('timeout', 'Nessuna risposta dal server, riprovare');
      });
    if (answer?.ok) return answer;
    const { code = 'malformed', message = 'Risposta non valida', conflicts } = answer?.error ?? {};
    throw new Refusal(code, message, conflicts);
  }

  /** Goes on with another token of the same user: on the live connection, or by connecting again. */
  async useToken(token) {
    const { auth } = this.#socket;
    if (typeof auth !== 'function') this.#socket.auth = { ...auth, token };
    if (this.#socket.connected) {
      await this.request('refresh_token', { token });
      return;
    }
    this.#setState('connecting', '');
    this.#socket.connect();
  }

  /** Disconnects, and takes the listeners off the socket. */
  close() {
    for (const board of [...this.#boards.values()]) board.close();
    for (const [event, listener] of this.#listeners) this.#socket.off(event, listener);
    this.#socket.disconnect();
    this.#setState('closed', '');
  }

  #listen(event, listener) {
    this.#listeners.push([event, listener]);
    this.#socket.on(event, listener);
  }

  #connected() {
    // A device that slept may have another clock now.
    this.#clockSkewMs = null;
    this.#renewedSinceConnect = false;
    this.#setState('online', '');
    for (const board of this.#boards.values()) board.join();
  }

  #confirmed(event) {
    this.#userId = String(event.userId);
    this.#readClock(event);
  }

  #disconnected(reason) {
    for (const board of this.#boards.values()) board.lose();
    this.#setState(this.#socket.active ? 'reconnecting' : 'closed', reason);
  }

  #connectFailed(error) {
    if (this.#socket.active) {
      this.#setState('reconnecting', error.message);
      return;
    }
    this.#setState('refused', error.message);
    // Once between two connections, or a server that refuses every token would be asked forever.
    if (this.#renewedSinceConnect) return;
    this.#renewedSinceConnect = true;
    this.#renew({});
  }

  async #renew(why) {
    try {
      const token = await this.#renewToken?.(why);
      if (token) {
        await this.useToken(token);
        return;
      }
    } catch (error) {
      this.#emit('refused', error instanceof Refusal ? error : new Refusal('unauthorized', String(error?.message)));
    }
    if (why.expiresAt) this.#emit('tokenexpiring', why);
  }

  #deliver(event, names, apply) {
    this.#readClock(event);
    const board = this.#boards.get(boardKey(names?.sedeId, names?.spazioId));
    if (board) apply(board);
  }

  /** An event is never younger than its timestamp: the one that came the fastest tells the server's clock best. */
  #readClock({ timestamp }) {
    const skew = Date.parse(timestamp) - Date.now();
    if (Number.isNaN(skew)) return;
    this.#clockSkewMs = Math.max(this.#clockSkewMs ?? -Infinity, skew);
  }

  #setState(state, reason) {
    if (state === this.#state && reason === this.#reason) return;
    this.#state = state;
    this.#reason = reason;
    this.#emit('state');
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/**
 * The slots of one space on one day. Made by {@link SlotcastClient.open}. Events:
 *
 * - `change`: {@link slots}, {@link position} or {@link isCurrent} may differ;
 * - `refused`: `detail` is the {@link Refusal} for which the space cannot be followed.
 */
export class Board extends EventTarget {
  #link;
  #date;
  #slots = new Map();
  /** The last (epoch, version) that was applied; null before the first snapshot. */
  #position = null;
  /** Whether `#slots` is what `#position` names, for `#date`. */
  #isKnown = false;
  #isJoined = false;
  #isClosed = false;
  /** Numbers the questions to the server, so that only the last one's outcome counts. */
  #question = 0;
  #isAsking = false;
  #failures = 0;
  #retryTimer;

  /** For {@link SlotcastClient}. */
  constructor(link) {
    super();
    this.#link = link;
    this.#date = link.date;
  }

  get sedeId() {
    return this.#link.sedeId;
  }

  get spazioId() {
    return this.#link.spazioId;
  }

  get date() {
    return this.#date;
  }

  /** The last `{epoch, version}` that was applied, or null. */
  get position() {
    return this.#position && { ...this.#position };
  }

  /** Whether {@link slots} is live: connected, joined, and no update missing. */
  get isCurrent() {
    return this.#isKnown && this.#isJoined && !this.#isAsking;
  }

  /**
   * The slots in order, each `{number, orario, status, title, heldUntil, remainingMs, mine, user, holdToken, data}`.
   * A hold that has ended by the server's clock is shown as available at once, as the server treats it, announced or
   * not. `mine` and `user` (staff only) are known from own acts and `fetchBoard`.
   */
  get slots() {
    const now = this.#link.now();
    return [...this.#slots.values()].sort((a, b) => a.number - b.number).map((slot) => viewOf(slot, now));
  }

  /** Shows another day; {@link slots} is empty until it has come. */
  show(date) {
    if (date === this.#date) return;
    this.#date = date;
    this.#forgetDay();
    this.#changed();
    if (this.#link.isOnline()) this.#ask();
  }

  /** Takes slots until the answer's `heldUntil`: all or none. @throws {Refusal} */
  async hold(slots, { holdSeconds } = {}) {
    return this.#act('hold_slot', slots, { holdSeconds });
  }

  /** Confirms own holds. @throws {Refusal} */
  async book(slots, { holdToken } = {}) {
    return this.#act('book_slot', slots, { holdToken });
  }

  /** Lets own holds go. @throws {Refusal} */
  async release(slots, { holdToken } = {}) {
    return this.#act('release_slot', slots, { holdToken });
  }

  /** Moves the end of own holds to now plus `holdSeconds`. @throws {Refusal} */
  async extend(slots, { holdSeconds, holdToken } = {}) {
    return this.#act('extend_hold', slots, { holdSeconds, holdToken });
  }

  /** Asks by `fetchBoard` whose the slots are. Done by itself after each snapshot; for what another device did. */
  async refreshOwners() {
    const date = this.#date;
    const board = await this.#link
      .fetchBoard?.({ sedeId: this.sedeId, spazioId: this.spazioId, date })
      .catch(() => undefined);
    if (board && date === this.#date) this.applyOwners(board);
  }

  /** Leaves the space. */
  close() {
    this.#isClosed = true;
    clearTimeout(this.#retryTimer);
    this.#link.forget();
    if (!this.#link.isOnline()) return;
    this.#link.request('leave_space', { spazioId: this.spazioId, sedeId: this.sedeId }).catch(() => {});
  }

  /** For {@link SlotcastClient}: the socket is connected. */
  join() {
    this.#isJoined = false;
    this.#ask();
  }

  /** For {@link SlotcastClient}: the socket is gone. What is known stays, to be caught up with. */
  lose() {
    this.#isJoined = false;
    this.#question += 1;
    this.#isAsking = false;
    clearTimeout(this.#retryTimer);
    this.#changed();
  }

  /** For {@link SlotcastClient}: a `joined_space`. */
  applyJoined({ recovered }) {
    this.#isJoined = true;
    // Not recovered: a snapshot follows, and until then what is shown may be wrong.
    if (!recovered) this.#isKnown = false;
  }

  /** For {@link SlotcastClient}: a `left_space`. One that was not asked for: a renewed token no longer allows the space. */
  applyLeft() {
    if (!this.#isJoined) return;
    this.#isJoined = false;
    this.#changed();
    this.#refuse(new Refusal('forbidden', 'Operazione non consentita'));
  }

  /** For {@link SlotcastClient}: a `slot_update`. */
  applyUpdate({ epoch, version, data }) {
    // Before the first snapshot there is nothing to apply it to, and the snapshot will contain it.
    if (!this.#position) return;
    if (epoch !== this.#position.epoch) {
      this.#isKnown = false;
      this.#askUnlessAsking();
      return;
    }
    if (version <= this.#position.version) return;
    if (version !== this.#position.version + 1) {
      this.#askUnlessAsking();
      return;
    }
    this.#position.version = version;
    if (this.#isKnown && data.date === this.#date) this.#applyEntry(data, version);
    this.#changed();
  }

  /** For {@link SlotcastClient}: a `slots_status_update`. */
  applySnapshot({ epoch, version, date, slotsStatus }) {
    const sameEpoch = epoch === this.#position?.epoch;
    // An older one is an answer from before. Where nothing is known it is where to start: another node may not have heard
    // yet what the one before it told, and tells it next.
    if (sameEpoch && this.#isKnown && version < this.#position.version) return;
    const jumped = !sameEpoch || version !== this.#position.version;
    this.#position = { epoch, version };
    if (date !== this.#date) {
      // It moved past changes that were never shown here, perhaps of this day.
      if (jumped && this.#isKnown) {
        this.#isKnown = false;
        this.#askUnlessAsking();
      }
      return;
    }
    const ownersAreKnown = this.#isKnown && !jumped;
    const before = this.#slots;
    this.#slots = new Map();
    for (const entry of slotsStatus) {
      const known = ownersAreKnown ? before.get(entry.id_slot) : undefined;
      this.#slots.set(entry.id_slot, {
        ...slotOf(entry),
        changedAt: known?.changedAt ?? version,
        owner: known?.owner,
      });
    }
    this.#isKnown = true;
    this.#changed();
    if (!ownersAreKnown) this.refreshOwners();
  }

  /** Takes `mine` and `id_utente` from the `data` of a `GET /api/slots/{idSpazio}/{date}`. */
  applyOwners({ epoch, version, date, slots }) {
    if (epoch !== this.#position?.epoch || date !== this.#date) return;
    for (const entry of slots) {
      // Staff is told who has a slot in place of whether it is its own.
      const mine = entry.mine === true || (entry.id_utente !== undefined && this.#link.isMe(entry.id_utente));
      const before = this.#slots.get(entry.id_slot)?.owner;
      const holdToken = mine && before?.mine ? before.holdToken : undefined;
      this.#setOwner(entry.id_slot, version, { mine, user: entry.id_utente, holdToken });
    }
    this.#changed();
  }

  async #act(event, slots, options) {
    const epoch = this.#position?.epoch;
    const date = this.#date;
    const answer = await this.#link.request(event, {
      spazioId: this.spazioId,
      sedeId: this.sedeId,
      date,
      slots: [...slots],
      ...options,
    });
    if (event === 'release_slot' || answer.epoch !== epoch || date !== this.#date) return answer;
    for (const number of slots) {
      this.#setOwner(number, answer.version, { mine: true, holdToken: answer.holdToken });
    }
    this.#changed();
    return answer;
  }

  /** An owner is as old as the version it was read at: what changed since is somebody's else, or nobody's. */
  #setOwner(number, version, owner) {
    const slot = this.#slots.get(number);
    if (slot && slot.changedAt <= version) slot.owner = { ...owner, knownAt: version };
  }

  #applyEntry(entry, version) {
    const number = entry.id_slot;
    const before = this.#slots.get(number);
    const slot = { ...slotOf(entry), changedAt: version, owner: before?.owner };
    // Between two owners a slot is always free for at least one version: what stays held or becomes booked keeps its
    // owner, except by staff, and that `fetchBoard` tells.
    const isNewer = !slot.owner || version > slot.owner.knownAt;
    const stays = before?.status === 'occupied' && slot.status === 'occupied';
    const confirmed = before?.status === 'occupied' && slot.status === 'booked';
    if (isNewer && !stays && !confirmed) slot.owner = undefined;
    this.#slots.set(number, slot);
    if (isNewer && confirmed && slot.owner) this.refreshOwners();
  }

  #askUnlessAsking() {
    if (this.#isAsking || !this.#link.isOnline()) return;
    this.#ask();
  }

  /** Joins, or when joined syncs: the answer is what was missed, or a snapshot of the day. */
  async #ask() {
    clearTimeout(this.#retryTimer);
    const question = ++this.#question;
    this.#isAsking = true;
    const since = this.#isKnown && this.#position ? { ...this.#position } : undefined;
    const payload = { spazioId: this.spazioId, sedeId: this.sedeId, date: this.#date, since };
    try {
      await this.#link.request(this.#isJoined ? 'sync' : 'join_space', payload);
      if (question !== this.#question) return;
      this.#isJoined = true;
      this.#failures = 0;
      this.#isAsking = false;
      this.#changed();
    } catch (refusal) {
      if (question !== this.#question || this.#isClosed) return;
      if (PASSING_REFUSALS.has(refusal.code)) {
        this.#askLater();
        return;
      }
      this.#isAsking = false;
      // Offline: the next connection joins.
      if (refusal.code !== 'offline') this.#refuse(refusal);
    }
  }

  #askLater() {
    const longest = Math.min(RETRY_FIRST_MS * 2 ** this.#failures, RETRY_LONGEST_MS);
    this.#failures += 1;
    this.#retryTimer = setTimeout(() => this.#ask(), longest * (0.5 + Math.random() / 2));
  }

  #refuse(refusal) {
    this.dispatchEvent(new CustomEvent('refused', { detail: refusal }));
  }

  #forgetDay() {
    this.#slots = new Map();
    this.#isKnown = false;
  }

  #changed() {
    if (!this.#isClosed) this.dispatchEvent(new Event('change'));
  }
}

function boardKey(sedeId, spazioId) {
  return `${sedeId}/${spazioId}`;
}

function slotOf(entry) {
  const until = entry.held_until ? Date.parse(entry.held_until) : undefined;
  const data = Object.fromEntries(Object.entries(entry).filter(([key]) => !PROTOCOL_KEYS.has(key)));
  return { number: entry.id_slot, orario: entry.orario, status: entry.status, until, data };
}

function viewOf(slot, now) {
  const ended = slot.status === 'occupied' && slot.until !== undefined && slot.until <= now;
  const status = ended ? 'available' : slot.status;
  const owned = status === 'occupied' || status === 'booked' ? slot.owner : undefined;
  return {
    number: slot.number,
    orario: slot.orario,
    status,
    title: TITLES[status] ?? status,
    heldUntil: status === 'occupied' ? slot.until : undefined,
    remainingMs: status === 'occupied' && slot.until !== undefined ? slot.until - now : undefined,
    mine: owned?.mine === true,
    user: owned?.user,
    holdToken: owned?.holdToken,
    data: slot.data,
  };
}
