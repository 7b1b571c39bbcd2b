// What the journal costs an act and an entry, by `benches/journal.rs`: the same acts on one Redis by turns, with the entry and
// without, and on a data file with and without.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { busyCores } from '../lib/measure.mjs';
import { REPOSITORY } from '../lib/processes.mjs';

export const title = 'the journal';

/** By how much of Redis's CPU an act may cost more, in percent. */
const GOAL_PERCENT = 10;

const execute = promisify(execFile);

export async function run(bench) {
  bench.busiest = Math.max(bench.busiest, await busyCores());
  const { redis, file } = await measure(bench.quick ? ['--quick'] : []);
  const lines = [
    ['CPU of Redis an act, without an entry', 'us', redis.microsWithout],
    ['the same, with an entry', 'us', redis.microsWith],
    ['more, median of pairs of turns', '%', redis.morePercent, `to reach ${GOAL_PERCENT}: ${redis.morePercent < GOAL_PERCENT ? 'yes' : 'no'}`],
    ['memory of Redis an entry', 'B', redis.bytesAnEntry],
    ['memory of Redis a person and month', 'B', redis.bytesAPerson],
    ['data file an entry', 'B', file.bytesAnEntry],
  ];
  for (const [name, unit, slotcast, note] of lines) bench.add({ title: name, unit, values: { slotcast }, note });
}

async function measure(options) {
  // The program that it runs in is the caller's: what is measured is the server and the file.
  const command = ['test', '--quiet', '--all-features', '--bench', 'journal', '--', ...options];
  const { stdout } = await execute('cargo', command, { cwd: REPOSITORY, maxBuffer: 2 ** 24 });
  return JSON.parse(stdout.trim().split('\n').at(-1));
}
