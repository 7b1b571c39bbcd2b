// Describes the machine and the programs of a run.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';

import { REPOSITORY } from './processes.mjs';

/** The first line that a program prints, or the reason why there is none. */
function lineOf(command, ...args) {
  try {
    return execFileSync(command, args, { cwd: REPOSITORY, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch (error) {
    return `unknown (${error.code ?? error.status})`;
  }
}

/** Name and value pairs. */
export function describeMachine() {
  const peers = JSON.parse(readFileSync(join(REPOSITORY, 'benches/peers/package.json'), 'utf8')).dependencies;
  const release = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const changed = lineOf('git', 'status', '--porcelain', '--untracked-files=no') === '' ? '' : ', with changes';
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC',
    command: ['./scripts/bench', ...process.argv.slice(2)].join(' '),
    commit: lineOf('git', 'rev-parse', '--short=12', 'HEAD') + changed,
    machine: `${os.cpus().length} cores (${os.cpus()[0]?.model}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${release}, Linux ${os.release()}`,
    rustc: lineOf('rustc', '--version').split(' ')[1],
    'Node.js': process.version,
    'redis-server': /v=(\S+)/.exec(lineOf('redis-server', '--version'))?.[1] ?? 'unknown',
    ...peers,
  };
}
