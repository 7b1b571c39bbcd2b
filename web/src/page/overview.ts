/** Beside the board: the user's holds and bookings in all spaces. Staff also see how many people are connected. */

import type { Client } from '../client.js';
import type { DayDate, SpaceId } from '../core/protocol.js';
import type { Booking, Schema } from '../http.js';
import { countdown, dayName } from '../element/times.js';
import type { Where } from './address.js';
import { element, make, setText } from './dom.js';
import type { PageTexts } from './texts.js';

/** The content of `stats`. */
interface Stats {
  readonly connectedUsers?: number;
  readonly totalSockets?: number;
  readonly roomCount?: number;
}

/** How long changes are gathered before the lists are read again, in ms. */
const GATHER_MS = 300;

/** The lists beside the board. */
export class Overview {
  readonly #client: Client;
  readonly #texts: () => PageTexts;
  readonly #nameOf: (space: SpaceId) => string;
  readonly #go: (where: Where) => void;
  #holds: readonly Schema<'OwnHold'>[] = [];
  #bookings: readonly Booking[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #user: string | null | undefined;

  constructor(client: Client, texts: () => PageTexts, nameOf: (space: SpaceId) => string, go: (where: Where) => void) {
    this.#client = client;
    this.#texts = texts;
    this.#nameOf = nameOf;
    this.#go = go;
    client.on('slots_freed', () => this.refresh());
    client.on('slot_taken', () => this.refresh());
    client.on('stats', (stats: Stats) => this.#drawStats(stats));
    client.on('connection_confirmed', () => this.#begin());
  }

  /** Reads the lists again, soon. */
  refresh(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#read();
    }, GATHER_MS);
  }

  #begin(): void {
    const { userId, isStaff } = this.#client.state;
    // Nothing of another user is shown, not even until the next answer.
    if (userId !== this.#user) [this.#holds, this.#bookings] = [[], []];
    this.#user = userId;
    element('stats-panel').hidden = true;
    if (isStaff) this.#client.request('watch_stats', {}).catch(() => undefined);
    this.draw();
    this.refresh();
  }

  async #read(): Promise<void> {
    const user = this.#client.state.userId;
    if (!user) return;
    const [holds, bookings] = await Promise.all([
      this.#client.calls.call('GET', '/api/holds').catch(() => null),
      this.#client.calls.bookings().catch(() => null),
    ]);
    if (user !== this.#client.state.userId) return;
    this.#holds = holds?.holds ?? this.#holds;
    this.#bookings = bookings ?? [];
    this.draw();
  }

  draw(): void {
    const texts = this.#texts();
    const now = this.#client.now();
    const live = this.#holds.filter(({ heldUntil }) => Date.parse(heldUntil) > now);
    fill(element('holds'), live, (hold) => this.#row(hold, countdown(Date.parse(hold.heldUntil) - now)));
    element('no-holds').hidden = live.length > 0;
    setText(element('no-holds'), texts.noHolds);
    fill(element('bookings'), this.#bookings.slice(0, 20), (booking) => this.#row(booking, booking.orario));
    element('bookings-panel').hidden = this.#bookings.length === 0;
  }

  /** A row that leads to where it is. The words before the time are the same for as long as it is the same hold. */
  #row({ sedeId, spazioId, date }: Where & { date: DayDate }, time: string): HTMLLIElement {
    const button = make('button');
    button.type = 'button';
    const day = dayName(date, document.documentElement.lang);
    button.append(make('span', 'what', `${day} · ${this.#nameOf({ sedeId, spazioId })}`), make('span', 'time', time));
    button.addEventListener('click', () => this.#go({ sedeId, spazioId, date }));
    const item = make('li');
    item.append(button);
    return item;
  }

  #drawStats({ connectedUsers, totalSockets, roomCount }: Stats): void {
    const texts = this.#texts();
    const rows = [[texts.users, connectedUsers], [texts.sockets, totalSockets], [texts.rooms, roomCount]] as const;
    const list = element('stats');
    list.replaceChildren(
      ...rows.map(([name, value]) => {
        const row = make('div');
        row.append(make('dt', '', name), make('dd', '', Number(value ?? 0).toLocaleString(document.documentElement.lang)));
        return row;
      }),
    );
    element('stats-panel').hidden = false;
  }
}

/** Draws a list anew only where it names other things: a row keeps the focus while it counts down. */
function fill<T>(list: HTMLElement, things: readonly T[], rowOf: (thing: T) => HTMLLIElement): void {
  const rows = things.map(rowOf);
  const partOf = (row: Element, name: string) => row.querySelector(`.${name}`) as Element;
  const isSame =
    rows.length === list.children.length &&
    rows.every((row, index) => partOf(row, 'what').textContent === partOf(list.children[index] as Element, 'what').textContent);
  if (!isSame) list.replaceChildren(...rows);
  else rows.forEach((row, index) => setText(partOf(list.children[index] as Element, 'time'), partOf(row, 'time').textContent ?? ''));
}
