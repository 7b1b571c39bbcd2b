// Runs a history in a process of its own, so that everything that a failed history leaves behind ends with the process.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { killAtExit } from '../lib/slotcast.mjs';
import { explain } from './checks.mjs';
import { runHistory } from './history.mjs';

const RUN = join(fileURLToPath(import.meta.url), '../run.mjs');

/** At most this many violations of one name are shown. */
const SHOWN = 2;

/** How long a history may take, in ms, if each of its waits takes its full time. */
const DEADLINE_MS = 600_000;

/** Runs one history in this process: what `runHistory` gives, with violations counted by name and explained. */
export async function runHere(fault, seed, file = undefined) {
  const { record, violations, ...result } = await runHistory(fault, seed);
  if (file) writeFileSync(file, JSON.stringify(record));
  const counts = {};
  const explained = [];
  for (const violation of violations) {
    counts[violation.name] = (counts[violation.name] ?? 0) + 1;
    const count = counts[violation.name];
    if (count <= SHOWN) explained.push(explain(record, violation, count > 1));
  }
  return { ...result, counts, explained };
}

/** Runs the fault of a name with a seed, on `server` where one is named. A history that cannot be told is `broken`. */
export async function runApart(name, seed, { server = undefined, record = undefined } = {}) {
  const words = [RUN, '--child', '--fault', name, '--seed', seed];
  const more = [...(server ? ['--server', server] : []), ...(record ? ['--record', record] : [])];
  const child = spawn(process.execPath, [...words, ...more], { stdio: ['ignore', 'pipe', 'pipe'], timeout: DEADLINE_MS });
  const forget = killAtExit(child);
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr']) child[stream].on('data', (chunk) => (output[stream] += chunk));
  const code = await new Promise((done, failed) => {
    child.once('error', failed);
    child.once('close', done);
  });
  forget();
  try {
    return { ...JSON.parse(output.stdout), server };
  } catch {
    return { name, seed, server, counts: { broken: 1 }, explained: [`the process ended with ${code}: ${output.stderr.slice(-3_000)}`] };
  }
}

/** A result in one line, with its violations and the command that repeats it below. */
export function told({ name, seed, server, counts, explained, acts, unknown, lost, workMs, equalMs }) {
  const found = Object.entries(counts).map(([what, count]) => `${count} ${what}`);
  const figures = `${acts} acts, ${unknown} unknown, ${lost} lost; acts work after ${workMs} ms, viewers are equal after ${equalMs} ms`;
  const head = `${name}, seed ${seed}: ${found.length === 0 ? 'no violation' : found.join(', ')}; ${figures}`;
  if (found.length === 0) return head;
  const again = `again: node tests/e2e/histories/run.mjs --fault ${name} --seed ${seed}${server ? ` --server ${server}` : ''}`;
  return [head, again, ...explained].join('\n').replaceAll('\n', '\n  ');
}
