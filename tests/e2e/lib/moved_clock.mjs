// A wall clock that is moved while its process runs.

import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { temporaryFolder } from './slotcast.mjs';

const SOURCE = join(fileURLToPath(import.meta.url), '../moved_clock.c');

/** A clock to start a process with (`environment`). `move` sets it a number of seconds ahead of the machine's. */
export function makeClock() {
  const folder = temporaryFolder();
  const [library, file] = ['moved_clock.so', 'offset'].map((name) => join(folder, name));
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, SOURCE]);
  writeFileSync(file, bytesOf(0));
  return {
    environment: { LD_PRELOAD: library, SLOTCAST_CLOCK_FILE: file },
    move: (seconds) => {
      // The file is changed in place, because the process has mapped it.
      const open = openSync(file, 'r+');
      writeSync(open, bytesOf(seconds), 0, 8, 0);
      closeSync(open);
    },
  };
}

function bytesOf(seconds) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(seconds));
  return bytes;
}
