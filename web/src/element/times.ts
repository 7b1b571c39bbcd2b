/**
 * Writes instants in the space's own zone, always as a span, and tells the two 02:00s of the night in which summer time
 * ends apart.
 */

import type { Slot } from '../core/state.js';
import type { Texts } from '../texts/index.js';

/** Tells the times of one day of one space. */
export class Times {
  readonly #texts: Texts;
  readonly #zone: string;
  readonly #clock: Intl.DateTimeFormat;
  readonly #named: Intl.DateTimeFormat;
  readonly #own: Intl.DateTimeFormat | null;
  readonly #ambiguous: ReadonlySet<string>;
  readonly #starts: readonly (number | null)[];
  readonly #told = new Map<number, string>();
  readonly #ownTold = new Map<number, string>();
  /** The names of slots with these times, for as long as the slots are the same objects. */
  readonly names = new WeakMap<Slot, string>();

  /** `slots` are those of the day: a start that comes twice among them is told with the zone's short name. */
  constructor(texts: Texts, zone: string | null, slots: readonly Slot[]) {
    this.#texts = texts;
    const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
    this.#zone = zone ?? own;
    this.#clock = clockOf(texts.language, this.#zone);
    this.#named = clockOf(texts.language, this.#zone, 'short');
    this.#own = own === this.#zone ? null : clockOf(texts.language, own);
    this.#starts = slots.map(({ startsAt }) => startsAt);
    this.#ambiguous = repeated(slots.map(({ orario }) => orario));
    // The server has told these: formatting a hundred instants takes longer than drawing their rows.
    for (const { startsAt, orario } of slots) if (startsAt !== null && !this.#ambiguous.has(orario)) this.#told.set(startsAt, orario);
  }

  /** Whether these slots have the times that this object was made for. */
  isOf(slots: readonly Slot[]): boolean {
    return slots.length === this.#starts.length && slots.every(({ startsAt }, index) => startsAt === this.#starts[index]);
  }

  /** `10:00`, or `02:00 (CEST)` where 02:00 comes twice. */
  start(slot: Slot): string {
    return slot.startsAt === null ? slot.orario : this.#at(slot.startsAt);
  }

  /** The end of a slot; `null` where it is unknown. */
  end({ endsAt }: Slot): string | null {
    return endsAt === null ? null : this.#at(endsAt);
  }

  /** `10:00–11:00` of one slot, or from the first to the last of several neighbours. */
  span(first: Slot, last: Slot = first): string {
    if (last.endsAt === null) return this.start(first);
    return this.#texts.span(this.start(first), this.#at(last.endsAt));
  }

  /** The spans of slots, neighbours as one: `10:00–12:00, 14:00–15:00`. */
  spans(slots: readonly Slot[]): string {
    return neighbours(slots)
      .map((run) => this.span(run[0] as Slot, run.at(-1)))
      .join(', ');
  }

  /** A time of day by itself. */
  clock(instant: number): string {
    return this.#clock.format(instant);
  }

  /** The same span on the viewer's own clock; `null` if that clock shows the same time. */
  ownSpan(slot: Slot): string | null {
    if (this.#own === null || slot.startsAt === null || slot.endsAt === null) return null;
    const from = this.#ownAt(slot.startsAt, this.#own);
    return from === this.clock(slot.startsAt) ? null : this.#texts.span(from, this.#ownAt(slot.endsAt, this.#own));
  }

  /** The zone's name, if the viewer's clock differs from it at some slot of the day; else `null`. */
  foreignZone(slots: readonly Slot[]): string | null {
    return slots.some((slot) => this.ownSpan(slot) !== null) ? this.#zone : null;
  }

  #at(instant: number): string {
    const told = this.#told.get(instant) ?? this.#clockOf(instant);
    this.#told.set(instant, told);
    return told;
  }

  #ownAt(instant: number, own: Intl.DateTimeFormat): string {
    const told = this.#ownTold.get(instant) ?? own.format(instant);
    this.#ownTold.set(instant, told);
    return told;
  }

  #clockOf(instant: number): string {
    const plain = this.#clock.format(instant);
    if (!this.#ambiguous.has(plain)) return plain;
    const name = this.#named.formatToParts(instant).find(({ type }) => type === 'timeZoneName')?.value ?? '';
    return `${plain} (${name})`;
  }
}

/** `1 h 30 min` in words: `1 hour 30 minutes`. */
export function duration(texts: Texts, millis: number): string {
  const minutes = Math.round(millis / 60_000);
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  return [hours > 0 ? texts.hours(hours) : '', rest > 0 || hours === 0 ? texts.minutes(rest) : ''].filter(Boolean).join(' ');
}

/** `14:32`: minutes and seconds that are left. */
export function countdown(millis: number): string {
  const seconds = Math.max(0, Math.ceil(millis / 1_000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** Slots in runs of neighbours: each begins where the one before ends. */
export function neighbours(slots: readonly Slot[]): Slot[][] {
  const runs: Slot[][] = [];
  for (const slot of slots) {
    const run = runs.at(-1);
    if (run !== undefined && run.at(-1)?.endsAt === slot.startsAt && slot.startsAt !== null) run.push(slot);
    else runs.push([slot]);
  }
  return runs;
}

const FORMATS = new Map<string, Intl.DateTimeFormat>();

/** Formats are made once, because making one costs more than using it 100 times. */
export function formatOf(language: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = language + JSON.stringify(options);
  const format = FORMATS.get(key) ?? new Intl.DateTimeFormat(language, options);
  FORMATS.set(key, format);
  return format;
}

function clockOf(language: string, timeZone: string, timeZoneName?: 'short'): Intl.DateTimeFormat {
  const named = timeZoneName && { timeZoneName };
  return formatOf(language, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', timeZone, ...named });
}

/** A date in few words: `wed 2 Dec`. */
export function dayName(date: string, language: string): string {
  const format = { weekday: 'short', day: 'numeric', month: 'short', timeZone: 'UTC' } as const;
  return formatOf(language, format).format(new Date(`${date}T12:00:00Z`));
}

function repeated(texts: readonly string[]): ReadonlySet<string> {
  const seen = new Set<string>();
  return new Set(texts.filter((text) => seen.size === seen.add(text).size));
}
