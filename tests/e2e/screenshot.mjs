// Takes the picture of the live board that README.md shows: `node tests/e2e/screenshot.mjs`. It starts a node of its own, has
// two people act, and photographs the page of the first one. CHROMIUM names the browser.

import { mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { findBrowser } from './lib/browser.mjs';
import { day } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { staffToken, userToken } from './lib/tokens.mjs';

const PICTURE = resolve(fileURLToPath(import.meta.url), '../../../docs/screenshots/board.png');
const SPACE = { idSpazio: 1, sedeId: 1, date: day(7) };

const slotcast = await startSlotcast();
const browser = await chromium.launch({ executablePath: findBrowser(), args: ['--no-sandbox', '--disable-gpu'] });

async function call(method, path, token, body) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const response = await fetch(slotcast.url + path, { method, headers, body: JSON.stringify({ ...SPACE, ...body }) });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
}

async function openBoard() {
  const context = await browser.newContext({ locale: 'it-IT', viewport: { width: 1240, height: 860 } });
  const page = await context.newPage();
  const hash = new URLSearchParams({ sede: SPACE.sedeId, spazio: SPACE.idSpazio, giorno: SPACE.date, token: userToken(7) });
  await page.goto(`${slotcast.url}/#${hash}`);
  await page.waitForSelector('#connection[data-state=online]');
  return page;
}

try {
  const page = await openBoard();
  await page.waitForSelector('[data-slot="9"][data-status="available"]');
  await call('POST', '/api/slots/hold', userToken(8), { slots: [5] });
  await call('POST', '/api/slots/5/book', userToken(8));
  await call('POST', '/api/slots/6/hold', userToken(8));
  await call('PUT', '/api/slots/8', staffToken(), { status: 'blocked', data: { note: 'manutenzione' } });
  for (const slot of [2, 3]) await page.click(`[data-slot="${slot}"]`);
  await page.click('[data-act=hold]');
  await page.waitForSelector('[data-slot="3"][data-mine="true"]');
  await page.waitForSelector('[data-slot="8"][data-status="blocked"]');
  mkdirSync(dirname(PICTURE), { recursive: true });
  await page.screenshot({ path: PICTURE });
} finally {
  await browser.close();
  await slotcast.stop();
}
