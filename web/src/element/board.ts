/**
 * `<slotcast-board url sede spazio date lang>`: the day of one space as a column of time, where a range is chosen, held,
 * booked and released.
 *
 * The element draws what the client's state says and nothing else: no act is shown as done before the server has told it.
 * It never touches storage or the address, adds no global, and ends its connection when it leaves the page.
 */

import { LitElement, html, nothing, type PropertyValues, type TemplateResult } from 'lit';
import { repeat } from 'lit/directives/repeat.js';

import { connect, type Client, type ClientState, type TokenSource } from '../client.js';
import type { DayDate, SpaceId } from '../core/protocol.js';
import type { Act, DayState, Ended, Pending, Slot } from '../core/state.js';
import { Refusal } from '../refusal.js';
import type { Day } from '../space.js';
import { textsOf, type RefusalCode, type Texts } from '../texts/index.js';
import { Announcer } from './announcer.js';
import { blocksOf, noteOf, placesOf, type Place } from './blocks.js';
import { choiceAt, extendTo, isIn, look, restOf, tap, type Choice, type Ranged } from './choice.js';
import { slotOfHour, targetOf } from './keyboard.js';
import { PressGuard } from './press.js';
import { styles } from './styles.js';
import { Times, countdown, duration, neighbours } from './times.js';

/** More slots than these share the height of a day. */
const MANY_SLOTS = 16;

/** After how long an act that is not answered is said to be still asked, in ms. */
const STILL_ASKING_MS = 2_000;

/** How long a digit waits for the second one of an hour, in ms. */
const DIGITS_MS = 800;

/** What events of the element tell in `detail`. */
export interface BoardEventDetail extends SpaceId {
  readonly date: DayDate;
  readonly slots: readonly number[];
  /** For `refused`: the code of the contract. */
  readonly code?: string;
}

interface Notice {
  readonly text: string;
  readonly action?: { readonly name: string; readonly run: () => void };
}

/** The element. Importing this module defines it; see `index.ts`. */
export class SlotcastBoard extends LitElement {
  static override styles = styles;

  static override properties = {
    url: {},
    sede: { type: Number },
    spazio: { type: Number },
    date: {},
    lang: { reflect: false },
    token: { attribute: false },
    client: { attribute: false },
    texts: { attribute: false },
    name: {},
  };

  /** Where the node is; by itself where the page came from. */
  declare url: string | undefined;
  declare sede: number | undefined;
  declare spazio: number | undefined;
  /** `YYYY-MM-DD` in the space's zone; today where it is not set. */
  declare date: DayDate | undefined;
  /** A token, or what gives one; nothing for a guest. */
  declare token: TokenSource;
  /** A client that the host made; the element then neither makes nor closes one. */
  declare client: Client | undefined;
  /** Sentences in place of those of the language. */
  declare texts: Partial<Texts> | undefined;
  /** What the space is called; by itself what the server says. */
  declare name: string | undefined;

  #own: Client | undefined;
  #day: Day | undefined;
  #ends: (() => void)[] = [];
  #choice: Choice | null = null;
  #stoppedAt: Slot | null = null;
  #notice: Notice | null = null;
  #focused = 0;
  #digits = '';
  #digitsAt = 0;
  #seen: readonly Slot[] = [];
  #changed = new Set<number>();
  #ticking: ReturnType<typeof setInterval> | undefined;
  #isDragging = false;
  readonly #guard = new PressGuard();
  readonly #announcer = new Announcer((sentence) => this.#say(sentence));

  override connectedCallback(): void {
    super.connectedCallback();
    this.#ticking = setInterval(() => this.requestUpdate(), 1_000);
    if (this.hasUpdated) this.#open();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearInterval(this.#ticking);
    this.#announcer.stop();
    this.#close();
    this.#own?.close();
    this.#own = undefined;
  }

  protected override updated(changes: PropertyValues): void {
    if (changes.has('url') || changes.has('client')) this.#reconnect();
    else if (changes.has('token') && this.#own) void this.#own.setToken(this.token);
    if (['url', 'client', 'sede', 'spazio', 'date'].some((name) => changes.has(name))) this.#open();
  }

  /** The sentences of the language, with those that the host replaces. */
  get #texts(): Texts {
    const language = this.lang || this.closest('[lang]')?.getAttribute('lang') || navigator.language;
    return { ...textsOf(language), ...this.texts };
  }

  get #client(): Client {
    if (this.client) return this.client;
    this.#own ??= connect({ ...(this.url && { url: this.url }), token: this.token });
    return this.#own;
  }

  get #place(): SpaceId | undefined {
    const [sedeId, spazioId] = [Number(this.sede), Number(this.spazio)];
    return sedeId > 0 && spazioId > 0 ? { sedeId, spazioId } : undefined;
  }

  get #state(): DayState | undefined {
    return this.#day?.state;
  }

  get #slots(): readonly Slot[] {
    return this.#state?.slots ?? [];
  }

  #reconnect(): void {
    this.#close();
    this.#own?.close();
    this.#own = undefined;
  }

  #open(): void {
    this.#close();
    const place = this.#place;
    if (!place || !this.isConnected) return;
    this.#seen = [];
    this.#notice = null;
    this.#day = this.#client.space(place).day(this.date ?? today(this.#day?.space.state.timeZone ?? null, this.#client.now()));
    this.#ends = [
      this.#day.subscribe(() => this.#noticeChange()),
      this.#client.subscribe(() => this.requestUpdate()),
    ];
    this.requestUpdate();
  }

  #close(): void {
    for (const end of this.#ends) end();
    this.#ends = [];
    this.#day?.close();
    this.#day = undefined;
  }

  /** What is new since the last picture is marked and told; it never moves anything. */
  #noticeChange(): void {
    const slots = this.#slots;
    if (this.#seen.length > 0 && slots !== this.#seen) {
      this.#announcer.note(this.#seen, slots, this.#texts);
      const before = new Map(this.#seen.map((slot) => [slot.number, slot]));
      for (const slot of slots) {
        if (before.get(slot.number)?.status !== slot.status) this.#changed.add(slot.number);
      }
    }
    const hadSlots = this.#seen.length > 0;
    this.#seen = slots;
    this.requestUpdate();
    if (!hadSlots && slots.length > 0) void this.updateComplete.then(() => this.#showNext());
  }

  /** The first free slot after now is in view when the board opens. */
  #showNext(): void {
    const index = this.#slots.findIndex(({ status }) => status === 'available');
    this.#focused = Math.max(index, 0);
    this.requestUpdate();
    this.renderRoot.querySelectorAll('.slot')[this.#focused]?.scrollIntoView({ block: 'nearest' });
  }

  // Choosing

  get #present(): Choice | null {
    const place = this.#place;
    return place && this.#day ? choiceAt(this.#choice, place, this.#day.date) : null;
  }

  #choose(ranged: Ranged | null): void {
    if (ranged === null) return;
    this.#choice = ranged.choice;
    this.#stoppedAt = ranged.stoppedAt;
    this.#notice = null;
    if (ranged.stoppedAt) this.#say(this.#stopText(ranged.stoppedAt));
    this.requestUpdate();
  }

  #clear(): void {
    this.#choice = null;
    this.#stoppedAt = null;
    this.requestUpdate();
  }

  #tapped(slot: Slot, event: MouseEvent): void {
    if (!this.#guard.admits(`slot ${slot.number}`, event, Date.now())) return;
    this.#focused = this.#slots.indexOf(slot);
    const place = this.#place;
    if (!place || !this.#day) return;
    if (slot.mine) {
      this.#focusCard(slot);
      return;
    }
    if (slot.status !== 'available') return;
    const present = this.#present;
    const extended = event.shiftKey && present !== null;
    this.#choose(
      extended ? extendTo(present, this.#slots, slot, true) : tap(this.#choice, place, this.#day.date, this.#slots, slot),
    );
  }

  #focusCard(slot: Slot): void {
    this.requestUpdate();
    const key = cardKey(slot);
    void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>(`[data-card="${key}"] button`)?.focus());
  }

  #pointerDown(slot: Slot, event: PointerEvent): void {
    const place = this.#place;
    // A finger scrolls; a mouse or a pen drags a range.
    if (event.pointerType === 'touch' || event.button !== 0 || event.shiftKey || !place || !this.#day) return;
    if (slot.status !== 'available') return;
    this.#isDragging = false;
    const start = tap(null, place, this.#day.date, this.#slots, slot)?.choice;
    if (!start) return;
    const move = (moved: PointerEvent) => {
      const over = this.#slotAt(moved);
      if (!over || (over === slot && !this.#isDragging)) return;
      this.#isDragging = true;
      this.#choose(extendTo(start, this.#slots, over, true));
    };
    const end = () => {
      removeEventListener('pointermove', move);
      removeEventListener('pointerup', end);
      removeEventListener('pointercancel', end);
    };
    addEventListener('pointermove', move);
    addEventListener('pointerup', end);
    addEventListener('pointercancel', end);
  }

  #slotAt({ clientX, clientY }: PointerEvent): Slot | undefined {
    const under = (this.renderRoot as ShadowRoot).elementFromPoint(clientX, clientY)?.closest<HTMLElement>('.slot');
    return this.#slots.find(({ number }) => String(number) === under?.dataset['slot']);
  }

  #clicked(slot: Slot, event: MouseEvent): void {
    // The click that ends a drag is not a tap.
    if (this.#isDragging) this.#isDragging = false;
    else this.#tapped(slot, event);
  }

  #keyPressed(event: KeyboardEvent): void {
    const slots = this.#slots;
    const slot = slots[this.#focused];
    if (!slot || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === 'Escape') this.#clear();
    else if (event.key === ' ') this.#tapped(slot, new MouseEvent('click'));
    else if (event.key === 'Enter') this.#entered(slot);
    else if (/^[0-9]$/.test(event.key)) this.#typed(event.key);
    else if (!this.#moved(event)) return;
    event.preventDefault();
  }

  #entered(slot: Slot): void {
    if (slot.mine) this.#focusCard(slot);
    else if (this.#present) void this.#hold();
    else this.#tapped(slot, new MouseEvent('click'));
  }

  #moved({ key, shiftKey }: KeyboardEvent): boolean {
    const slots = this.#slots;
    const target = targetOf(key, slots, this.#focused, (slot) => this.#hourOf(slot));
    if (target === null) return false;
    const present = this.#present ?? (shiftKey ? this.#begun() : null);
    if (shiftKey && present) {
      // Page keys move the end of the choice to the full hour: the last slot before it.
      const isPage = key === 'PageDown' || key === 'PageUp';
      const last = isPage && target > this.#focused && target < slots.length - 1 ? target - 1 : target;
      this.#choose(extendTo(present, slots, slots[last] as Slot, true));
      this.#focus(last);
    } else this.#focus(target);
    return true;
  }

  #begun(): Choice | null {
    const [place, slot] = [this.#place, this.#slots[this.#focused]];
    return place && this.#day && slot ? (tap(null, place, this.#day.date, this.#slots, slot)?.choice ?? null) : null;
  }

  /** Digits jump to an hour: `1` and `4` to 14:00. */
  #typed(digit: string): void {
    const now = Date.now();
    this.#digits = now - this.#digitsAt < DIGITS_MS ? `${this.#digits}${digit}`.slice(-2) : digit;
    this.#digitsAt = now;
    const target = slotOfHour(this.#slots, Number(this.#digits), (slot) => this.#hourOf(slot));
    if (target !== null) this.#focus(target);
  }

  #hourOf(slot: Slot): number {
    return Number.parseInt(slot.orario, 10);
  }

  #focus(index: number): void {
    this.#focused = index;
    this.requestUpdate();
    void this.updateComplete.then(() => this.renderRoot.querySelectorAll<HTMLElement>('.slot')[index]?.focus());
  }

  #step(end: 'from' | 'to', by: 1 | -1): void {
    const present = this.#present;
    if (!present) return;
    const slots = this.#slots;
    const chosen = slots.filter((slot) => isIn(present, slot));
    const edge = end === 'from' ? chosen[0] : chosen.at(-1);
    const other = end === 'from' ? chosen.at(-1) : chosen[0];
    const next = edge && slots[slots.indexOf(edge) + by];
    if (!edge || !other || !next || (chosen.length === 1 && other === edge && by === (end === 'from' ? 1 : -1))) return;
    this.#choose(extendTo({ ...present, anchor: other.startsAt ?? present.anchor }, slots, next, true));
  }

  // Acting

  async #hold(): Promise<void> {
    const present = this.#present;
    if (!present) return;
    const { free, lost } = look(present, this.#slots);
    if (lost.length > 0 || free.length === 0) return;
    if (await this.#act('hold', free)) this.#clear();
  }

  /** Does an act; what came of it is told by an event, a refusal by a sentence with what to do next. */
  async #act(act: Act, slots: readonly Slot[]): Promise<boolean> {
    const day = this.#day;
    if (!day) return false;
    this.#notice = null;
    const numbers = slots.map(({ number }) => number);
    const wasBooked = slots.some(({ status }) => status === 'booked');
    const span = this.#times().spans(slots);
    try {
      await day[act](numbers);
      this.#emit(EVENT_NAMES[act], numbers);
      this.#say(this.#doneText(act, span, wasBooked));
      return true;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#refused(error, act, slots);
      return false;
    } finally {
      this.requestUpdate();
    }
  }

  #refused(refusal: Refusal, act: Act, slots: readonly Slot[]): void {
    const numbers = slots.map(({ number }) => number);
    this.#emit('refused', numbers, refusal.code);
    if (refusal.code === 'unauthorized') this.#emit('signin', numbers);
    const retry = { name: this.#texts.tryAgain, run: () => void this.#act(act, slots) };
    const text = this.#refusalText(refusal, slots);
    this.#notice = refusal.isPassing ? { text, action: retry } : { text };
    this.#say(text);
  }

  #doneText(act: Act, span: string, wasBooked: boolean): string {
    const { held, booked, released, extended, cancelled } = this.#texts;
    const sentences = { hold: held, book: booked, release: wasBooked ? cancelled : released, extend: extended };
    return sentences[act](span);
  }

  #refusalText(refusal: Refusal, slots: readonly Slot[]): string {
    const { refusals } = this.#texts;
    const sentence = refusals[refusal.code as RefusalCode] ?? refusals.other;
    const inTheWay = slots.filter(({ number }) => refusal.conflicts.includes(number));
    const others = slots.filter(({ number }) => !refusal.conflicts.includes(number));
    const rest = refusal.conflicts.length > 0 ? neighbours(others)[0] : undefined;
    const times = this.#times();
    return sentence({ conflicts: times.spans(inTheWay), rest: rest ? times.spans(rest) : '', code: refusal.code });
  }

  #stopText(slot: Slot): string {
    return this.#texts.stoppedAt(this.#times().span(slot), this.#texts.status[slot.status]);
  }

  #emit(name: string, slots: readonly number[], code?: string): void {
    const place = this.#place;
    if (!place || !this.#day) return;
    const detail: BoardEventDetail = { ...place, date: this.#day.date, slots, ...(code !== undefined && { code }) };
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  /** Tells a screen reader, politely. */
  #say(sentence: string): void {
    const live = this.renderRoot.querySelector('#live');
    if (live) live.textContent = sentence;
  }

  #press(what: string, run: () => void): (event: MouseEvent) => void {
    return (event) => {
      const isOff = (event.currentTarget as HTMLElement).getAttribute('aria-disabled') === 'true';
      if (!isOff && this.#guard.admits(what, event, Date.now())) run();
    };
  }

  #times(): Times {
    return new Times(this.#texts, this.#day?.space.state.timeZone ?? null, this.#slots);
  }

  // Drawing

  override render(): TemplateResult {
    const state = this.#state;
    return html`
      ${this.#heading()}
      <div class="slots-frame" part="board">${state ? this.#column(state) : nothing}</div>
      ${this.#dock()}
      <p id="live" class="unseen" role="status" aria-live="polite"></p>
    `;
  }

  #heading(): TemplateResult {
    const texts = this.#texts;
    const zone = this.#times().foreignZone(this.#slots);
    const shift = (days: number) => this.#press('day', () => (this.date = shifted(this.#day?.date ?? this.date ?? '', days)));
    return html`
      <div class="heading" part="toolbar">
        <button class="plain" aria-label=${texts.previousDay} @click=${shift(-1)}>‹</button>
        <h2 id="title">${this.#title()}</h2>
        <button class="plain" aria-label=${texts.nextDay} @click=${shift(1)}>›</button>
        <span class="connection" data-link=${this.#client.state.link}>${this.#connectionText(this.#client.state)}</span>
        <slot name="header"></slot>
      </div>
      ${zone ? html`<p class="zone">${texts.zone(zone)}</p>` : nothing}
    `;
  }

  #title(): string {
    const place = this.#place;
    if (!place || !this.#day) return '';
    const format = { weekday: 'short', day: 'numeric', month: 'short', timeZone: 'UTC' } as const;
    const day = new Date(`${this.#day.date}T12:00:00Z`).toLocaleDateString(this.#texts.language, format);
    return this.#texts.slotsOf(this.name ?? `${place.sedeId}/${place.spazioId}`, day);
  }

  #connectionText({ link, reason }: ClientState): string {
    const texts = this.#texts;
    const space = this.#day?.space.state;
    if (link === 'online') return this.#state?.inSync ? texts.live : texts.catchingUp;
    if (link === 'offline' && space?.offlineSince) return texts.offlineSince(this.#times().clock(space.offlineSince));
    return link === 'connecting' || link === 'offline' ? texts.connecting : reason;
  }

  #column(state: DayState): TemplateResult {
    const { slots } = state;
    if (slots.length === 0) return html`<p>${state.isKnown ? this.#texts.closedDay : this.#texts.catchingUp}</p>`;
    const places = placesOf(blocksOf(slots));
    const times = this.#times();
    return html`
      <div
        class="slots"
        part="slots"
        role="listbox"
        aria-multiselectable="true"
        aria-labelledby="title"
        ?data-many=${slots.length > MANY_SLOTS}
        @keydown=${(event: KeyboardEvent) => this.#keyPressed(event)}
      >
        ${repeat(
          slots,
          ({ number }) => number,
          (slot, index) => this.#row(slot, index, places.get(slot.number) ?? 'only', times),
        )}
      </div>
    `;
  }

  #row(slot: Slot, index: number, place: Place, times: Times): TemplateResult {
    const present = this.#present;
    const isChosen = present !== null && isIn(present, slot) && slot.status === 'available';
    const pending = this.#pendingOf(slot);
    const mayChoose = slot.status === 'available' || slot.mine;
    return html`
      <div
        class="slot"
        part="slot"
        role="option"
        tabindex=${index === this.#focused ? 0 : -1}
        aria-selected=${isChosen}
        aria-disabled=${!mayChoose}
        aria-label=${this.#nameOf(slot, times)}
        data-slot=${slot.number}
        data-status=${slot.status}
        data-place=${place}
        ?data-hour=${slot.orario.endsWith(':00')}
        ?data-mine=${slot.mine}
        ?data-ending=${slot.isEnding}
        ?data-pending=${pending !== undefined}
        ?data-changed=${this.#changed.has(slot.number)}
        @animationend=${() => this.#changed.delete(slot.number)}
        @pointerdown=${(event: PointerEvent) => this.#pointerDown(slot, event)}
        @click=${(event: MouseEvent) => this.#clicked(slot, event)}
      >
        <span class="time" aria-hidden="true">${times.start(slot)}</span>
        <span class="what" part="block" aria-hidden="true">${this.#wordOf(slot, place)}</span>
        <span class="left" aria-hidden="true">${this.#leftOf(slot, place)}</span>
      </div>
    `;
  }

  /** For screen readers and tests: the local start first, then the state. */
  #nameOf(slot: Slot, times: Times): string {
    const texts = this.#texts;
    const own = times.ownSpan(slot);
    const parts = [
      `${times.start(slot)} ${times.span(slot)}`,
      texts.status[slot.status],
      slot.mine ? texts.yours : '',
      noteOf(slot),
      own === null ? '' : texts.alsoForYou(own),
    ];
    return parts.filter(Boolean).join(', ');
  }

  /** A block is named once, at its top. */
  #wordOf(slot: Slot, place: Place): string {
    if (slot.status === 'available' || place === 'middle' || place === 'last') return '';
    const texts = this.#texts;
    const word = slot.mine ? `${texts.yours}, ${texts.status[slot.status]}` : texts.status[slot.status];
    return [word, noteOf(slot)].filter(Boolean).join(': ');
  }

  #leftOf(slot: Slot, place: Place): string {
    if (slot.heldUntil === null || place === 'middle' || place === 'last') return '';
    const left = slot.heldUntil - this.#client.now();
    return slot.mine ? countdown(left) : this.#texts.heldByOther(countdown(left));
  }

  #pendingOf(slot: Slot): Pending | undefined {
    const pending = this.#day?.space.state.pending ?? [];
    return pending.find(({ date, slots }) => date === this.#day?.date && slots.includes(slot.number));
  }

  #dock(): TemplateResult {
    return html`
      <div class="dock" part="dock">
        <div class="cards">${this.#cards()}</div>
        <div class="notices">${this.#notices()}</div>
        ${this.#bar()}
      </div>
    `;
  }

  /** Each own hold and booking has a card: what it is, and what can be done. */
  #cards(): TemplateResult[] {
    const own = this.#slots.filter(({ mine }) => mine);
    const byKey = new Map<string, Slot[]>();
    for (const slot of own) byKey.set(cardKey(slot), [...(byKey.get(cardKey(slot)) ?? []), slot]);
    return [...byKey].map(([key, slots]) => this.#card(key, slots));
  }

  #card(key: string, slots: readonly Slot[]): TemplateResult {
    const texts = this.#texts;
    const [first] = slots;
    const times = this.#times();
    const span = times.spans(slots);
    const isAsked = slots.some((slot) => this.#pendingOf(slot) !== undefined);
    const button = (name: string, act: Act, kind: string) => html`
      <button class=${kind} aria-disabled=${isAsked} @click=${this.#press(`${act} ${key}`, () => void this.#act(act, slots))}>
        ${name}
      </button>
    `;
    if (first?.status === 'occupied') {
      const left = countdown((first.heldUntil ?? 0) - this.#client.now());
      const mayExtend = first.extendableUntil === null || first.extendableUntil > (first.heldUntil ?? 0);
      return html`
        <div class="card" part="card" data-card=${key}>
          ${button(texts.release, 'release', 'plain')}
          <p>${first.isEnding ? texts.ending(span, left) : texts.heldByYou(span, left)}</p>
          ${mayExtend ? button(texts.extend, 'extend', '') : nothing} ${button(texts.book, 'book', 'primary')}
        </div>
      `;
    }
    const until = first?.cancelUntil ?? null;
    const mayCancel = until !== null && until > this.#client.now();
    return html`
      <div class="card" part="card" data-card=${key}>
        <p>${texts.booked(span)} · ${mayCancel ? texts.cancelUntil(times.clock(until)) : texts.notCancellable}</p>
        ${mayCancel ? button(texts.cancel, 'release', '') : nothing}
      </div>
    `;
  }

  #notices(): TemplateResult[] {
    const doubts = this.#doubts();
    const ends = (this.#day?.space.state.ended ?? []).filter(({ date }) => date === this.#day?.date);
    return [...doubts, ...ends.map((end) => this.#endNotice(end)), ...(this.#notice ? [this.#draw(this.#notice)] : [])];
  }

  #doubts(): TemplateResult[] {
    const texts = this.#texts;
    const waiting = (this.#day?.space.state.pending ?? []).filter(({ at }) => at === null);
    return waiting.flatMap(({ since, isDoubtful }) => {
      const isLong = this.#client.now() - since >= STILL_ASKING_MS;
      if (!isLong) return [];
      return [this.#draw({ text: isDoubtful ? texts.doubt : texts.stillAsking })];
    });
  }

  #endNotice({ slots }: Ended): TemplateResult {
    const gone = this.#slots.filter(({ number }) => slots.includes(number));
    const text = this.#texts.ended(this.#times().spans(gone));
    const isFree = gone.length > 0 && gone.every(({ status }) => status === 'available');
    const again = { name: this.#texts.holdAgain, run: () => void this.#act('hold', gone) };
    return this.#draw(isFree ? { text, action: again } : { text });
  }

  #draw({ text, action }: Notice): TemplateResult {
    return html`
      <p class="notice" part="notice">
        <span>${text}</span>
        ${action ? html`<button @click=${this.#press(action.name, action.run)}>${action.name}</button>` : nothing}
      </p>
    `;
  }

  /** Always there, its room reserved: nothing moves when something is chosen. */
  #bar(): TemplateResult {
    const texts = this.#texts;
    const present = this.#present;
    const looked = present ? look(present, this.#slots) : { free: [], lost: [] };
    const isAsked = (this.#day?.space.state.pending ?? []).some(({ act }) => act === 'hold');
    const mayHold = looked.free.length > 0 && looked.lost.length === 0 && !isAsked;
    return html`
      <div class="bar" part="bar">
        <p>${this.#barText(present, looked.free, looked.lost)}</p>
        <button class="primary" aria-disabled=${!mayHold} @click=${this.#press('hold', () => void this.#hold())}>
          ${texts.hold}
        </button>
        ${present && looked.lost.length > 0 ? this.#restOffer(present) : this.#steppers(present)}
      </div>
    `;
  }

  #barText(present: Choice | null, free: readonly Slot[], lost: readonly Slot[]): string {
    const texts = this.#texts;
    if (!present) return this.#client.state.userId === null ? texts.signInHint : texts.chooseHint;
    const times = this.#times();
    if (lost.length > 0) return free.length > 0 ? texts.lost(times.spans(lost)) : texts.nothingLeft(times.spans(lost));
    const chosen = texts.chosen(times.spans(free), duration(texts, present.to - present.from));
    return this.#stoppedAt ? `${chosen}. ${this.#stopText(this.#stoppedAt)}` : chosen;
  }

  #restOffer(present: Choice): TemplateResult {
    const rest = restOf(present, this.#slots);
    const slots = rest ? this.#slots.filter((slot) => isIn(rest, slot)) : [];
    const take = () => this.#choose(rest ? { choice: rest, stoppedAt: null } : null);
    return html`
      <div class="steps">
        ${rest
          ? html`<button @click=${this.#press('rest', take)}>${this.#texts.offerRest(this.#times().spans(slots))}</button>`
          : nothing}
        <button class="plain" @click=${this.#press('clear', () => this.#clear())}>${this.#texts.clear}</button>
      </div>
    `;
  }

  /** For fingers: each end of the choice earlier and later. */
  #steppers(present: Choice | null): TemplateResult {
    const texts = this.#texts;
    const stepper = (end: 'from' | 'to', by: 1 | -1) => {
      const name = `${end === 'from' ? texts.startOfChoice : texts.endOfChoice}: ${by < 0 ? texts.earlier : texts.later}`;
      return html`
        <button
          class="plain"
          aria-label=${name}
          aria-disabled=${present === null}
          @click=${this.#press(`${end} ${by}`, () => this.#step(end, by))}
        >
          ${by < 0 ? '−' : '+'}
        </button>
      `;
    };
    return html`
      <div class="steps">
        <span aria-hidden="true">${texts.startOfChoice}</span>${stepper('from', -1)}${stepper('from', 1)}
        <span aria-hidden="true">${texts.endOfChoice}</span>${stepper('to', -1)}${stepper('to', 1)}
        <button
          class="plain"
          aria-disabled=${present === null}
          @click=${this.#press('clear', () => this.#clear())}
        >
          ${texts.clear}
        </button>
      </div>
    `;
  }
}

const EVENT_NAMES: Readonly<Record<Act, string>> = { hold: 'held', book: 'booked', release: 'released', extend: 'extended' };

/** Slots of one hold, or of neighbouring bookings, are on one card. */
function cardKey(slot: Slot): string {
  return slot.status === 'occupied' ? `h-${slot.holdToken ?? slot.heldUntil}` : `b-${slot.number}`;
}

function today(timeZone: string | null, now: number): DayDate {
  return new Intl.DateTimeFormat('en-CA', { dateStyle: 'short', ...(timeZone && { timeZone }) }).format(now);
}

function shifted(date: DayDate, days: number): DayDate {
  const day = new Date(`${date}T12:00:00Z`);
  day.setUTCDate(day.getUTCDate() + days);
  return day.toISOString().slice(0, 10);
}
