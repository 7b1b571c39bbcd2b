/** The address of the page: `#sede=1&spazio=2&giorno=2027-03-01`, and at first perhaps `&token=…`. */

import type { DayDate, SpaceId } from '../core/protocol.js';
import { LAST_PLACE, recall, remember } from './memory.js';

/** Where the page is. Without a day it shows today. */
export interface Where extends SpaceId {
  readonly date: DayDate | undefined;
}

/** What the address names; for what it does not, where the page was last. */
export function readAddress(): { readonly where: Where; readonly token: string | undefined } {
  const hash = new URLSearchParams(location.hash.slice(1));
  const last = lastPlace();
  const date = hash.get('giorno');
  const where = {
    sedeId: idFrom(hash.get('sede')) ?? last.sedeId,
    spazioId: idFrom(hash.get('spazio')) ?? last.spazioId,
    date: isDate(date) ? date : undefined,
  };
  return { where, token: hash.get('token') || undefined };
}

/** Writes the address, without a token: it stays neither in the bar nor in the history. */
export function writeAddress(where: Where, how: 'push' | 'replace'): void {
  const { sedeId, spazioId, date } = where;
  const hash = `#sede=${sedeId}&spazio=${spazioId}${date ? `&giorno=${date}` : ''}`;
  if (how === 'push' && hash !== location.hash) history.pushState(null, '', hash);
  else history.replaceState(null, '', hash);
  remember(LAST_PLACE, JSON.stringify({ sedeId, spazioId }));
}

function lastPlace(): SpaceId {
  try {
    const { sedeId, spazioId } = Object(JSON.parse(recall(LAST_PLACE) ?? '{}')) as Record<string, unknown>;
    return { sedeId: idFrom(sedeId) ?? 1, spazioId: idFrom(spazioId) ?? 1 };
  } catch {
    return { sedeId: 1, spazioId: 1 };
  }
}

function idFrom(value: unknown): number | undefined {
  return /^[1-9][0-9]{0,14}$/.test(String(value ?? '')) ? Number(value) : undefined;
}

function isDate(text: string | null): text is string {
  return /^\d{4}-\d{2}-\d{2}$/.test(text ?? '') && !Number.isNaN(Date.parse(text ?? ''));
}
