// What the compiler has to say of calls: nothing of this runs. `npm run check` reads it.

import type { Calls, Schema } from '../../src/index.js';

declare const calls: Calls;

const slots = { idSpazio: 1, sedeId: 1, date: '2027-03-01', slots: [1] };

export async function whatIsRight(): Promise<void> {
  const { holds } = await calls.call('GET', '/api/holds');
  const held: string[] = holds.map((hold: Schema<'OwnHold'>) => hold.heldUntil);
  const { version } = await calls.call('PUT', '/api/slots', { body: { ...slots, status: 'blocked' }, idempotencyKey: 'a' });
  await calls.call('PUT', '/api/slots/{id}', { path: { id: 3 }, body: { ...slots, status: 'available' } });
  const journal = await calls.call('GET', '/api/journal', { query: { sedeId: version, limit: held.length } });
  journal.entries.map(({ act }) => act.toUpperCase());
  await calls.call('DELETE', '/api/spaces/{sedeId}/{idSpazio}', { path: { sedeId: 1, idSpazio: 2 } });
}

export async function whatIsWrong(): Promise<void> {
  // @ts-expect-error: there is no such call.
  await calls.call('GET', '/api/hold');
  // @ts-expect-error: it is not asked with this method.
  await calls.call('POST', '/api/slots', { body: { ...slots, status: 'blocked' } });
  // @ts-expect-error: a path with a name in it needs the name.
  await calls.call('PUT', '/api/slots/{id}', { body: { ...slots, status: 'available' } });
  // @ts-expect-error: the body is required.
  await calls.call('PUT', '/api/slots');
  // @ts-expect-error: the body is not complete.
  await calls.call('PUT', '/api/slots', { body: { status: 'blocked' } });
  // @ts-expect-error: a hold has no such field.
  (await calls.call('GET', '/api/holds')).holds.map(({ until }) => until);
}
