// Binaries of versions before this one, built from the history into a cache by commit.

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { temporaryFolder } from './slotcast.mjs';

const run = promisify(execFile);

const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../../..');

/** The commit of 0.1. */
export const FIRST_VERSION = '34dc401';

/** The binary of a commit, which is built where it was not built before: that takes minutes. */
export async function binaryOf(commit) {
  const folder = join(REPOSITORY, 'target/versions', commit);
  const binary = join(folder, 'slotcast');
  if (existsSync(binary)) return binary;
  const source = temporaryFolder();
  const archive = join(source, 'source.tar');
  await run('git', ['-C', REPOSITORY, 'archive', '--output', archive, commit]);
  await run('tar', ['-x', '-f', archive, '-C', source]);
  const target = join(folder, 'build');
  mkdirSync(folder, { recursive: true });
  const words = ['build', '--quiet', '--locked', '--bin', 'slotcast'];
  await run('cargo', words, { cwd: source, env: { ...process.env, CARGO_TARGET_DIR: target }, maxBuffer: 2 ** 26 });
  renameSync(join(target, 'debug/slotcast'), binary);
  rmSync(target, { recursive: true });
  return binary;
}
