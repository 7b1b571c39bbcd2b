// What the platform files in infra/ would start, and how. It is read from the files, so that a test runs what an operator gets.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { parse as parseToml } from 'smol-toml';
import { parse as parseYaml } from 'yaml';

import { Client } from './client.mjs';
import { freePort } from './ports.mjs';
import { BINARY, PROBE_MS, killAtExit, temporaryFolder } from './slotcast.mjs';
import { userToken } from './tokens.mjs';
import { eventually, within } from './waiting.mjs';

const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../../..');

/** The folder with the platform files. */
export const INFRA = join(REPOSITORY, 'infra');

const read = (name) => readFileSync(join(INFRA, name), 'utf8');

/** The tools that scripts/test unpacks; scripts/lib/infra.sh lists them. */
export const CADDY = process.env.CADDY ?? join(REPOSITORY, 'target/tools/usr/bin/caddy');

/** infra/compose.yaml, its variables taken from `values` as the shell would give them. */
export function readCompose(values) {
  const text = read('compose.yaml').replace(/\$\{(\w+)(?::([-?])([^}]*))?\}/g, (_, name, kind, rest) => {
    const value = values[name] || (kind === '-' ? rest : undefined);
    if (value === undefined) throw new Error(`compose.yaml needs ${name}: ${rest}`);
    return value;
  });
  return parseYaml(text, { merge: true });
}

export const readRender = () => parseYaml(read('render.yaml'));

export const readFly = (name = 'fly.toml') => parseToml(read(name));

/** The environment that render.yaml gives to a service. `values` stand for what Render asks for or makes. */
export function renderEnvironment(service, values) {
  const given = ({ key, value, fromService }) => {
    if (value !== undefined) return String(value);
    const name = fromService ? `${fromService.name}.${fromService.property}` : key;
    if (values[name] === undefined) throw new Error(`render.yaml needs ${name}`);
    return values[name];
  };
  return Object.fromEntries(service.envVars.map((entry) => [entry.key, given(entry)]));
}

/** The words of a command line, quotes removed. */
export function splitWords(line) {
  const words = line.match(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g) ?? [];
  return words.map((word) => word.replace(/'([^']*)'|"([^"]*)"/g, (_, single, double) => single ?? double));
}

/** The path of the image's program as it is here. */
export function programHere(path) {
  if (path !== '/usr/local/bin/slotcast') throw new Error(`${path} is not in the image`);
  return BINARY;
}

/** `ADDRESS:PORT` with another port. */
const withPort = (address, port) => address.replace(/\d+$/, String(port));

/** A platform's environment with ports that are free here; all else is as written. */
export async function withFreePorts(environment) {
  const [port, adminPort] = [await freePort(), await freePort()];
  const here = { ...environment, PORT: String(port) };
  here.SLOTCAST_ADMIN_ADDR = withPort(environment.SLOTCAST_ADMIN_ADDR ?? '127.0.0.1:9090', adminPort);
  if (environment.SLOTCAST_ADVERTISE_ADDR) here.SLOTCAST_ADVERTISE_ADDR = `127.0.0.1:${port}`;
  return here;
}

/** Runs the command to its end: exit code and output. */
export async function run(words, environment) {
  const process = new PlatformProcess(words, environment);
  const { code } = await within(process.exited, `the end of ${words.join(' ')}`);
  return { code, ...process.output };
}

/** A process started by a platform's own words, with the platform's environment and nothing else. */
export class PlatformProcess {
  constructor(words, environment) {
    const [program, ...args] = words;
    this.environment = environment;
    this.words = words;
    this.output = { stdout: '', stderr: '' };
    // The process has a folder of its own without a slotcast.toml, as in the image.
    this.child = spawn(programHere(program), args, { cwd: temporaryFolder(), env: environment });
    const forget = killAtExit(this.child);
    for (const name of ['stdout', 'stderr']) {
      this.child[name].on('data', (chunk) => {
        this.output[name] += chunk;
      });
    }
    this.exited = new Promise((done, failed) => {
      this.child.once('error', failed);
      this.child.once('close', (code, signal) => {
        forget();
        this.exit = { code, signal };
        done(this.exit);
      });
    });
  }

  get port() {
    return Number(this.environment.PORT);
  }

  get adminPort() {
    return Number(this.environment.SLOTCAST_ADMIN_ADDR.match(/\d+$/)[0]);
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Waits until the path that the platform asks answers 2xx. */
  async healthy(path) {
    await eventually(async () => {
      const isWell = await fetch(this.url + path, { signal: AbortSignal.timeout(PROBE_MS) }).then(({ ok }) => ok, () => false);
      // The process could not listen on the port, so another process answers.
      if (this.exit) throw new Error(`it ended with ${JSON.stringify(this.exit)}: ${this.output.stderr.slice(-2000)}`);
      return isWell;
    }, `${path} of ${this.words.join(' ')}`);
  }

  /** A connected stock client, which comes back by itself. */
  async connect(user, options = {}) {
    return connectClient(this.url, user, options);
  }

  /** Ends it as the platform does. Returns the exit and how many ms it took. */
  async leave(signal) {
    const asked = Date.now();
    this.child.kill(signal);
    const exit = await within(this.exited, `the end after ${signal}`, 120_000);
    return { exit, took: Date.now() - asked };
  }
}

/** A connected stock client of a user, which comes back by itself. */
export async function connectClient(url, user, options = {}) {
  const reconnecting = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 250 };
  const client = new Client(url, { token: userToken(user), ...reconnecting, ...options });
  await client.connected();
  return client;
}
