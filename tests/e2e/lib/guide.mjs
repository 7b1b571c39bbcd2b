// The commands of the operations guide, run as they are written: a block of shell behind `<!-- run: NAME -->`.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { INFRA } from './platforms.mjs';

/** Runs a block with bash, in which each command must succeed. Returns its output. */
export async function runGuide(name, environment) {
  const guide = readFileSync(join(INFRA, 'README.md'), 'utf8');
  const [, script] = guide.match(new RegExp(`<!-- run: ${name} -->\n+\`\`\`sh\n([^]*?)\n\`\`\``)) ?? [];
  if (!script) throw new Error(`infra/README.md has no commands ${name}`);
  const { stdout } = await promisify(execFile)('bash', ['-euo', 'pipefail', '-c', script], {
    env: { PATH: process.env.PATH, ...environment },
  });
  return stdout;
}
