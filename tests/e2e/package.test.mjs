// The scheduled function's package, unzipped as the platform does it and asked as the platform asks it. SLOTCAST_PACKAGE names
// the one to test; without it one is made of the binary that is there, since building the real one takes minutes.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { freshSpace } from './lib/fixtures.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { FUNCTION, startFunction } from './lib/runtime_api.mjs';
import { startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { sleep } from './lib/waiting.mjs';

const run = promisify(execFile);
const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../..');

/** Packages the present binary, whatever glibc it was linked to. */
async function makePackage(settings = { LAMBDA_GLIBC: '99' }) {
  const folder = temporaryFolder();
  const environment = { ...process.env, ...settings };
  await run(join(REPOSITORY, 'scripts/package-lambda'), ['--from', FUNCTION, folder], { env: environment });
  return join(folder, 'bootstrap.zip');
}

/** Unzips with the modes that are in the package. Node has no reader of zip files; the scripts need Python anyway. */
const UNZIP = `
import json, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as package:
    package.extractall(sys.argv[2])
    print(json.dumps([[e.filename, oct(e.external_attr >> 16), e.date_time] for e in package.infolist()]))
`;

async function unzip(file) {
  const folder = temporaryFolder();
  const { stdout } = await run('python3', ['-c', UNZIP, file, folder]);
  const entries = JSON.parse(stdout);
  for (const [name, mode] of entries) chmodSync(join(folder, name), Number(mode) & 0o777);
  return { folder, entries };
}

const file = process.env.SLOTCAST_PACKAGE ?? (await makePackage());
const { folder, entries } = await unzip(file);
const redis = await startRedis();
const slotcast = await startSlotcast({ settings: { REDIS_URL: redis.url, SLOT_TIMER_INTERVAL: '0' } });

after(async () => {
  await slotcast.stop();
  await redis.kill();
});

test('the package is one program, the same whenever it is made', () => {
  assert.deepEqual(entries, [['bootstrap', '0o100755', [1980, 1, 1, 0, 0, 0]]]);
});

test('it sweeps, and logs what the lateness alarm is read from', async (t) => {
  const space = freshSpace();
  const held = await slotcast.userCaller(7).settled.post('/api/slots/hold', space.body({ slots: [1, 2], holdSeconds: 1 }));
  assert.equal(held.status, 200, held.text);
  await sleep(Math.max(0, Date.parse(held.data.heldUntil) - Date.now()) + 20);
  const started = await startFunction({ REDIS_URL: redis.url }, { program: join(folder, 'bootstrap') });
  try {
    const answer = await started.sweep();
    assert.equal(answer.outcome, 'response', answer.text);
    // An earlier sweep that failed may have freed holds that are in no report.
    const isRight = answer.failed > 0 ? answer.json.freed <= 2 : answer.json.freed === 2 && answer.json.spaces === 1;
    assert.ok(isRight, answer.text);
    assert.equal((await slotcast.entry(space, 1)).status, 'available');

    const line = started.lines().find((each) => each.message === 'swept');
    assert.equal(line?.oldest_late_ms, answer.json.oldestLateMs, started.log);
    const alarms = readFileSync(join(REPOSITORY, 'terraform/modules/sweeper/alarms.tf'), 'utf8');
    assert.match(alarms, /\$\.message = \\"swept\\" && \$\.oldest_late_ms >= 0/);

    const memory = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${started.child.pid}/status`, 'utf8'))[1];
    t.diagnostic(
      `package ${statSync(file).size} bytes; from the start of the process to its first answer ` +
        `${(answer.at - started.startedAt).toFixed(1)} ms; at most ${memory} kB of memory`,
    );
  } finally {
    await started.stop();
  }
});

test('the same program makes the same package', async () => {
  const [first, second] = [await makePackage(), await makePackage()];
  assert.ok(readFileSync(first).equals(readFileSync(second)));
});

test('a program that is too new for the platform is refused', async () => {
  const refused = await makePackage({ LAMBDA_GLIBC: '2.2' }).catch((error) => error);
  assert.match(refused.stderr ?? '', /needs glibc [\d.]+, but Lambda's provided\.al2023 has 2\.2/);
});
