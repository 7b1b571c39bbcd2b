/** Calls over HTTP, beside the socket. */

import type { DayDate, SpaceId, Status, WireBoard, WireDescription } from './core/protocol.js';
import { Refusal } from './refusal.js';

/** How long a call may take. */
const CALL_MS = 15_000;

/** A registered space. */
export interface SpaceListing extends SpaceId {
  readonly name?: string | null;
  readonly timezone: string;
  readonly opens: string;
  readonly closes: string;
  readonly slotMinutes: number;
  readonly holdMinutes?: number | null;
}

/** An own booking. Instants are RFC 3339. */
export interface Booking extends SpaceId {
  readonly date: DayDate;
  readonly slotId: number;
  readonly orario: string;
  readonly startsAt: string;
  readonly endsAt: string;
  readonly bookedAt?: string | null;
  /** Until when it can be cancelled; `null`: never. */
  readonly cancelUntil?: string | null;
}

/** What staff does to slots. */
export interface SlotChange extends SpaceId {
  readonly date: DayDate;
  readonly slots: readonly number[];
  readonly status: Exclude<Status, 'occupied' | 'past'>;
  /** Kept with the slots, and shown to everybody. */
  readonly data?: Readonly<Record<string, unknown>>;
  /** With `booked`: for whom. */
  readonly user?: string | number;
}

/** The calls of one node. */
export class Calls {
  readonly #base: string;
  readonly #token: () => Promise<string | null | undefined>;

  /** `base` is the node's address, empty for that of the page. */
  constructor(base: string, token: () => Promise<string | null | undefined>) {
    this.#base = base.replace(/\/+$/, '');
    this.#token = token;
  }

  /**
   * Calls, and gives the answer's `data`.
   *
   * @throws {Refusal}
   */
  async call<T>(method: string, path: string, body?: object): Promise<T> {
    const token = await this.#token();
    const headers = {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
    };
    const request = { method, headers, signal: AbortSignal.timeout(CALL_MS), ...(body && { body: JSON.stringify(body) }) };
    const response = await fetch(`${this.#base}${path}`, request).catch(() => {
      throw new Refusal('offline', 'No connection');
    });
    const answer = Object(await response.json().catch(() => null)) as Answer<T>;
    if (answer.success === true) return answer.data;
    throw new Refusal(answer.code ?? 'unavailable', answer.error ?? `HTTP ${response.status}`, answer.conflicts);
  }

  board({ sedeId, spazioId }: SpaceId, date: DayDate): Promise<WireBoard> {
    return this.call('GET', `/api/slots/${spazioId}/${date}?sedeId=${sedeId}`);
  }

  describe({ sedeId, spazioId }: SpaceId): Promise<WireDescription> {
    return this.call('GET', `/api/spaces/${sedeId}/${spazioId}`);
  }

  /** The registered spaces, all pages of them. */
  async spaces(sedeId?: number): Promise<SpaceListing[]> {
    return this.#allOf('/api/spaces', sedeId === undefined ? {} : { sedeId: String(sedeId) }, 'spaces');
  }

  /** Own bookings, from today on or of some days. */
  async bookings(days: { from?: DayDate; to?: DayDate } = {}): Promise<Booking[]> {
    return this.#allOf('/api/bookings', days, 'bookings');
  }

  /** Changes slots as staff, all or none; a server of 0.1 takes them one by one. */
  async change({ sedeId, spazioId: idSpazio, date, slots, status, data, user }: SlotChange): Promise<void> {
    const change = { idSpazio, sedeId, date, status, ...(data && { data }), ...(user !== undefined && { id_utente: user }) };
    try {
      await this.call('PUT', '/api/slots', { ...change, slots });
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'not_found') throw error;
      for (const slot of slots) await this.call('PUT', `/api/slots/${slot}`, change);
    }
  }

  async #allOf<T>(path: string, query: Record<string, string>, name: string): Promise<T[]> {
    const all: T[] = [];
    let after: string | undefined;
    do {
      const words = new URLSearchParams({ ...query, ...(after && { after }) });
      const page: Page<T> = await this.call('GET', `${path}${words.size > 0 ? `?${words}` : ''}`);
      all.push(...(page[name] as T[]));
      after = page.next as string | undefined;
    } while (after);
    return all;
  }
}

type Page<T> = Readonly<Record<string, T[] | string | undefined>>;

interface Answer<T> {
  readonly success?: boolean;
  readonly data: T;
  readonly error?: string;
  readonly code?: string;
  readonly conflicts?: number[];
}
