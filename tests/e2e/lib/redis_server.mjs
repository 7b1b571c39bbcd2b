// A Redis of the tests' own: Debian's redis-server on a free port, everything in a temporary folder.

import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';

import { freePort, killAtExit, temporaryFolder } from './slotcast.mjs';
import { eventually, within } from './waiting.mjs';

const run = promisify(execFile);

/**
 * Starts a Redis that loses nothing that it acknowledged, and waits until it answers. `options` are those of its
 * configuration, which override these.
 */
export async function startRedis({ port = undefined, folder = temporaryFolder(), options = {} } = {}) {
  const redis = new Redis(port ?? (await freePort()), folder, options);
  await redis.start();
  return redis;
}

class Redis {
  constructor(port, folder, options) {
    this.options = options;
    this.port = port;
    this.folder = folder;
    this.url = `redis://127.0.0.1:${port}`;
  }

  /** Starts it, also again after its end, with what it had on disk. */
  async start() {
    const place = { port: this.port, bind: '127.0.0.1', dir: this.folder };
    const safety = { save: '', appendonly: 'yes', appendfsync: 'always' };
    const args = Object.entries({ ...place, ...safety, ...this.options }).flatMap(([name, value]) => [`--${name}`, String(value)]);
    this.child = spawn('redis-server', args, { stdio: 'ignore' });
    this.forget = killAtExit(this.child);
    this.exited = new Promise((done, failed) => {
      this.child.once('error', failed);
      this.child.once('exit', done);
    });
    await eventually(async () => (await this.command('PING').catch(() => '')) === 'PONG', 'an answer of redis-server');
  }

  /** Sends a command; its answer as text. */
  async command(...words) {
    const { stdout } = await run('redis-cli', ['-p', String(this.port), ...words.map(String)]);
    return stdout.trim();
  }

  /** Stops it where it is, as a frozen machine stands. Returns what lets it go on. */
  freeze() {
    this.child.kill('SIGSTOP');
    return () => this.child.kill('SIGCONT');
  }

  /** Ends it as a crash would. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(this.exited, 'the end of redis-server');
    this.forget();
  }
}
