// Runs a command of slotcast, and measures its cost.

import { spawn } from 'node:child_process';

import { BINARY } from '../../tests/e2e/lib/slotcast.mjs';

/** Bash tells the CPU time of a child that it waited for; Node.js does not. */
const TIMED = 'TIMEFORMAT="%R %U %S"; time "$@"';

/** Runs a command that prints a report as JSON: `{report, seconds, cpu}`, times in seconds. */
export async function run(args, settings) {
  const env = { PATH: process.env.PATH, HOME: process.env.HOME, SLOTCAST_LOG: 'error', ...settings };
  const child = spawn('bash', ['-c', TIMED, 'bash', BINARY, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  for (const name of Object.keys(output)) {
    child[name].on('data', (chunk) => {
      output[name] += chunk;
    });
  }
  const code = await new Promise((done, failed) => {
    child.once('error', failed);
    child.once('close', done);
  });
  if (code !== 0) throw new Error(`slotcast ${args.join(' ')} ended with ${code}: ${output.stderr}`);
  const [seconds, user, system] = output.stderr.trim().split('\n').at(-1).split(' ').map(Number);
  return { report: JSON.parse(output.stdout), seconds, cpu: user + system };
}
