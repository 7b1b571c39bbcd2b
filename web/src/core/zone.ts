/** Local times of a time zone as instants, for a server that tells local times alone. */

const FORMATS = new Map<string, Intl.DateTimeFormat>();

/** The instant at which the clocks of a zone show a time of a day; of two such instants the first. */
export function instantOf(date: string, time: string, timeZone: string): number {
  const wanted = Date.parse(`${date}T${time}:00Z`);
  // The offset before and after a change of the clocks: one of the two leads to the instant.
  const first = wanted - offsetAt(wanted - DAY_MS / 2, timeZone);
  const second = wanted - offsetAt(wanted + DAY_MS / 2, timeZone);
  return first + offsetAt(first, timeZone) === wanted ? first : second;
}

const DAY_MS = 86_400_000;

/** How far the clocks of a zone are ahead of UTC, in ms. */
function offsetAt(instant: number, timeZone: string): number {
  const parts = Object.fromEntries(formatOf(timeZone).formatToParts(instant).map(({ type, value }) => [type, value]));
  const { year, month, day, hour, minute, second } = parts;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`) - Math.floor(instant / 1_000) * 1_000;
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = FORMATS.get(timeZone);
  if (known) return known;
  const two = '2-digit';
  const format = new Intl.DateTimeFormat('en-CA', {
    timeZone, hourCycle: 'h23', year: 'numeric', month: two, day: two, hour: two, minute: two, second: two,
  });
  FORMATS.set(timeZone, format);
  return format;
}
