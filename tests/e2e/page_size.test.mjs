// How much a browser has to load before it shows a day: all files of `/`, as a released node compresses them.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { brotliCompressSync, constants } from 'node:zlib';

import { isLive, launch, newPage, skip } from './lib/board_page.mjs';
import { startSlotcast } from './lib/slotcast.mjs';

/** The most that all files together may weigh, compressed, in bytes. */
const MOST = 40_000;

/**
 * A released node compresses files with brotli at its best level. A node for development has no brotli, so that it starts
 * quickly.
 */
const compressed = (body) =>
  brotliCompressSync(body, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 22 } }).length;

describe('what the page weighs', { skip }, () => {
  let slotcast;
  let browser;

  before(async () => {
    slotcast = await startSlotcast();
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await slotcast?.stop();
  });

  test('everything on the page is at most 40 KB, compressed', async () => {
    const page = await newPage(browser);
    const answers = [];
    page.on('response', (response) => answers.push(response));
    await page.goto(slotcast.url);
    // The page opens as an example user, so that it loads everything.
    await page.click('#examples button');
    await isLive(page);
    await page.waitForSelector('[data-slot="9"]');
    const files = new Map();
    for (const answer of answers) {
      const { pathname } = new URL(answer.url());
      const isFile = answer.url().startsWith(slotcast.url) && !pathname.startsWith('/api/') && pathname !== '/page.json';
      if (isFile && !pathname.startsWith('/socket.io/')) files.set(pathname, compressed(await answer.body()));
    }
    const told = [...files].map(([name, size]) => `${name} ${size}`).join(', ');
    // The page, its styles and its program.
    assert.equal(files.size, 3, told);
    const all = [...files.values()].reduce((sum, size) => sum + size);
    assert.ok(all <= MOST, `${all} bytes: ${told}`);
    assert.ok(all > MOST / 2, `too few to be true: ${told}`);
  });
});
