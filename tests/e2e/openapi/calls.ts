// Every operation of the OpenAPI document, called through openapi-fetch with the types that openapi-typescript makes of the
// document: what does not fit the types does not compile.

import createClient from 'openapi-fetch';

import type { components, paths } from './schema.js';

type Closure = components['schemas']['Closure'];

const [, , baseUrl, user, staff, date] = process.argv as string[];
const as = (token: string) => ({ Authorization: `Bearer ${token}` });
const anyone = createClient<paths>({ baseUrl });
const own = createClient<paths>({ baseUrl, headers: as(user) });
const house = createClient<paths>({ baseUrl, headers: as(staff) });

const done: string[] = [];

/** Gives the data of an answer. A refusal throws. */
function take<T>(operation: string, answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.data === undefined) throw new Error(`${operation}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  done.push(operation);
  return answer.data;
}

// An id may be a number or its digits.
const site = '1';
const space = 77;
const path = { sedeId: site, idSpazio: space };
const closures: Closure[] = ['2026-12-25', { from: '2026-08-10', to: '2026-08-21' }, { weekday: 'sunday' }];
const registered = take('put_space', await house.PUT('/api/spaces/{sedeId}/{idSpazio}', { params: { path }, body: { name: 'Sala', closures } }));
if (!('closures' in registered.data)) throw new Error('no trial was asked for');
const read: Closure[] = registered.data.closures;
if (JSON.stringify(read) !== JSON.stringify(closures)) throw new Error(`closures: ${JSON.stringify(read)}`);
take('read_space', await anyone.GET('/api/spaces/{sedeId}/{idSpazio}', { params: { path } }));

const board = take('read_board', await own.GET('/api/slots/{idSpazio}/{date}', { params: { path: { idSpazio: space, date }, query: { sedeId: site } } }));
const statuses: string[] = board.data.slots.map(({ status }) => status);
if (statuses.length !== 9) throw new Error(`a board of ${statuses.length} slots`);

const one = { idSpazio: space, sedeId: site, date };
const header = { 'Idempotency-Key': 'a-key-of-this-call' };
const held = take('hold_slot', await own.POST('/api/slots/{id}/hold', { params: { path: { id: 1 }, header }, body: { ...one, holdSeconds: 60 } }));
const token: string | undefined = held.data.holdToken;
take('extend_slot', await own.POST('/api/slots/{id}/extend', { params: { path: { id: 1 } }, body: { ...one, holdToken: token } }));
const holds = take('list_holds', await own.GET('/api/holds'));
if (holds.data.holds[0].holdToken !== token) throw new Error('another hold');
take('book_slot', await own.POST('/api/slots/{id}/book', { params: { path: { id: 1 } }, body: one }));
take('release_slot', await house.POST('/api/slots/{id}/release', { params: { path: { id: 1 } }, body: one }));
const some = { ...one, idSpazio: '77', slots: [2, 3] };
const many = take('hold_slots', await own.POST('/api/slots/hold', { body: some }));
const version: number = many.data.version;
take('extend_slots', await own.POST('/api/slots/extend', { body: some }));
take('book_slots', await own.POST('/api/slots/book', { body: some }));
take('release_slots', await house.POST('/api/slots/release', { body: some }));
take('update_slot', await house.PUT('/api/slots/{id}', { params: { path: { id: 5 } }, body: { ...one, status: 'blocked', data: { note: 'x' } } }));
take('update_slots', await house.PUT('/api/slots', { body: { ...one, slots: [6, 7], status: 'booked', id_utente: 7 } }));
take('list_bookings', await own.GET('/api/bookings'));
take('update_slots', await house.PUT('/api/slots', { body: { ...one, slots: [6, 7], status: 'available' } }));
const spaces = take('list_spaces', await anyone.GET('/api/spaces', { params: { query: { sedeId: site } } }));
if (!spaces.data.spaces.some(({ name }) => name === 'Sala')) throw new Error('the space is not listed');
const query = { epoch: many.data.epoch, version };
take('list_changes', await house.GET('/api/spaces/{sedeId}/{idSpazio}/changes', { params: { path, query } }));
take('show_board', await house.POST('/api/spaces/{sedeId}/{idSpazio}/broadcast', { params: { path }, body: { date } }));
take('update_slot', await house.PUT('/api/slots/{id}', { params: { path: { id: 5 } }, body: { ...one, status: 'available' } }));
const trial = take('delete_space', await house.DELETE('/api/spaces/{sedeId}/{idSpazio}', { params: { path, query: { dryRun: true } } }));
const affected: { date: string; slots: number[] }[] | undefined = 'affected' in trial.data ? trial.data.affected : undefined;
if (affected?.length !== 0) throw new Error(`a trial that affects ${JSON.stringify(affected)}`);
const longer = take('put_space', await house.PUT('/api/spaces/{sedeId}/{idSpazio}', { params: { path, query: { dryRun: true } }, body: { closes: '20:00' } }));
if (!('affected' in longer.data)) throw new Error('a trial was asked for');
take('delete_space', await house.DELETE('/api/spaces/{sedeId}/{idSpazio}', { params: { path } }));

const notified = take('notify_user', await house.POST('/api/users/{id}/notify', { params: { path: { id: '7' } }, body: { event: 'news', data: [1] } }));
const whom: number | string = notified.data.id_utente;
if (whom !== 7) throw new Error(`user ${whom}`);
take('disconnect_user', await house.POST('/api/users/{id}/disconnect', { params: { path: { id: '7' } } }));
const kept = take('export_user', await own.GET('/api/users/{id}/data', { params: { path: { id: '7' } } }));
const names: string[] = kept.data.notifications.map(({ event }) => event);
if (!names.includes('news')) throw new Error(`notifications ${names}`);
const erased = take('erase_user', await house.DELETE('/api/users/{id}/data', { params: { path: { id: '7' }, query: { force: true } } }));
const cancelled: number = erased.data.cancelled;
if (cancelled !== 0) throw new Error(`${cancelled} bookings`);
take('broadcast', await house.POST('/api/broadcast', { body: { event: 'news', data: {} } }));
take('sweep', await house.POST('/api/sweep'));
take('read_journal', await house.GET('/api/journal', { params: { query: { sedeId: site, limit: 10 } } }));
take('read_stats', await house.GET('/api/stats'));
take('read_openapi', await anyone.GET('/api/openapi.json'));
take('check_alive', await anyone.GET('/healthz'));
take('check_ready', await anyone.GET('/readyz'));

const refused = await own.POST('/api/slots/{id}/book', { params: { path: { id: 4 } }, body: one });
const code: string | undefined = refused.error?.code;
if (code === undefined || refused.response.status !== 404) throw new Error(`not refused: ${code}`);

process.stdout.write(JSON.stringify(done));
