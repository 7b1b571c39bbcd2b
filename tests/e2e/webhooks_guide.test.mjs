// The receiver of docs/webhooks.md in Node.js, run as printed but for its port. python/test_webhooks.py has the one in Python.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { freshSpace } from './lib/fixtures.mjs';
import { freePort } from './lib/ports.mjs';
import { killAtExit, startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { eventually } from './lib/waiting.mjs';
import { WEBHOOK_SECRET } from './lib/webhook_receiver.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));

const GUIDE = readFileSync(resolve(HERE, '../../docs/webhooks.md'), 'utf8');

/** The blocks of the guide in a language. */
const samples = (language) => [...GUIDE.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 'gs'))].map(([, text]) => text);

/** Runs the sample on a port; gives what it has printed so far. */
async function runSample(port) {
  const [sample] = samples('js');
  assert.match(sample, /8080/);
  const folder = temporaryFolder();
  symlinkSync(join(HERE, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'receiver.mjs'), sample.replace('8080', String(port)));
  const child = spawn(process.execPath, ['receiver.mjs'], {
    cwd: folder,
    env: { PATH: process.env.PATH, WEBHOOK_SECRET },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  killAtExit(child);
  let printed = '';
  child.stdout.on('data', (chunk) => {
    printed += chunk;
  });
  await eventually(async () => (await fetch(`http://127.0.0.1:${port}/`, { method: 'POST' }).catch(() => undefined))?.status === 401, 'a receiver');
  return { lines: () => printed.split('\n').filter(Boolean), stop: () => child.kill() };
}

test('the receiver of the guide refuses what is not signed, and prints each message once', async () => {
  const port = await freePort();
  const receiver = await runSample(port);
  // The settings of the guide, but for the addresses and the secrets.
  const settings = { SLOTCAST_CONFIG: join(temporaryFolder(), 'slotcast.toml') };
  const [toml] = samples('toml');
  const url = `http://127.0.0.1:${port}/`;
  writeFileSync(settings.SLOTCAST_CONFIG, toml.replace('https://invoices.example.org/slotcast', url).replace('whsec_...', WEBHOOK_SECRET));
  const node = await startSlotcast({ settings });
  const space = freshSpace();
  const ids = [];
  for (const act of ['hold', 'book']) {
    const { status, data, text } = await node.userCaller(7).post(`/api/slots/${act}`, space.body({ slots: [1, 2] }));
    assert.equal(status, 200, text);
    ids.push(`${data.epoch}-1-${space.number}-${data.version}`);
  }
  const cancelled = await node.staffCaller('servizio').post('/api/slots/1/release', space.body());
  assert.equal(cancelled.status, 200, cancelled.text);
  ids.push(`${cancelled.data.epoch}-1-${space.number}-${cancelled.data.version}`);
  const expected = [`slot.booked ${ids[1]} 7 [ 1, 2 ]`, `slot.cancelled ${ids[2]} 7 [ 1 ]`];
  await eventually(() => receiver.lines().length >= 2, () => `two messages: ${receiver.lines()}`);
  assert.deepEqual(receiver.lines(), expected);
  await node.stop();
  receiver.stop();
});
