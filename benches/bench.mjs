// Measures slotcast beside what a user would run instead, and beside the floor. Run by `scripts/bench`, which builds and
// installs what this needs.
//
//   node benches/bench.mjs [--quick] [ROW...]

import { rmSync } from 'node:fs';

import { Bench } from './lib/bench.mjs';
import { madeTokens } from './lib/generator.mjs';
import { describeMachine } from './lib/machine.mjs';
import { writeResults } from './lib/results.mjs';
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

// Servers are ended and files removed at the exit, which a signal alone would skip.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));
process.on('exit', () => madeTokens() && rmSync(madeTokens(), { force: true }));
const rows = chosen.length > 0 ? ROWS.filter((row) => chosen.includes(row)) : ROWS;
const machine = describeMachine();
const sections = [];
for (const name of rows) {
  const row = await import(`./rows/${name}.mjs`);
  const bench = new Bench({ quick, systems });
  console.log(`\n== ${name}: ${row.title}`);
  await row.run(bench);
  sections.push({ name, title: row.title, lines: bench.lines, busiest: bench.busiest });
  console.log(`\n${formatTable(bench.lines)}`);
}
if (sections.length > 1) console.log(`\n== all\n\n${formatTable(sections.flatMap((section) => section.lines))}`);
if (quick || systems.length < Object.keys(SYSTEMS).length) console.log('\nnothing is written: these sizes are for trying');
else writeResults({ machine, sections });
process.exit(0);
