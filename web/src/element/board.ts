/**
 * `<slotcast-board url sede spazio date lang>`: the day of one space as a column of time, where a range is chosen, held,
 * booked and released.
 *
 * The element draws what the client's state says and nothing else: no act is shown as done before the server has told it.
 * It never touches storage or the address, adds no global, and ends its connection when it leaves the page.
 */

import { LitElement, html, nothing, type PropertyValues, type TemplateResult } from 'lit';

import type { Client, TokenSource } from '../client.js';
import type { DayDate } from '../core/protocol.js';
import type { Slot } from '../core/state.js';
import type { Texts } from '../texts/index.js';
import { isIn, type Choice } from './choice.js';
import { column, type ColumnActions } from './draw/column.js';
import { dock } from './draw/dock.js';
import { bookings, heading } from './draw/heading.js';
import { Keyboard } from './keyboard.js';
import { Model, type BoardEventDetail, type Settings } from './model.js';
import { PressGuard, type Box } from './press.js';
import { styles } from './styles/index.js';

export type { BoardEventDetail } from './model.js';

/**
 * How many rows are drawn in one frame. The first frame draws up to this many rows after the first free slot, which is in
 * view. Each next frame draws as many more.
 */
const ROWS_A_FRAME = 32;

/** The element. Importing `index.ts` defines it. */
export class SlotcastBoard extends LitElement {
  static override styles = styles;

  static override properties = {
    url: {},
    sede: { type: Number },
    spazio: { type: Number },
    date: { reflect: true },
    lang: {},
    name: {},
    token: { attribute: false },
    client: { attribute: false },
    texts: { attribute: false },
  };

  /** The address of the node. The default is the origin of the page. */
  declare url: string | undefined;
  declare sede: number | undefined;
  declare spazio: number | undefined;
  /** `YYYY-MM-DD` in the space's zone; today where it is not set. */
  declare date: DayDate | undefined;
  /** A token, or a function that gives one; nothing for a guest. */
  declare token: TokenSource;
  /** A client that the host made; the element then neither makes nor closes one. */
  declare client: Client | undefined;
  /** Texts that replace those of the language. */
  declare texts: Partial<Texts> | undefined;
  /** The name of the space. The default is the name that the server tells. */
  declare name: string | undefined;

  readonly #guard = new PressGuard();
  readonly #keyboard: Keyboard;
  readonly #model: Model;
  readonly #actions: ColumnActions;
  #ticking: ReturnType<typeof setInterval> | undefined;
  #isDragging = false;
  #isToScroll = false;
  /** How many rows are drawn now. A new day grows below the rows in sight. */
  #most = Infinity;
  /** How far each scrollable element around the rows could be scrolled at the last press. */
  #scrollable = new Map<Element, number>();
  #focusedBefore: Element | null = null;

  constructor() {
    super();
    const host = {
      changed: () => this.requestUpdate(),
      emit: (name: string, detail: BoardEventDetail) => this.#emit(name, detail),
      say: (sentence: string) => this.#say(sentence),
      opened: () => this.#opened(),
    };
    this.#model = new Model(host, this.#settings());
    this.#keyboard = new Keyboard(this.#model, (index) => this.#focusSlot(index), (slot) => this.#openCard(slot));
    this.#actions = {
      clicked: (slot, event) => this.#clicked(slot, event),
      pointerDown: (slot, event) => this.#pointerDown(slot, event),
      keyPressed: (event) => this.#keyboard.pressed(event),
      handleDown: (end, event) => this.#handleDown(end, event),
    };
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#ticking = setInterval(() => this.#tick(), 1_000);
    addEventListener('scroll', this.#scrolledAround, { capture: true, passive: true });
    if (this.hasUpdated) this.#model.open();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearInterval(this.#ticking);
    removeEventListener('scroll', this.#scrolledAround, { capture: true });
    this.#model.end();
  }

  #tick(): void {
    this.#model.followToday();
    this.requestUpdate();
  }

  /** Shows the day that is `days` later. */
  go(days: number): void {
    const date = this.#model.place?.date ?? this.date;
    if (!date) return;
    this.date = shifted(date, days);
    this.dispatchEvent(new CustomEvent('daychange', { detail: { date: this.date }, bubbles: true, composed: true }));
  }

  #settings(): Settings {
    const [sedeId, spazioId] = [Number(this.sede), Number(this.spazio)];
    const language = this.lang || this.closest?.('[lang]')?.getAttribute('lang') || globalThis.navigator?.language;
    return {
      url: this.url || undefined,
      token: this.token,
      client: this.client,
      place: sedeId > 0 && spazioId > 0 ? { sedeId, spazioId } : undefined,
      date: this.date || undefined,
      language,
      texts: this.texts,
    };
  }

  // Drawing: at most once a frame, however much happens.

  protected override async scheduleUpdate(): Promise<void> {
    if (this.hasUpdated && document.visibilityState === 'visible') await new Promise(requestAnimationFrame);
    super.scheduleUpdate();
  }

  protected override willUpdate(changes: PropertyValues): void {
    if (!this.hasUpdated || changes.size > 0) this.#model.set(this.#settings());
    this.#focusedBefore = (this.renderRoot as ShadowRoot | undefined)?.activeElement ?? null;
  }

  override render(): TemplateResult {
    const press = (what: string, run: () => void) => this.#press(what, run);
    const model = this.#model;
    if (!model.day) return html`${nothing}`;
    return html`
      ${heading(model, this.name || undefined, press, (days) => this.go(days))}
      <div class="frame" part="board" @scroll=${(event: Event) => this.#scrolled(event.target as Element)}><div class="day">${column(model, this.#actions, this.#most)}</div></div>
      ${bookings(model, press)} ${dock(model, press)}
      <p id="live" class="unseen" role="status" aria-live="polite"></p>
    `;
  }

  protected override updated(): void {
    this.#placeNow();
    this.#placeHandles();
    this.#keepFocus();
    if (this.#isToScroll) this.#showNext();
    if (this.#most >= this.#model.slots.length) return;
    this.#most += ROWS_A_FRAME;
    this.requestUpdate();
  }

  /** When the focused control is gone, the focus goes to the day: a browser would move it to the top of the page. */
  #keepFocus(): void {
    const before = this.#focusedBefore;
    this.#focusedBefore = null;
    if (before && !before.isConnected && document.activeElement === document.body) this.#focusSlot(this.#model.focused);
  }

  /** The line of the present, where the day is today. Set here: the policy of a page may forbid styles in markup. */
  #placeNow(): void {
    const line = this.renderRoot.querySelector<HTMLElement>('.now');
    if (!line) return;
    const now = this.#model.client.now();
    const index = this.#model.slots.findIndex(({ startsAt, endsAt }) => startsAt !== null && endsAt !== null && startsAt <= now && now < endsAt);
    const [slot, row] = [this.#model.slots[index], this.#rows()[index]];
    line.hidden = !slot || !row;
    if (!slot || !row) return;
    const share = (now - (slot.startsAt ?? 0)) / ((slot.endsAt ?? 1) - (slot.startsAt ?? 0));
    line.style.top = `${row.offsetTop + share * row.offsetHeight}px`;
  }

  #placeHandles(): void {
    const choice = this.#model.choice;
    const chosen = choice ? this.#model.slots.flatMap((slot, index) => (isIn(choice, slot) ? [index] : [])) : [];
    const rows = this.#rows();
    for (const handle of this.renderRoot.querySelectorAll<HTMLElement>('.handle')) {
      const isFrom = handle.dataset['end'] === 'from';
      const row = rows[chosen.at(isFrom ? 0 : -1) ?? -1];
      handle.hidden = !row;
      if (row) handle.style.top = `${row.offsetTop + (isFrom ? 0 : row.offsetHeight)}px`;
    }
  }

  #rows(): HTMLElement[] {
    return [...this.renderRoot.querySelectorAll<HTMLElement>('.slot')];
  }

  #opened(): void {
    const first = this.#model.slots.findIndex(({ status }) => status === 'available');
    this.#model.focused = Math.max(first, 0);
    this.#isToScroll = true;
    this.#most = this.#model.focused + ROWS_A_FRAME;
    this.requestUpdate();
  }

  /** The first free slot after now is in view when the board opens; only the board itself is scrolled. */
  #showNext(): void {
    const [frame, row] = [this.renderRoot.querySelector('.frame'), this.#rows()[this.#model.focused]];
    if (!frame || !row) return;
    this.#isToScroll = false;
    frame.scrollTop = Math.max(0, row.offsetTop - frame.clientHeight / 4);
  }

  // Pointer

  /** Whether a press counts: not where something else stood a moment ago. */
  #admits(what: string, event: MouseEvent): boolean {
    // A click by the keyboard has no place on the screen.
    if (event.detail === 0) return true;
    return this.#guard.admits({ what, x: event.clientX, y: event.clientY, at: Date.now() }, () => this.#boxes());
  }

  #boxes(): ReadonlyMap<string, Box> {
    const boxes = new Map<string, Box>();
    for (const button of this.renderRoot.querySelectorAll<HTMLElement>('[data-press]')) {
      boxes.set(button.dataset['press'] ?? '', button.getBoundingClientRect());
    }
    this.#scrollable = new Map(this.#around().map((scroller) => [scroller, rangeOf(scroller)]));
    for (const row of this.#rows()) boxes.set(this.#nameOf(row.dataset['slot']), row.getBoundingClientRect());
    return boxes;
  }

  /** A person who scrolls moves the rows knowingly. If the scrollable length has changed, the rows moved by themselves. */
  #scrolled(scroller: Element): void {
    if (this.#scrollable.get(scroller) === rangeOf(scroller)) this.#guard.forget();
  }

  /** Scroll events do not bubble: those of the page and of what is around the board are caught on their way down. */
  readonly #scrolledAround = ({ target }: Event): void =>
    this.#scrolled(target === document ? (document.scrollingElement as Element) : (target as Element));

  /** The frame of the rows, and everything that it is in. */
  #around(): Element[] {
    const around: Element[] = [];
    let next: Element | null = this.renderRoot.querySelector('.frame');
    while (next) {
      around.push(next);
      const parent: Node | null = next.parentNode;
      next = parent instanceof ShadowRoot ? parent.host : next.parentElement;
    }
    return around;
  }

  #nameOf(slot: string | undefined): string {
    const { sedeId, spazioId, date } = this.#model.place ?? {};
    return `slot ${sedeId} ${spazioId} ${date} ${slot}`;
  }

  #press(what: string, run: () => void): (event: MouseEvent) => void {
    return (event) => {
      const isOff = (event.currentTarget as HTMLElement).getAttribute('aria-disabled') === 'true';
      if (this.#admits(what, event) && !isOff) run();
    };
  }

  #clicked(slot: Slot, event: MouseEvent): void {
    // The click that ends a drag is not a tap.
    if (this.#isDragging) {
      this.#isDragging = false;
      return;
    }
    if (!this.#admits(this.#nameOf(String(slot.number)), event)) return;
    this.#model.focused = this.#model.slots.indexOf(slot);
    if (!this.#model.mayChoose(slot)) {
      if (slot.mine) this.#openCard(slot);
    } else if (event.shiftKey && this.#model.choice) this.#model.extend(slot);
    else this.#model.tap(slot);
    this.requestUpdate();
  }

  #pointerDown(slot: Slot, event: PointerEvent): void {
    this.#isDragging = false;
    // A finger scrolls; a mouse or a pen drags a range.
    if (event.pointerType === 'touch' || event.button !== 0 || event.shiftKey) return;
    const start = this.#model.mayChoose(slot) ? this.#model.begun(slot) : null;
    if (start) this.#drag(start, slot);
  }

  #handleDown(end: 'from' | 'to', event: PointerEvent): void {
    const start = this.#model.heldAt(end === 'from' ? 'to' : 'from');
    event.preventDefault();
    if (start) this.#drag(start, null);
  }

  /** Follows the pointer until it is let go: the range from `start` to the slot under it. */
  #drag(start: Choice, at: Slot | null): void {
    const ending = new AbortController();
    const { signal } = ending;
    const move = (event: PointerEvent) => {
      const over = this.#slotAt(event);
      if (!over || (over.number === at?.number && !this.#isDragging)) return;
      this.#isDragging = at !== null;
      this.#model.extend(over, start);
    };
    addEventListener('pointermove', move, { signal });
    for (const name of ['pointerup', 'pointercancel']) addEventListener(name, () => ending.abort(), { signal });
  }

  #slotAt({ clientX, clientY }: PointerEvent): Slot | undefined {
    const under = (this.renderRoot as ShadowRoot).elementsFromPoint(clientX, clientY);
    const row = under.map((element) => element.closest<HTMLElement>('.slot')).find((one) => one !== null);
    return this.#model.slots.find(({ number }) => String(number) === row?.dataset['slot']);
  }

  // Focus and words

  /** The card of an own hold, or the row of an own booking: its first act gets the focus. */
  #openCard(slot: Slot): void {
    const isOf = (card: HTMLElement) => card.dataset['slots']?.split(' ').includes(String(slot.number));
    const card = [...this.renderRoot.querySelectorAll<HTMLElement>('.card')].find(isOf);
    const first = card?.querySelector<HTMLElement>('button.primary') ?? this.renderRoot.querySelector<HTMLElement>('.bookings button');
    first?.focus();
  }

  #focusSlot(index: number): void {
    this.#model.focused = index;
    this.requestUpdate();
    void this.updateComplete.then(() => this.#rows()[index]?.focus());
  }

  #emit(name: string, detail: BoardEventDetail): void {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  /** Tells a screen reader, politely. */
  #say(sentence: string): void {
    const live = this.renderRoot?.querySelector('#live');
    // The same sentence again is a change, too, or nothing would be told.
    if (live) live.textContent = live.textContent === sentence ? `${sentence}\u00a0` : sentence;
  }
}

/** How far an element can be scrolled, in pixels. */
function rangeOf({ scrollHeight, clientHeight }: Element): number {
  return scrollHeight - clientHeight;
}

function shifted(date: DayDate, days: number): DayDate {
  const day = new Date(`${date}T12:00:00Z`);
  day.setUTCDate(day.getUTCDate() + days);
  return day.toISOString().slice(0, 10);
}
