// Starts the built binary as a user would, and stops it. One node a test file: `const slotcast = await startSlotcast()`.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Client } from './client.mjs';
import { callerOf } from './http.mjs';
import { freePort } from './ports.mjs';
import { SECRET, staffToken, userToken } from './tokens.mjs';
import { DEADLINE_MS, eventually, within } from './waiting.mjs';

const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../../..');

/** The binary under test. */
export const BINARY = process.env.SLOTCAST_BIN ?? join(REPOSITORY, 'target/debug/slotcast');

/** Where the nodes' logs are kept for reading after a failure. */
const LOGS = join(REPOSITORY, 'target/e2e-logs');

/**
 * How long one look at a starting node may take. Node's own `fetch` does not notice, for five minutes, that the very first
 * connection of a process was closed before the question went out, as a node does that begins to serve just then.
 */
export const PROBE_MS = 5_000;

/** How long what a test left running may go on after the last test: a test that failed did not come to its end. */
const LEFT_RUNNING_MS = 60_000;

const running = new Set();
const folders = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

// A test file ends when nothing of it runs any more: a single process that is left would keep it, and CI, for ever.
if (process.env.NODE_TEST_CONTEXT) {
  after(() => {
    const end = () => {
      process.stderr.write(`a minute after the last test of ${process.argv[1]}, something of it still runs\n`);
      process.exit(1);
    };
    setTimeout(end, LEFT_RUNNING_MS).unref();
  });
}

/** Has a process killed when the tests end. Returns what takes that back. */
export function killAtExit(child) {
  running.add(child);
  return () => running.delete(child);
}

/** What the process inherits: nothing that would configure it. */
function environmentOf(settings) {
  return {
    PATH: process.env.PATH,
    HOME: process.env.HOME,
    TZ: 'UTC',
    JWT_SECRET: SECRET,
    SLOTCAST_ADMIN_ADDR: '127.0.0.1:0',
    SLOTCAST_DRAIN_TIME: '5',
    // The tests have one address among them.
    SLOTCAST_ANONYMOUS_RATE: '0',
    ...settings,
  };
}

/** A new folder for a node's data, removed when the tests end. */
export function temporaryFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'slotcast-e2e-'));
  folders.add(folder);
  return folder;
}

/**
 * Starts a node on the embedded store and waits until it is ready. `settings` are its environment variables (`undefined`
 * leaves one out); `dataDir` and `port` serve to start it again where another one was. `openFiles` is how many it may have
 * open at most, `binary` another program than the one under test. Its admin listener is on `adminPort`. `probe` is the path that
 * tells when the node has started.
 */
export async function startSlotcast({
  settings = {},
  dataDir = temporaryFolder(),
  port,
  openFiles,
  binary = BINARY,
  probe = '/readyz',
} = {}) {
  for (let attempt = 1; ; attempt += 1) {
    const ports = { port: port ?? (await freePort()), adminPort: await freePort() };
    const node = new Slotcast(settings, dataDir, ports, { openFiles, binary });
    try {
      await node.ready(probe);
      return node;
    } catch (error) {
      await node.kill();
      const portWasTaken = /in use/i.test(node.log());
      if (!portWasTaken || attempt === 5) throw error;
    }
  }
}

let started = 0;

class Slotcast {
  constructor(settings, dataDir, { port, adminPort }, { openFiles, binary }) {
    started += 1;
    mkdirSync(LOGS, { recursive: true });
    this.logFile = join(LOGS, `${basename(process.argv[1] ?? 'e2e', '.mjs')}-${process.pid}-${started}.log`);
    this.dataDir = dataDir;
    this.port = port;
    this.adminPort = adminPort;
    this.url = `http://127.0.0.1:${port}`;
    this.clients = [];
    const log = openSync(this.logFile, 'w');
    const limited = ['sh', '-c', 'ulimit -n "$1" && exec "$2" serve', 'sh', String(openFiles), binary];
    const [program, ...words] = openFiles === undefined ? [binary, 'serve'] : limited;
    this.child = spawn(program, words, {
      cwd: dataDir,
      env: environmentOf({
        PORT: String(port),
        SLOTCAST_ADMIN_ADDR: `127.0.0.1:${adminPort}`,
        SLOTCAST_DATA_DIR: dataDir,
        ...settings,
      }),
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    running.add(this.child);
    this.exited = new Promise((done) => {
      const end = (exit) => {
        running.delete(this.child);
        this.exit = exit;
        done(exit);
      };
      this.child.once('error', (error) => end({ error: error.message }));
      this.child.once('exit', (code, signal) => end({ code, signal }));
    });
  }

  /** All that the node wrote on its two outputs. */
  log() {
    return readFileSync(this.logFile, 'utf8');
  }

  /** Waits until the node answers a path with 200. */
  async ready(path = '/readyz') {
    const isReady = async () => {
      if (this.exit) throw new Error(`slotcast ended with ${JSON.stringify(this.exit)}:\n${this.log()}`);
      try {
        return (await fetch(`${this.url}${path}`, { signal: AbortSignal.timeout(PROBE_MS) })).status === 200;
      } catch {
        return false;
      }
    };
    await eventually(isReady, `${path} (log: ${this.logFile})`, 60_000);
  }

  /** A stock client that starts to connect at once, closed at the end of the tests. */
  connect(options = {}) {
    const client = new Client(this.url, options);
    this.clients.push(client);
    return client;
  }

  /** A connected stock client of a user. */
  async user(user, options = {}) {
    const client = this.connect({ token: userToken(user), ...options });
    await client.connected();
    return client;
  }

  /** A connected stock client of a staff member. */
  async staff(options = {}) {
    const client = this.connect({ token: staffToken(), ...options });
    await client.connected();
    return client;
  }

  /** HTTP calls with a token, or without one. */
  caller(token) {
    return callerOf(this.url, token);
  }

  /** HTTP calls of a user. */
  userCaller(user, claims) {
    return this.caller(userToken(user, claims));
  }

  /** HTTP calls of staff. */
  staffCaller(role, claims) {
    return this.caller(staffToken(role, claims));
  }

  /** The board of a space's day: the HTTP answer's `data`. Asked for again where the store is not read in time. */
  async board(space, { token = undefined, date = space.date } = {}) {
    const answer = await this.caller(token).settled.get(space.boardPath(date));
    assert.equal(answer.status, 200, answer.text);
    return answer.data;
  }

  /** The board's entry of one slot. */
  async entry(space, slot, options = {}) {
    const { slots } = await this.board(space, options);
    return slots.find((entry) => entry.id_slot === slot);
  }

  /** Asks the node to end, and checks that it does so well: exit 0, and no panic in all its life. */
  async stop(signal = 'SIGTERM') {
    for (const client of this.clients) client.close();
    this.child.kill(signal);
    const exit = await within(this.exited, `the end of slotcast after ${signal} (log: ${this.logFile})`);
    assert.deepEqual(exit, { code: 0, signal: null }, this.log().slice(-2000));
    this.assertNoPanic();
  }

  /** Ends the node as a power cut would. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(this.exited, 'the end of slotcast after SIGKILL');
  }

  assertNoPanic() {
    assert.doesNotMatch(this.log(), /panicked|RUST_BACKTRACE/, `a panic is in ${this.logFile}`);
  }
}

/** Runs one of the binary's commands to its end. `onStart` gets its process. */
export async function runCommand(
  args,
  settings = {},
  { cwd = temporaryFolder(), deadline = DEADLINE_MS, onStart = () => {} } = {},
) {
  const child = spawn(BINARY, args, { cwd, env: environmentOf(settings), stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  onStart(child);
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    output.stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk;
  });
  const ended = new Promise((done, failed) => {
    child.once('error', failed);
    child.once('close', (code) => done(code));
  });
  const what = () => `the end of slotcast ${args.join(' ')}, which said ${JSON.stringify(output)}`;
  const code = await within(ended, what, deadline).finally(() => {
    running.delete(child);
    child.kill('SIGKILL');
  });
  return { code, ...output };
}
