// Runs histories from the command line:
//
//   node tests/e2e/histories/run.mjs --fault NAME --seed N [--server PATH]     one, again
//   node tests/e2e/histories/run.mjs [--seeds N] [--lanes N] [--table FILE]    all, with so many seeds each
//   node tests/e2e/histories/run.mjs --list                                    the faults
//
// `--server` is a redis-server or valkey-server; it and `--fault` may be given several times. `--record FILE` keeps what was
// recorded, `--table FILE` writes what was measured as Markdown. The exit code is 1 where there was a violation.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { range } from '../lib/fixtures.mjs';
import { inLanes } from '../lib/waiting.mjs';

const { values } = parseArgs({
  options: {
    fault: { type: 'string', multiple: true },
    seed: { type: 'string' },
    seeds: { type: 'string', default: '1' },
    lanes: { type: 'string', default: '2' },
    server: { type: 'string', multiple: true },
    table: { type: 'string' },
    record: { type: 'string' },
    list: { type: 'boolean', default: false },
    child: { type: 'boolean', default: false },
  },
});
// Read where the servers are started.
if (values.child && values.server) [process.env.SLOTCAST_TEST_REDIS_SERVER] = values.server;

const { FAULTS, faultOf } = await import('./faults/index.mjs');
const { runApart, runHere, told } = await import('./apart.mjs');
const { pageOf } = await import('./table.mjs');

if (values.list) {
  process.stdout.write(`${FAULTS.map(({ name, on }) => `${name} (${on})`).join('\n')}\n`);
} else if (values.child) {
  const result = await runHere(faultOf(values.fault[0]), values.seed, values.record);
  process.stdout.write(JSON.stringify(result), () => process.exit(0));
} else {
  const names = values.fault ?? FAULTS.map(({ name }) => name);
  const seeds = values.seed === undefined ? range(1, Number(values.seeds)).map(String) : [values.seed];
  const servers = values.server ?? [process.env.SLOTCAST_TEST_REDIS_SERVER];
  const jobs = servers.flatMap((server) => names.flatMap((name) => seeds.map((seed) => ({ name, seed, server }))));
  const results = [];
  await inLanes(Number(values.lanes), jobs, async ({ name, seed, server }) => {
    const why = faultOf(name).needs?.();
    if (why) {
      process.stdout.write(`${name}: skipped, ${why}\n`);
      return;
    }
    const result = await runApart(name, seed, { server, record: values.record });
    results.push(result);
    process.stdout.write(`${told(result)}\n`);
  });
  if (values.table) writeFileSync(values.table, pageOf(results, FAULTS));
  if (results.some(({ counts }) => Object.keys(counts).length > 0)) process.exitCode = 1;
}
