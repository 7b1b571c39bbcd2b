// Ports of this machine for the servers that tests start, each given out once.

import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * The ports to give out lie below those that the system gives to outgoing connections: otherwise a client that tries to
 * reconnect while its node is away could be given that very port.
 */
const [FIRST, END] = [12_000, 32_000];

/** How many ports a process takes at once. It keeps the first one open while it lives, so that no other process takes them. */
const SLICE = 200;

const SLICES = (END - FIRST) / SLICE;

/** The ports of this process's slice that are not given out yet. */
let left = [];

/** Which slice is looked at next; files that are tested at the same time begin at different ones. */
let slice = process.pid % SLICES;

/** Searches run one at a time. */
let last = Promise.resolve();

/** A free port that was given neither to another caller in this process nor to another process of tests. */
export function freePort() {
  const found = last.then(find);
  last = found.catch(() => {});
  return found;
}

async function find() {
  for (;;) {
    if (left.length === 0) left = await takeSlice();
    const port = left.shift();
    const server = await listen(port);
    if (server === undefined) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** The ports of a slice that no other process has. */
async function takeSlice() {
  for (let tries = 0; tries < SLICES; tries += 1) {
    const first = FIRST + slice * SLICE;
    slice = (slice + 1) % SLICES;
    const guard = await listen(first);
    if (guard === undefined) continue;
    guard.unref();
    return Array.from({ length: SLICE - 1 }, (_, index) => first + 1 + index);
  }
  throw new Error(`no ${SLICE} ports are left from ${FIRST} to ${END}`);
}

/** A server on a port of all of this machine's addresses, `undefined` where somebody has it on one of them. */
async function listen(port) {
  const server = createServer();
  const isListening = new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '0.0.0.0', () => resolve(true));
  });
  return (await isListening) ? server : undefined;
}
