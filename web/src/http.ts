/** Calls over HTTP, beside the socket: typed by the document that the server gives of its calls. */

import type { DayDate, SpaceId, WireBoard } from './core/protocol.js';
import type { components, paths } from './generated/api.js';
import { Refusal } from './refusal.js';

/** How long a call may take, in ms. */
const CALL_MS = 15_000;

/** A type that the server's document names: `Schema<'OwnHold'>`. */
export type Schema<Name extends keyof components['schemas']> = components['schemas'][Name];

/** A registered space. */
export type SpaceListing = Readonly<Schema<'ListedSpace'>>;

/** An own booking. Instants are RFC 3339. */
export type Booking = Readonly<Schema<'OwnBooking'>>;

/** A change of slots by staff. */
export interface SlotChange extends SpaceId {
  readonly date: DayDate;
  readonly slots: readonly number[];
  readonly status: 'available' | 'booked' | 'blocked';
  /** Kept with the slots, and shown to everybody. */
  readonly data?: Readonly<Record<string, unknown>>;
  /** The user who gets the slots, with the status `booked`. */
  readonly user?: string | number;
}

/** The options of a call. */
export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** The paths of the server's document that know a method. */
export type Path<M extends Method> = {
  [P in keyof paths]: paths[P] extends { [Name in Lowercase<M>]: { responses: { 200: object } } } ? P : never;
}[keyof paths];

type Operation<M extends Method, P extends Path<M>> = paths[P][Lowercase<M> & keyof paths[P]];

type Parameters<O, Kind extends string> = O extends { parameters: { [K in Kind]: infer Given extends object } }
  ? { readonly [K in Kind]: Given }
  : O extends { parameters: { [K in Kind]?: infer Given } }
    ? { readonly [K in Kind]?: Exclude<Given, undefined> }
    : object;

type Body<O> = O extends { requestBody: { content: { 'application/json': infer Given } } }
  ? { readonly body: Given }
  : O extends { requestBody?: { content: { 'application/json': infer Given } } }
    ? { readonly body?: Given }
    : object;

/**
 * The input of a call: the parameters of its path and query, its body, and the key under which a repeat gets the first
 * answer.
 */
export type Input<M extends Method, P extends Path<M>> = Parameters<Operation<M, P>, 'path'> &
  Parameters<Operation<M, P>, 'query'> &
  Body<Operation<M, P>> & { readonly idempotencyKey?: string };

/** The `data` of a call's answer. */
export type Output<M extends Method, P extends Path<M>> =
  Operation<M, P> extends { responses: { 200: { content: { 'application/json': { data: infer Given } } } } } ? Given : unknown;

/** May be left out if no field of it is required. */
type Given<I> = object extends I ? [input?: I] : [input: I];

/** The calls of one node. */
export class Calls {
  readonly #base: string;
  readonly #token: () => Promise<string | null | undefined>;

  /** `base` is the node's address. Empty means the origin of the page. */
  constructor(base: string, token: () => Promise<string | null | undefined>) {
    this.#base = base.replace(/\/+$/, '');
    this.#token = token;
  }

  /**
   * Calls, and gives the answer's `data`: `call('PUT', '/api/slots/{id}', { path: { id: 3 }, body: { … } })`.
   *
   * @throws {Refusal}
   */
  async call<M extends Method, P extends Path<M>>(method: M, path: P, ...[input]: Given<Input<M, P>>): Promise<Output<M, P>> {
    const { path: names, query, body, idempotencyKey } = (input ?? {}) as AnyInput;
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(names?.[name])));
    const words = new URLSearchParams(Object.entries(query ?? {}).filter(([, value]) => value !== undefined));
    const token = await this.#token();
    const headers = {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
      ...(idempotencyKey && { 'idempotency-key': idempotencyKey }),
    };
    const request = { method, headers, signal: AbortSignal.timeout(CALL_MS), ...(body && { body: JSON.stringify(body) }) };
    const response = await fetch(`${this.#base}${filled}${query ? `?${words}` : ''}`, request).catch(() => {
      throw new Refusal('offline', 'No connection');
    });
    const answer = Object(await response.json().catch(() => null)) as Answer<Output<M, P>>;
    if (answer.success === true) return answer.data;
    throw new Refusal(answer.code ?? 'unavailable', answer.error ?? `HTTP ${response.status}`, answer.conflicts);
  }

  /** The board of a day. */
  async board({ sedeId, spazioId: idSpazio }: SpaceId, date: DayDate): Promise<WireBoard> {
    const board = await this.call('GET', '/api/slots/{idSpazio}/{date}', { path: { idSpazio, date }, query: { sedeId } });
    // The document says only that this is a text, and the contract lists its values.
    return board as unknown as WireBoard;
  }

  /** What the server tells of a space. */
  describe({ sedeId, spazioId: idSpazio }: SpaceId): Promise<Schema<'SpaceAnswer'>> {
    return this.call('GET', '/api/spaces/{sedeId}/{idSpazio}', { path: { sedeId, idSpazio } });
  }

  /** The registered spaces, all pages of them. */
  spaces(sedeId?: number): Promise<SpaceListing[]> {
    return allPages(async (after) => {
      const { spaces, next } = await this.call('GET', '/api/spaces', { query: { ...(sedeId && { sedeId }), ...after } });
      return [spaces, next];
    });
  }

  /** The own bookings from today on, or of the given days. */
  bookings(days: { from?: DayDate; to?: DayDate } = {}): Promise<Booking[]> {
    return allPages(async (after) => {
      const page = await this.call('GET', '/api/bookings', { query: { ...days, ...after } });
      return ['bookings' in page ? page.bookings : [], page.next];
    });
  }

  /** Changes slots as staff, all or none. */
  async change({ sedeId, spazioId: idSpazio, date, slots, status, data, user }: SlotChange): Promise<void> {
    const change = { idSpazio, sedeId, date, slots: [...slots], status };
    const more = { ...(data && { data }), ...(user !== undefined && { id_utente: user }) };
    await this.call('PUT', '/api/slots', { body: { ...change, ...more } });
  }
}

/** Reads page after page. Each answer tells where the next page begins. */
async function allPages<T>(read: (after: { after?: string }) => Promise<[T[], string | null | undefined]>): Promise<T[]> {
  const all: T[] = [];
  let after: { after?: string } = {};
  for (;;) {
    const [page, next] = await read(after);
    all.push(...page);
    if (!next) return all;
    after = { after: next };
  }
}

interface AnyInput {
  readonly path?: Readonly<Record<string, unknown>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: object;
  readonly idempotencyKey?: string;
}

interface Answer<T> {
  readonly success?: boolean;
  readonly data: T;
  readonly error?: string;
  readonly code?: string;
  readonly conflicts?: number[];
}
