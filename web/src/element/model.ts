/**
 * What the element knows and does, apart from how it is drawn: the connection and the day that it follows, what is
 * chosen, what was asked for, and what there is to say.
 */

import { connect, type Client, type TokenSource } from '../client.js';
import type { DayDate, SpaceId } from '../core/protocol.js';
import type { Act, Pending, Slot, SpaceState } from '../core/state.js';
import type { SlotChange } from '../http.js';
import { Refusal } from '../refusal.js';
import type { Day } from '../space.js';
import { sayRefusal, textsOf, type Texts } from '../texts/index.js';
import { Announcer } from './announcer.js';
import { choiceAt, extendTo, isFree, isIn, look, restOf, tap, type Choice, type Looked, type Place, type Ranged } from './choice.js';
import { Times, formatOf, neighbours } from './times.js';

/** The `detail` of the element's events. */
export interface BoardEventDetail extends SpaceId {
  readonly date: DayDate;
  readonly slots: readonly number[];
  /** For `refused`: the code of the contract. */
  readonly code?: string;
}

/** A notice beside the bar, with a button for what the person can do about it. */
export interface Notice {
  readonly key: string;
  readonly text: string;
  readonly action?: { readonly name: string; readonly run: () => void };
}

/** The settings that the host gave to the element. */
export interface Settings {
  readonly url: string | undefined;
  readonly token: TokenSource;
  readonly client: Client | undefined;
  readonly place: SpaceId | undefined;
  readonly date: DayDate | undefined;
  readonly language: string | undefined;
  readonly texts: Partial<Texts> | undefined;
}

/** The calls that the model makes to the element. */
export interface Host {
  changed(): void;
  emit(name: string, detail: BoardEventDetail): void;
  say(sentence: string): void;
  /** A day is shown for the first time. */
  opened(): void;
}

const EVENT_NAMES: Readonly<Record<Act, string>> = { hold: 'held', book: 'booked', release: 'released', extend: 'extended' };

/** How long a change is seen, in ms: as long as the animation `changed` takes. */
const FADE_MS = 900;

/** The most slots that fade at a time. Each fading slot is styled anew in every frame. */
const MOST_FADES = 8;

const NOTHING: Looked = { free: [], lost: [] };

/** The state of one element. */
export class Model {
  readonly #host: Host;
  readonly #announcer: Announcer;
  #settings: Settings;
  #own: Client | undefined;
  #day: Day | undefined;
  #ends: (() => void)[] = [];
  #choice: Choice | null = null;
  #stopped: string | null = null;
  #notice: Notice | null = null;
  #seen: readonly Slot[] = [];
  #seenEnded: SpaceState['ended'] = [];
  #times: { readonly texts: Texts; readonly zone: string | null; readonly value: Times } | undefined;
  #texts: { readonly key: unknown[]; readonly value: Texts } | undefined;
  /** The slots that have changed, each with the time at which its fade ends. */
  readonly changed = new Map<number, number>();
  /** The slot that the keyboard is at, by its place in the list. */
  focused = 0;

  constructor(host: Host, settings: Settings) {
    this.#host = host;
    this.#settings = settings;
    this.#announcer = new Announcer((sentence) => host.say(sentence));
  }

  // State

  get texts(): Texts {
    const { language, texts } = this.#settings;
    if (this.#texts?.key[0] !== language || this.#texts?.key[1] !== texts) {
      this.#texts = { key: [language, texts], value: { ...textsOf(language), ...texts } };
    }
    return (this.#texts as { value: Texts }).value;
  }

  /** The connection. It is made when it is first needed. */
  get client(): Client {
    const { client, url, token } = this.#settings;
    if (client) return client;
    this.#own ??= connect({ ...(url && { url }), token });
    return this.#own;
  }

  get day(): Day | undefined {
    return this.#day;
  }

  get space(): SpaceState | undefined {
    return this.#day?.space.state;
  }

  get slots(): readonly Slot[] {
    return this.#day?.state?.slots ?? [];
  }

  get place(): Place | undefined {
    const { place } = this.#settings;
    return place && this.#day ? { ...place, date: this.#day.date } : undefined;
  }

  /** Whether the viewer may change every slot. The server checks it. */
  get isStaff(): boolean {
    return this.client.state.isStaff;
  }

  /** Whether no user has signed in, or the server refuses the user's token. */
  get isGuest(): boolean {
    const { userId, link } = this.client.state;
    return userId === null || link === 'refused';
  }

  get times(): Times {
    const [slots, texts, zone] = [this.slots, this.texts, this.space?.timeZone ?? null];
    const known = this.#times;
    if (known?.texts === texts && known.zone === zone && known.value.isOf(slots)) return known.value;
    const value = new Times(texts, zone, slots);
    this.#times = { texts, zone, value };
    return value;
  }

  /** The acts of the shown day whose effect is not shown yet. */
  get pending(): readonly Pending[] {
    return (this.space?.pending ?? []).filter(({ date }) => date === this.#day?.date);
  }

  isAsked(slot: Slot): boolean {
    return this.pending.some(({ slots }) => slots.includes(slot.number));
  }

  // Connection and day

  /** Takes the settings of the host, and opens the space and day if they are new. */
  set(settings: Settings): void {
    const before = this.#settings;
    this.#settings = settings;
    if (before.url !== settings.url || before.client !== settings.client) this.end();
    else if (before.token !== settings.token && this.#own) void this.#own.setToken(settings.token);
    const isSamePlace = before.place?.sedeId === settings.place?.sedeId && before.place?.spazioId === settings.place?.spazioId;
    if (!this.#day || !isSamePlace || before.date !== settings.date) this.open();
  }

  open(): void {
    const { place, date } = this.#settings;
    const zone = this.space?.timeZone ?? null;
    this.close();
    if (!place) return;
    this.#seen = [];
    this.#notice = null;
    this.#stopped = null;
    this.changed.clear();
    this.#day = this.client.space(place).day(date ?? today(this.client.space(place).state.timeZone ?? zone, this.client.now()));
    this.#seenEnded = this.#day.space.state.ended;
    this.#ends = [this.#day.subscribe(() => this.#noticeChange()), this.client.subscribe(() => this.#host.changed())];
    this.#noticeChange();
  }

  /** Stops following the day. */
  close(): void {
    for (const end of this.#ends) end();
    this.#ends = [];
    this.#announcer.stop();
    this.#day?.close();
    this.#day = undefined;
  }

  /** Also ends the connection, if the element made it. */
  end(): void {
    this.close();
    this.#own?.close();
    this.#own = undefined;
  }

  /** Marks and tells the changes since the last state. Nothing on the screen moves. */
  #noticeChange(): void {
    const slots = this.slots;
    const isFirst = this.#seen.length === 0 && slots.length > 0;
    if (!isFirst && slots !== this.#seen) {
      this.#announcer.note(this.#seen, slots, this.texts);
      const before = new Map(this.#seen.map((slot) => [slot.number, slot]));
      this.#fade(slots.filter(({ number, status }) => before.get(number)?.status !== status));
      this.#tellEnding(before, slots);
    }
    this.#seen = slots;
    this.#tellEnded();
    this.followToday();
    this.#host.changed();
    if (isFirst) this.#host.opened();
  }

  /** Marks all changed slots, or none if they are many: nobody follows many changes at once. */
  #fade(slots: readonly Slot[]): void {
    const now = this.client.now();
    for (const [number, until] of this.changed) if (until <= now) this.changed.delete(number);
    if (this.changed.size + slots.length > MOST_FADES) return;
    for (const { number } of slots) this.changed.set(number, now + FADE_MS);
  }

  #tellEnding(before: ReadonlyMap<number, Slot>, slots: readonly Slot[]): void {
    const ending = slots.filter((slot) => slot.isEnding && before.get(slot.number)?.isEnding === false);
    const until = ending[0]?.heldUntil;
    if (until == null) return;
    this.#host.say(this.texts.ending(this.times.spans(ending), this.texts.minutes(1)));
  }

  #tellEnded(): void {
    const ended = this.space?.ended ?? [];
    for (const one of ended) {
      if (this.#seenEnded.includes(one) || one.date !== this.#day?.date) continue;
      const gone = this.slots.filter(({ number }) => one.slots.includes(number));
      this.#host.say(this.texts.ended(this.times.spans(gone)));
      this.#emit('ended', one.slots);
    }
    this.#seenEnded = ended;
  }

  /**
   * Without a date the board shows today, as soon as the space's zone is known. It moves on after midnight there, unless an
   * act or a choice is under way.
   */
  followToday(): void {
    const zone = this.space?.timeZone;
    if (this.#settings.date !== undefined || !zone || !this.#day) return;
    const isBusy = this.choice !== null || this.pending.length > 0 || this.slots.some(({ mine, status }) => mine && status === 'occupied');
    if (!isBusy && today(zone, this.client.now()) !== this.#day.date) this.open();
  }

  // Choosing

  /** The choice of this space and day. */
  get choice(): Choice | null {
    const place = this.place;
    return place ? choiceAt(this.#choice, place, place.date) : null;
  }

  get looked(): Looked {
    const choice = this.choice;
    return choice ? look(choice, this.slots, (slot) => this.mayChoose(slot)) : NOTHING;
  }

  /** Why a range stopped early; `null` if it did not. */
  get stopped(): string | null {
    return this.choice ? this.#stopped : null;
  }

  mayChoose(slot: Slot): boolean {
    return this.isStaff ? slot.status !== 'past' : isFree(slot);
  }

  tap(slot: Slot): void {
    const place = this.place;
    if (place) this.#choose(tap(this.#choice, place, this.slots, slot, (one) => this.mayChoose(one)));
  }

  /** Makes the range from `start`, or from where the choice began, to a slot. */
  extend(slot: Slot, start: Choice | null = this.choice): void {
    if (start) this.#choose(extendTo(start, this.slots, slot, true, (one) => this.mayChoose(one)));
  }

  /** Chooses one slot, at which a drag begins. */
  begun(slot: Slot): Choice | null {
    const place = this.place;
    return place ? (tap(null, place, this.slots, slot, (one) => this.mayChoose(one))?.choice ?? null) : null;
  }

  /** Holds the choice at one end, so that the other end can be moved. */
  heldAt(end: 'from' | 'to'): Choice | null {
    const choice = this.choice;
    const fixed = this.slots.filter((slot) => choice !== null && isIn(choice, slot)).at(end === 'from' ? 0 : -1);
    return choice && fixed ? { ...choice, anchor: fixed.startsAt ?? choice.anchor } : null;
  }

  /** Moves one end of the choice by one slot. */
  step(end: 'from' | 'to', by: 1 | -1): void {
    const choice = this.choice;
    if (!choice) return;
    const chosen = this.slots.filter((slot) => isIn(choice, slot));
    const edge = end === 'from' ? chosen[0] : chosen.at(-1);
    const next = edge && this.slots[this.slots.indexOf(edge) + by];
    const isInward = by === (end === 'from' ? 1 : -1);
    if (next && !(isInward && chosen.length === 1)) this.extend(next, this.heldAt(end === 'from' ? 'to' : 'from'));
  }

  clear(): void {
    this.#choice = null;
    this.#stopped = null;
    this.#host.changed();
  }

  /** The part of a choice that is still free when somebody has taken the other part. */
  get rest(): Choice | null {
    const choice = this.choice;
    return choice ? restOf(choice, this.slots) : null;
  }

  takeRest(): void {
    const rest = this.rest;
    if (rest) this.#choose({ choice: rest, stoppedAt: null, isFull: false });
  }

  #choose(ranged: Ranged | null): void {
    if (ranged === null) return;
    const { choice, stoppedAt, isFull } = ranged;
    this.#choice = choice;
    this.#notice = null;
    const { stoppedAt: tellStop, status, atMost } = this.texts;
    this.#stopped = isFull ? atMost(32) : stoppedAt ? tellStop(this.times.span(stoppedAt), status[stoppedAt.status]) : null;
    if (this.#stopped) this.#host.say(this.#stopped);
    this.#host.changed();
  }

  // Acting

  /** Whether the chosen slots can be held. */
  get mayHold(): boolean {
    const { free, lost } = this.looked;
    const isAsked = this.pending.some(({ act }) => act === 'hold');
    return free.length > 0 && lost.length === 0 && free.every(isFree) && !isAsked;
  }

  async hold(): Promise<void> {
    if (!this.mayHold) return;
    const choice = this.#choice;
    if ((await this.act('hold', this.looked.free)) && this.#choice === choice) this.clear();
  }

  /** Does an act. An event tells its result. After a refusal a notice says what to do next. */
  async act(act: Act, slots: readonly Slot[]): Promise<boolean> {
    const day = this.#day;
    if (!day) return false;
    this.#notice = null;
    const numbers = slots.map(({ number }) => number);
    const wasBooked = slots.some(({ status }) => status === 'booked');
    const span = this.times.spans(slots);
    const { held, booked, released, extended, cancelled } = this.texts;
    const sentences = { hold: held, book: booked, release: wasBooked ? cancelled : released, extend: extended };
    return this.#try(
      async () => {
        await day[act](numbers);
        this.#emit(EVENT_NAMES[act], numbers);
        this.#host.say(sentences[act](span));
      },
      slots,
      () => void this.act(act, slots),
    );
  }

  /** Changes the chosen slots, as staff. */
  async change(status: SlotChange['status']): Promise<void> {
    const [place, slots] = [this.place, this.looked.free];
    if (!place || slots.length === 0) return;
    const span = this.times.spans(slots);
    const isDone = await this.#try(
      async () => {
        await this.client.calls.change({ ...place, slots: slots.map(({ number }) => number), status });
        this.#host.say(this.texts.changed(span));
      },
      slots,
      () => void this.change(status),
    );
    if (isDone) this.clear();
  }

  async #try(run: () => Promise<void>, slots: readonly Slot[], again: () => void): Promise<boolean> {
    try {
      await run();
      return true;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#refused(error, slots, again);
      return false;
    } finally {
      this.#host.changed();
    }
  }

  #refused(refusal: Refusal, slots: readonly Slot[], again: () => void): void {
    const numbers = slots.map(({ number }) => number);
    this.#emit('refused', numbers, refusal.code);
    if (refusal.code === 'unauthorized') this.signIn();
    const text = this.refusalText(refusal, slots);
    const retry = { name: this.texts.tryAgain, run: again };
    this.#notice = { key: 'refusal', text, ...(refusal.isPassing && { action: retry }) };
    this.#host.say(text);
  }

  /** Asks the host to let the person sign in. */
  readonly signIn = (): void => this.#emit('signin', []);

  /** Connects anew. Requests without an answer are sent again, which is safe. */
  readonly reconnect = (): void => this.client.reconnect();

  refusalText(refusal: Refusal, slots: readonly Slot[]): string {
    const inTheWay = slots.filter(({ number }) => refusal.conflicts.includes(number));
    const others = slots.filter(({ number }) => !refusal.conflicts.includes(number));
    const rest = refusal.conflicts.length > 0 ? neighbours(others)[0] : undefined;
    const { times } = this;
    const { code } = refusal;
    return sayRefusal(this.texts, { conflicts: times.spans(inTheWay), rest: rest ? times.spans(rest) : '', code });
  }

  /** The notice about the last act, if there is something to say. */
  get notice(): Notice | null {
    return this.#notice;
  }

  #emit(name: string, slots: readonly number[], code?: string): void {
    const place = this.place;
    if (place) this.#host.emit(name, { ...place, slots, ...(code !== undefined && { code }) });
  }
}

/** The present day in a zone. */
export function today(timeZone: string | null, now: number): DayDate {
  return formatOf('en-CA', { dateStyle: 'short', ...(timeZone && { timeZone }) }).format(now);
}
