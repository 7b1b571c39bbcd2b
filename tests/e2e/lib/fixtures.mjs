// Spaces, users and days that no other test has.

import assert from 'node:assert/strict';

let last = 0;

/** A number that is new in this process. That is enough, because each test file has a node of its own. */
export function freshNumber() {
  last += 1;
  return 1000 + last;
}

/** A fresh space, with the names that it has on the socket (`spazioId`) and over HTTP (`idSpazio`). */
export function freshSpace({ site = 1, date = day(7) } = {}) {
  const number = freshNumber();
  return {
    site,
    number,
    date,
    room: `spazio_${number}_sede_${site}`,
    /** The fields with which a socket event names the space. */
    event: (more = {}) => ({ spazioId: number, sedeId: site, date, ...more }),
    /** The fields with which an HTTP body names the space. */
    body: (more = {}) => ({ idSpazio: number, sedeId: site, date, ...more }),
    boardPath: (on = date) => `/api/slots/${number}/${on}?sedeId=${site}`,
    path: `/api/spaces/${site}/${number}`,
  };
}

/** The local day in `timezone` now, as `YYYY-MM-DD`. */
export const today = (timezone = 'Europe/Rome') => new Intl.DateTimeFormat('en-CA', { timeZone: timezone }).format(new Date());

/** By time zone: the day on which this process first asked for one. */
const firstDays = new Map();

/**
 * The local day in `timezone`, `offset` days from the first one that this process saw, as `YYYY-MM-DD`: a test that asks twice gets
 * the same day, also where it runs at midnight. The days are counted on the calendar: 24 hours from 23:30 of the day before the
 * clock goes forward are already the day after it.
 */
export function day(offset, timezone = 'Europe/Rome') {
  if (!firstDays.has(timezone)) firstDays.set(timezone, today(timezone));
  const date = new Date(`${firstDays.get(timezone)}T00:00:00Z`);
  date.setUTCDate(date.getUTCDate() + offset);
  return date.toISOString().slice(0, 10);
}

/** A time zone in which midnight is not near, so that "today" stays today. */
export function zoneFarFromMidnight() {
  const hourIn = (timeZone) =>
    Number(new Intl.DateTimeFormat('en-GB', { timeZone, hour: '2-digit', hourCycle: 'h23' }).format(new Date()));
  return ['UTC', 'Asia/Tokyo'].find((timeZone) => hourIn(timeZone) >= 2 && hourIn(timeZone) < 22);
}

/** RFC 3339 UTC with milliseconds. */
export const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** An entry of a board or a snapshot without `startsAt` and `endsAt`, of which the second must be later. */
export function timeless({ startsAt, endsAt, ...entry }) {
  assert.match(startsAt, TIMESTAMP);
  assert.match(endsAt, TIMESTAMP);
  assert.ok(startsAt < endsAt, `${startsAt} to ${endsAt}`);
  return entry;
}

/** The versions of events, in the order in which they came. */
export const versions = (events) => events.map((event) => event.version);

/** The whole numbers from `first` to `last`. */
export const range = (first, last) => Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
