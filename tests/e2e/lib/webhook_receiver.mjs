// A backend that gets webhooks: each message is verified as the npm package `standardwebhooks` does it, and as the PyPI package of
// that name does it where `scripts/test` has installed it (always in a run of `scripts/test`).

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';

import { Webhook } from 'standardwebhooks';

import { freePort } from './ports.mjs';
import { killAtExit } from './slotcast.mjs';
import { eventually } from './waiting.mjs';

/** A secret as Standard Webhooks has them. */
export const WEBHOOK_SECRET = `whsec_${Buffer.from('thirty-two bytes for one receiver').toString('base64')}`;

const PYTHON = fileURLToPath(new URL('../.venv/bin/python', import.meta.url));

const VERIFIER = fileURLToPath(new URL('../python/verify_webhooks.py', import.meta.url));

/** The PyPI package, in a process of its own. */
class PythonVerifier {
  constructor(secret) {
    this.sent = 0;
    this.process = spawn(PYTHON, [VERIFIER, secret], { stdio: ['pipe', 'pipe', 'inherit'] });
    killAtExit(this.process);
    this.printed = '';
    this.process.stdout.on('data', (chunk) => {
      this.printed += chunk;
    });
  }

  verify(headers, body) {
    this.sent += 1;
    this.process.stdin.write(`${JSON.stringify({ headers, body })}\n`);
  }

  /** Fails unless it has verified all that it was given. */
  async finish() {
    this.process.stdin.end();
    const [code] = await once(this.process, 'close');
    assert.deepEqual([code, this.printed.trim()], [0, `verified ${this.sent}`], 'the PyPI package verifies each message');
  }
}

/**
 * Starts a receiver. `answer` gets a message with the response and how many came before it; it ends the response with a status,
 * or does something worse. Without it each message is accepted.
 */
export async function startReceiver({ answer = ({ response }) => response.writeHead(204).end(), port, secret = WEBHOOK_SECRET } = {}) {
  const receiver = new Receiver(port ?? (await freePort()), answer, secret);
  await receiver.listen();
  return receiver;
}

class Receiver {
  constructor(port, answer, secret) {
    this.port = port;
    this.answer = answer;
    this.webhook = new Webhook(secret);
    this.python = existsSync(PYTHON) ? new PythonVerifier(secret) : undefined;
    /** All messages: `{id, space, version, headers, body, message, accepted, at}`. */
    this.got = [];
    this.complaints = [];
    this.server = createServer((request, response) => {
      this.receive(request, response).catch((error) => {
        this.complaints.push(error);
        response.destroy();
      });
    });
  }

  async listen() {
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
  }

  get url() {
    return `http://127.0.0.1:${this.port}/hooks`;
  }

  /** The settings of nodes that tell this receiver of acts. */
  settings(types = undefined) {
    return { SLOTCAST_WEBHOOK_URL: this.url, SLOTCAST_WEBHOOK_SECRET: WEBHOOK_SECRET, SLOTCAST_WEBHOOK_TYPES: types };
  }

  async receive(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const message = this.webhook.verify(body, request.headers);
    this.python?.verify(request.headers, body);
    const id = request.headers['webhook-id'];
    assert.equal(request.method, 'POST');
    assert.equal(request.headers['content-type'], 'application/json');
    assert.equal(message.data.id, id);
    assert.equal(message.data.at, message.timestamp);
    const { spazioId, sedeId, version, epoch } = message.data;
    const got = { id, space: `${sedeId}:${spazioId}`, version, epoch, headers: request.headers, body, message, at: Date.now() };
    const before = this.got.length;
    this.got.push(got);
    response.on('finish', () => {
      got.accepted = response.statusCode >= 200 && response.statusCode < 300;
    });
    await this.answer({ ...got, request, response, before });
  }

  /** The messages that were accepted, each once. */
  get accepted() {
    const ids = new Set();
    return this.got.filter(({ id, accepted }) => accepted && !ids.has(id) && ids.add(id));
  }

  /** Waits until all of these entries were accepted. */
  async hasAll(ids, deadline = undefined) {
    const missing = () => {
      const accepted = new Set(this.accepted.map(({ id }) => id));
      return ids.filter((id) => !accepted.has(id));
    };
    await eventually(() => missing().length === 0, () => `${missing().length} of ${ids.length} messages are missing: ${missing().slice(0, 3)}`, deadline);
  }

  /**
   * What holds of all messages: each was verified; one id has one body on each try; and within a space under one epoch, no
   * message that was not accepted before came after a later one was.
   */
  check() {
    assert.deepEqual(this.complaints, []);
    const bodies = new Map();
    const newest = new Map();
    const seen = new Set();
    for (const { id, body, space, version, epoch, accepted } of this.got) {
      assert.equal(body, bodies.get(id) ?? body, `${id} says the same on each try`);
      bodies.set(id, body);
      const key = `${epoch} ${space}`;
      if (!seen.has(id)) assert.ok(version > (newest.get(key) ?? 0), `${id} came after version ${newest.get(key)}`);
      if (accepted) {
        seen.add(id);
        newest.set(key, Math.max(newest.get(key) ?? 0, version));
      }
    }
    assert.equal(new Set(bodies.values()).size, bodies.size, 'no two ids have one body');
  }

  async close() {
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, 'close');
    await this.python?.finish();
  }
}
