// A Redis of the tests' own on a free port, everything in a temporary folder: Debian's redis-server, or the server that
// SLOTCAST_TEST_REDIS_SERVER names, such as a Valkey. Alone, or a primary and its replicas behind sentinels.

import { execFile, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

import { range } from './fixtures.mjs';
import { freePort } from './ports.mjs';
import { killAtExit, temporaryFolder } from './slotcast.mjs';
import { eventually, within } from './waiting.mjs';

const run = promisify(execFile);

const SERVER = process.env.SLOTCAST_TEST_REDIS_SERVER ?? 'redis-server';

/** How long sentinels may take to find each other, or another primary: they look every ten seconds. */
const SENTINELS_MS = 60_000;

/** The settings under which Redis loses nothing that it acknowledged. */
const SAFE = { save: '', appendonly: 'yes', appendfsync: 'always' };

/**
 * Starts a Redis that loses nothing that it acknowledged, and waits until it answers. `options` are those of its
 * configuration, which override these; `environment` is what its process gets besides.
 */
export async function startRedis({ port = undefined, folder = temporaryFolder(), options = {}, environment = {} } = {}) {
  const redisAt = (at) => {
    const all = { port: at, bind: '127.0.0.1', dir: folder, ...SAFE, ...options };
    const words = Object.entries(all).flatMap(([name, value]) => [`--${name}`, ...[value].flat().map(String)]);
    return new Redis(at, folder, words, environment);
  };
  if (port === undefined) return startOnFreePort(redisAt);
  const redis = redisAt(port);
  await redis.start();
  return redis;
}

/** Starts what `make` makes for a free port; on another port where another process took it in the meantime. */
async function startOnFreePort(make) {
  for (let attempt = 1; ; attempt += 1) {
    const redis = make(await freePort());
    try {
      await redis.start();
      return redis;
    } catch (error) {
      if (isRunning(redis.child) || attempt === 5) throw error;
    }
  }
}

/** Whether the server that was started on a port takes commands there, and not another server on the same port. */
export async function serves(child, port, password) {
  if (!isRunning(child)) throw new Error(`${child.spawnfile} ended with ${child.exitCode ?? child.signalCode}`);
  const ask = async (...words) => {
    const credentials = password ? ['-a', password, '--no-auth-warning'] : [];
    return (await run('redis-cli', ['-p', String(port), ...credentials, ...words]).catch(() => ({ stdout: '' }))).stdout;
  };
  if ((await ask('PING')).trim() !== 'PONG') return false;
  const [, pid] = /^process_id:(\d+)/m.exec(await ask('INFO', 'server')) ?? [];
  return Number(pid) === child.pid;
}

const isRunning = ({ exitCode, signalCode }) => exitCode === null && signalCode === null;

class Redis {
  constructor(port, folder, words, environment = {}) {
    this.environment = environment;
    this.port = port;
    this.folder = folder;
    this.words = words;
    this.url = `redis://127.0.0.1:${port}`;
  }

  /** Starts the server. After an end it starts again with its data on disk. */
  async start() {
    this.child = spawn(SERVER, this.words, { stdio: 'ignore', env: { ...process.env, ...this.environment } });
    this.forget = killAtExit(this.child);
    this.exited = new Promise((done, failed) => {
      this.child.once('error', failed);
      this.child.once('exit', done);
    });
    await eventually(() => serves(this.child, this.port), `an answer of ${SERVER}`);
  }

  /** Sends a command, and gives its answer as text. */
  async command(...words) {
    const { stdout } = await run('redis-cli', ['-p', String(this.port), ...words.map(String)]);
    return stdout.trim();
  }

  /** Sends a command, and gives its answer as arrays, numbers and texts. */
  async ask(...words) {
    return JSON.parse(await this.command('--json', ...words));
  }

  /**
   * The commands that it gets from now on, until the loop over them is left: `{at, client, words}`. `at` is in ms by the
   * server's clock; `client` is an address, or `lua` for what a script calls.
   */
  async *monitor() {
    const child = spawn('redis-cli', ['-p', String(this.port), 'MONITOR'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const forget = killAtExit(child);
    try {
      for await (const line of createInterface({ input: child.stdout })) {
        const [, at, client, rest] = /^([\d.]+) \[\d+ ([^\]]+)\] (.*)$/.exec(line) ?? [];
        if (at === undefined) continue;
        const words = rest.match(/"(?:[^"\\]|\\.)*"/g).map((word) => word.slice(1, -1));
        yield { at: Number(at) * 1_000, client, words };
      }
    } finally {
      child.kill();
      forget();
    }
  }

  /** Freezes it. Returns a function that lets it go on. */
  freeze() {
    this.child.kill('SIGSTOP');
    return () => this.child.kill('SIGCONT');
  }

  /** Whether it is a replica that has all that its primary has. */
  async isInStep() {
    return /master_link_status:up/.test(await this.command('INFO', 'replication'));
  }

  /** Ends the server as a crash would. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(this.exited, `the end of ${SERVER}`);
    this.forget();
  }
}

/**
 * Starts a primary, so many replicas and three sentinels that watch them as `main`, and waits until all know each other.
 * `options` are those of each server's configuration.
 */
export async function startSentinels({ replicas: count = 1, options = {} } = {}) {
  const primary = await startRedis({ options: { ...QUICK_SYNC, ...options } });
  const startReplica = () => startRedis({ options: { ...QUICK_SYNC, ...options, replicaof: ['127.0.0.1', primary.port] } });
  const replicas = await Promise.all(range(1, count).map(startReplica));
  for (const replica of replicas) await eventually(() => replica.isInStep(), 'a replica in step');
  const sentinels = await Promise.all(range(1, 3).map(() => startSentinel(primary.port)));
  for (const sentinel of sentinels) {
    const knowsAll = async () => {
      const known = await sentinel.ask('SENTINEL', 'MASTER', 'main');
      return known['num-other-sentinels'] === '2' && known['num-slaves'] === String(count);
    };
    await eventually(knowsAll, 'sentinels that know each other', SENTINELS_MS);
  }
  return new Sentinels([primary, ...replicas], sentinels);
}

/**
 * The replica gets its first copy at once. Redis would wait for more replicas that could share the copy, but no other
 * replica comes.
 */
const QUICK_SYNC = { 'repl-diskless-sync-delay': 0 };

async function startSentinel(primaryPort) {
  return startOnFreePort((port) => {
    const folder = temporaryFolder();
    const file = join(folder, 'sentinel.conf');
    const lines = [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${folder}`,
      `sentinel monitor main 127.0.0.1 ${primaryPort} 2`,
      // This is long enough that sentinels do not take a busy machine for a dead primary.
      'sentinel down-after-milliseconds main 2000',
      'sentinel failover-timeout main 5000',
    ];
    writeFileSync(file, `${lines.join('\n')}\n`);
    return new Redis(port, folder, [file, '--sentinel']);
  });
}

class Sentinels {
  constructor(servers, sentinels) {
    /** The first is the primary at first. */
    this.servers = servers;
    this.sentinels = sentinels;
    this.url = `redis-sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')}/main`;
  }

  /**
   * The server that is the primary by a sentinel's word and by its own; undefined while there is none, or while it is `old`,
   * which is not asked: it may be frozen.
   */
  async primary(old = undefined) {
    const told = await this.sentinels[0].ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'main');
    const server = this.servers.find(({ port }) => String(port) === told?.[1]);
    if (server === old) return undefined;
    const role = await server?.ask('ROLE').catch(() => undefined);
    return role?.[0] === 'master' ? server : undefined;
  }

  /**
   * Has a sentinel replace the primary, which is well, and waits until another one is the primary. Gives when it was asked to.
   * Asked again where it knows of no replica that is good: it looks at them each ten seconds.
   */
  async switch() {
    const old = await eventually(() => this.primary(), 'a primary', SENTINELS_MS);
    const sentinel = this.sentinels[Math.floor(Math.random() * this.sentinels.length)];
    let at;
    const isBegun = async () => {
      at = Date.now();
      return (await sentinel.command('SENTINEL', 'FAILOVER', 'main')) === 'OK';
    };
    await eventually(isBegun, 'a failover', SENTINELS_MS);
    await this.primaryAfter(old);
    return at;
  }

  /** Waits until all other servers follow the primary and have all that it has. */
  async inStep() {
    const areInStep = async () => {
      const primary = await this.primary();
      const others = this.servers.filter((server) => server !== primary);
      return primary && (await Promise.all(others.map((server) => server.isInStep()))).every(Boolean);
    };
    await eventually(areInStep, 'replicas in step', SENTINELS_MS);
  }

  /** Waits until another server than `old` is the primary, and gives it. */
  async primaryAfter(old) {
    return eventually(() => this.primary(old), 'another primary', SENTINELS_MS);
  }

  /** Ends all servers. */
  async kill() {
    await Promise.all([...this.sentinels, ...this.servers].map((one) => one.kill()));
  }
}
