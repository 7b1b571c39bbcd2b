// The page in Debian's Firefox. Skipped, with a message, if there is none.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { firefox } from 'playwright-core';

import { act, choose, hasNoSidewaysScroll, hold, isLive, openAt, slotIs, slotIsNotOwn, slotIsOwn } from './lib/board_page.mjs';
import { findFirefox } from './lib/browser.mjs';
import { day } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';

const FIREFOX = findFirefox();
const skip = FIREFOX ? false : 'no Firefox in PATH: install it (firefox-esr), or name it in FIREFOX';

describe('the page in Firefox', { skip }, () => {
  let slotcast;
  let browser;

  before(async () => {
    slotcast = await startSlotcast();
    // The channel tells Playwright that this is Mozilla's own build, so it uses WebDriver BiDi.
    browser = await firefox.launch({ channel: 'moz-firefox', executablePath: FIREFOX });
  });

  after(async () => {
    await browser?.close();
    await slotcast?.stop();
  });

  test('two people see a hold, a booking and a release of each other', async () => {
    const date = day(7);
    const open = (user, options) => openAt(browser, slotcast.url, { sede: 1, spazio: 700, giorno: date, token: userToken(user) }, options);
    const [anna, bruno] = [await open(7), await open(8, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' })];
    for (const page of [anna, bruno]) await isLive(page);
    await hold(anna, 2, 3);
    for (const slot of [2, 3]) await slotIsNotOwn(bruno, slot, 'occupied');
    await act(anna, 'book', 2);
    await slotIsOwn(anna, 3, 'booked');
    await slotIsNotOwn(bruno, 2, 'booked');
    await hold(bruno, 5);
    await slotIsNotOwn(anna, 5, 'occupied');
    await act(bruno, 'release', 5);
    for (const page of [anna, bruno]) await slotIs(page, 5, 'available');
    await bruno.waitForSelector('.card', { state: 'detached' });
    await choose(bruno, 6, 7);
    await hasNoSidewaysScroll(bruno);
    assert.deepEqual([...anna.complaints, ...bruno.complaints], []);
  });
});
