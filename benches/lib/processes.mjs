// Processes that the bench starts and ends.

import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { freePort } from '../../tests/e2e/lib/ports.mjs';
import { killAtExit } from '../../tests/e2e/lib/slotcast.mjs';
import { eventually, within } from '../../tests/e2e/lib/waiting.mjs';

export const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../..');

/** The servers' outputs, kept for reading after a failure. */
const LOGS = join(REPOSITORY, 'target/bench-logs');

let started = 0;

/** A server on a free port of 127.0.0.1. Its environment is `PORT` and `settings`. */
export class ServerProcess {
  static async start(name, command, args, settings = {}) {
    const server = new ServerProcess(name, command, args, settings, await freePort());
    await server.ready();
    return server;
  }

  constructor(name, command, args, settings, port) {
    started += 1;
    mkdirSync(LOGS, { recursive: true });
    this.name = name;
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.logFile = join(LOGS, `${name}-${process.pid}-${started}.log`);
    const log = openSync(this.logFile, 'w');
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, TZ: 'UTC', PORT: String(port), ...settings };
    this.child = spawn(command, args, { env, stdio: ['ignore', log, log] });
    closeSync(log);
    this.forget = killAtExit(this.child);
    this.exited = new Promise((done) => {
      this.child.once('error', done);
      this.child.once('exit', done);
    });
    this.exited.then(() => {
      this.hasEnded = true;
    });
  }

  /** Waits until it answers HTTP. */
  async ready() {
    const answers = async () => {
      if (this.hasEnded) throw new Error(`${this.name} ended:\n${readFileSync(this.logFile, 'utf8').slice(-2_000)}`);
      return fetch(`${this.url}/readyz`).then(() => true, () => false);
    };
    await eventually(answers, `an answer of ${this.name} (log: ${this.logFile})`);
  }

  /** Kills it, like a power cut. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(this.exited, `the end of ${this.name}`);
    this.forget();
  }
}
