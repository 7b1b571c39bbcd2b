// The load generator as a process. It takes one command at a time and answers each.

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { day, range } from '../../tests/e2e/lib/fixtures.mjs';
import { killAtExit } from '../../tests/e2e/lib/slotcast.mjs';
import { staffToken, userToken } from '../../tests/e2e/lib/tokens.mjs';
import { within } from '../../tests/e2e/lib/waiting.mjs';
import { CpuMeter } from './measure.mjs';
import { REPOSITORY } from './processes.mjs';

/** The number of users. If there are more clients, some share a user. */
const USERS = 10_000;

/** The longest that one command may take, in ms. */
const PATIENCE_MS = 300_000;

/** The day on which slots are changed. */
export const DATE = day(7);

let tokensFile;

/** A file with the tokens of all users, made once for each run. */
function makeTokens() {
  if (!tokensFile) {
    const folder = join(REPOSITORY, 'target/bench-logs');
    mkdirSync(folder, { recursive: true });
    tokensFile = join(folder, `tokens-${process.pid}.txt`);
    const exp = Math.floor(Date.now() / 1000) + 6 * 3600;
    writeFileSync(tokensFile, range(1, USERS).map((user) => `${userToken(user, { exp })}\n`).join(''), { mode: 0o600 });
  }
  return tokensFile;
}

/** The path of the tokens' file, if it was made. */
export const madeTokens = () => tokensFile;

export class Generator {
  constructor() {
    this.child = spawn(join(REPOSITORY, 'target/load/release/load'), [], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.forget = killAtExit(this.child);
    this.waiting = [];
    createInterface({ input: this.child.stdout }).on('line', (line) => this.waiting.shift()?.resolve(JSON.parse(line)));
    this.child.once('exit', (code) => {
      for (const { reject } of this.waiting) reject(new Error(`the load generator ended with ${code}`));
    });
    this.cpu = new CpuMeter(this.child.pid);
  }

  /** Sends a command, and gives its answer. */
  async tell(command, options = {}) {
    const answered = new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
    });
    this.child.stdin.write(`${JSON.stringify({ command, ...options })}\n`);
    const answer = await within(answered, `the load generator's ${command}`, PATIENCE_MS);
    if (answer.error) throw new Error(`the load generator's ${command}: ${answer.error}`);
    return answer;
  }

  /** Connects clients that join `spaces` in turn. Asserts that all join, unless `mayFail`. */
  async open(targets, count, { spaces = [], parallel = 200, rate = 0, early = false, mayFail = false, patienceMs = 120_000 } = {}) {
    const options = { targets, count, spaces, parallel, rate, early, tokens: makeTokens(), patience_ms: patienceMs };
    const answer = await this.tell('open', options);
    if (!mayFail && answer.settled !== count) throw new Error(`only ${JSON.stringify(answer)} of ${count} clients came to rest`);
    return answer;
  }

  /** Sends changes of slots in the spaces in turn, each heard by `recipients` clients; `ahead` is the generator's. */
  async publish(targets, { spaces = [1], rate = 0, seconds, connections = 32, recipients = 0, ahead = 0 }) {
    const requests = range(0, connections - 1).map((index) => [updateRequest(spaces[index % spaces.length], 1 + (index % 9))]);
    return this.send(targets, { requests, rate, for_ms: seconds * 1000, connections, recipients, ahead });
  }

  /** Sends requests, as the generator's command `publish` takes them. */
  async send(targets, options) {
    return this.tell('publish', { targets, token: staffToken('servizio'), ...options });
  }

  /** Ends the generator. */
  async end() {
    this.forget();
    this.child.stdin.end();
    await new Promise((done) => (this.child.exitCode === null ? this.child.once('exit', done) : done()));
  }
}

/** A change of one slot that carries the time of its sending. */
export function updateRequest(space, slot) {
  const body = { idSpazio: space, sedeId: 1, date: DATE, status: 'blocked', data: { sent: '@SENT@' } };
  return { method: 'PUT', path: `/api/slots/${slot}`, body: JSON.stringify(body).replace('"@SENT@"', '@SENT@') };
}
