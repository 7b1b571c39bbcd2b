// Measures slotcast beside what a user would run instead, and beside the floor. Run by `scripts/bench`, which builds and
// installs what this needs.
//
//   node benches/bench.mjs [--quick] [ROW...]

import { rmSync } from 'node:fs';

import { Bench } from './lib/bench.mjs';
import { madeTokens } from './lib/generator.mjs';
import { describeMachine } from './lib/machine.mjs';
import { writeSection } from './lib/results.mjs';
import { SYSTEMS } from './lib/systems.mjs';
import { formatTable } from './lib/table.mjs';

/** In the order in which they run. */
const ROWS = [
  'connects',
  'delivery',
  'saturation',
  'memory',
  'idle',
  'uninterested',
  'acts',
  'journal',
  'comeback',
  'sweep',
  'growth',
  'storm',
];

const words = process.argv.slice(2);
const quick = words.includes('--quick');
const chosen = words.filter((word) => !word.startsWith('--'));
const systems = process.env.BENCH_SYSTEMS?.split(',') ?? Object.keys(SYSTEMS);
const unknown = [
  ...chosen.filter((row) => !ROWS.includes(row)),
  ...words.filter((word) => word.startsWith('--') && word !== '--quick'),
  ...systems.filter((system) => !(system in SYSTEMS)),
];
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(' ')}. Rows: ${ROWS.join(' ')}. Systems: ${Object.keys(SYSTEMS).join(' ')}`);
  process.exit(2);
}

// Ends servers and removes files at the exit. A signal alone would skip that.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));
process.on('exit', () => madeTokens() && rmSync(madeTokens(), { force: true }));
const names = chosen.length > 0 ? ROWS.filter((row) => chosen.includes(row)) : ROWS;
// All rows are loaded at once, so that edits during a run of an hour do not mix two versions of the bench.
const rows = await Promise.all(names.map((name) => import(`./rows/${name}.mjs`)));
const machine = describeMachine();
const isForTrying = quick || systems.length < Object.keys(SYSTEMS).length;
const all = [];
for (const [index, name] of names.entries()) {
  const { title, run } = rows[index];
  const bench = new Bench({ quick, systems });
  console.log(`\n== ${name}: ${title}`);
  await run(bench);
  console.log(`\n${formatTable(bench.lines)}`);
  all.push(...bench.lines);
  if (!isForTrying) writeSection(machine, { name, title, lines: bench.lines, busiest: bench.busiest });
}
if (names.length > 1) console.log(`\n== all\n\n${formatTable(all)}`);
console.log(isForTrying ? '\nnothing is written: this was for trying' : '\nwritten to benches/RESULTS.md');
process.exit(0);
