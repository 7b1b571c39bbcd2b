// The OpenAPI document as programs read it: linters, and generators of clients, whose clients then call every operation.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { BaseResolver, createConfig, lintDocument, makeDocumentFromString } from '@redocly/openapi-core';

import { day } from './lib/fixtures.mjs';
import { BINARY, startSlotcast } from './lib/slotcast.mjs';
import { staffToken, userToken } from './lib/tokens.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const run = promisify(execFile);

// The files are inside this folder, so that Node.js finds the packages.
mkdirSync(join(HERE, 'node_modules/.cache'), { recursive: true });
const folder = mkdtempSync(join(HERE, 'node_modules/.cache/openapi-'));
const document = join(folder, 'openapi.json');
const { stdout } = await run(BINARY, ['openapi'], { maxBuffer: 16 * 1024 * 1024 });
writeFileSync(document, stdout);
const node = await startSlotcast();
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await node.stop();
});

/** A working day without closures, so that it has all slots. */
const date = [1, 2, 3].map((offset) => day(offset)).find((text) => new Date(`${text}T12:00:00Z`).getUTCDay() !== 0 && text.slice(5) !== '12-25');

const operations = () => {
  const { paths } = JSON.parse(readFileSync(document, 'utf8'));
  return Object.values(paths).flatMap((calls) => Object.values(calls));
};

test('the recommended rules of Redocly find no error, and no schema that is not used', async () => {
  const config = await createConfig({ extends: ['recommended'] });
  const problems = await lintDocument({
    document: makeDocumentFromString(stdout, document),
    config: config.styleguide,
    externalRefResolver: new BaseResolver(),
  });
  const told = problems.map(({ ruleId, severity, message }) => `${severity} ${ruleId}: ${message}`);
  assert.deepEqual(told.filter((line) => line.startsWith('error') || line.includes('no-unused')), []);
});

test('every call has an example, and says whether it takes a token', () => {
  for (const { operationId, security, requestBody, responses } of operations()) {
    assert.ok(Array.isArray(security), operationId);
    const content = (requestBody ?? responses['200']).content['application/json'];
    assert.ok(content.example, `${operationId} has no example`);
  }
});

test('a client of openapi-typescript and openapi-fetch compiles and calls every operation', async () => {
  const bin = (name) => join(HERE, 'node_modules/.bin', name);
  await run(bin('openapi-typescript'), [document, '--output', join(folder, 'schema.ts')]);
  assert.doesNotMatch(readFileSync(join(folder, 'schema.ts'), 'utf8'), /closures\??: (unknown|Record)/);
  copyFileSync(join(HERE, 'openapi/calls.ts'), join(folder, 'calls.ts'));
  writeFileSync(join(folder, 'package.json'), '{"type": "module"}');
  const options = { target: 'es2022', module: 'nodenext', strict: true, skipLibCheck: true, types: [] };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['calls.ts', 'process.d.ts'] }));
  writeFileSync(join(folder, 'process.d.ts'), 'declare const process: { argv: string[]; stdout: { write(text: string): void } };\n');
  const compiled = await run(bin('tsc'), ['--project', folder]).catch((error) => error);
  assert.equal(compiled.stdout, '');
  const called = await run(process.execPath, [join(folder, 'calls.js'), node.url, userToken(7), staffToken(), date]);
  assert.deepEqual([...new Set(JSON.parse(called.stdout))].sort(), operations().map(({ operationId }) => operationId).sort());
});
