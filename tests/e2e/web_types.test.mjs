// The types of the browser package are those of this program's own document.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { BINARY, temporaryFolder } from './lib/slotcast.mjs';

const WEB = fileURLToPath(new URL('../../web', import.meta.url));
const COMMITTED = join(WEB, 'src/generated/api.ts');

test('the types of the calls in the browser package are those of the server’s document', () => {
  const document = execFileSync(BINARY, ['openapi'], { maxBuffer: 16 * 1024 * 1024 });
  const made = process.env.UPDATE_PAGES ? COMMITTED : join(temporaryFolder(), 'api.ts');
  execFileSync(process.execPath, ['api.mjs', made], { cwd: WEB, input: document });
  const message = 'the calls are others than web/src/generated/api.ts says: UPDATE_PAGES=1 node --test tests/e2e/web_types.test.mjs';
  assert.ok(readFileSync(made, 'utf8') === readFileSync(COMMITTED, 'utf8'), message);
});
