// The live board in a real browser: two people see each other's acts. Skipped, and said so, where there is no Chromium.
//
// CHROMIUM names the browser, SCREENSHOTS a folder for pictures of what the test saw.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { chromium } from 'playwright-core';

import { findBrowser } from './lib/browser.mjs';
import { day } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { secondsNow, staffToken, userToken } from './lib/tokens.mjs';
import { sleep } from './lib/waiting.mjs';

const DATE = day(7);
const BROWSER = findBrowser();
const skip = BROWSER ? false : 'no Chromium in PATH: install it, or name it in CHROMIUM';

describe('the live board', { skip }, () => {
  let slotcast;
  let browser;
  let lastSpace = 500;

  before(async () => {
    slotcast = await startSlotcast({ settings: { SLOT_MAX_HOLDS: '2' } });
    browser = await chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox', '--disable-gpu'] });
  });

  after(async () => {
    await browser?.close();
    await slotcast?.stop();
  });

  /** A page with its own storage, as another person's browser. What its console complains of fails the test. */
  async function openPage(space, token, options = {}) {
    const context = await browser.newContext({ locale: 'it-IT', viewport: { width: 1240, height: 860 }, ...options });
    const page = await context.newPage();
    page.complaints = [];
    page.on('pageerror', (error) => page.complaints.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') page.complaints.push(message.text());
    });
    const hash = new URLSearchParams({ sede: 1, spazio: space, giorno: DATE, ...(token && { token }) });
    await page.goto(`${slotcast.url}/#${hash}`);
    return page;
  }

  /** As `openPage`, connected and with the day's slots. */
  async function openBoard(space, token, options) {
    const page = await openPage(space, token, options);
    await page.waitForSelector('#connection[data-state=online]');
    await slotIs(page, 9, 'available');
    return page;
  }

  async function slotIs(page, slot, status) {
    await page.waitForSelector(`[data-slot="${slot}"][data-status="${status}"]`);
  }

  async function choose(page, ...slots) {
    for (const slot of slots) await page.click(`[data-slot="${slot}"]`);
  }

  async function photograph(page, name) {
    if (!process.env.SCREENSHOTS) return;
    mkdirSync(process.env.SCREENSHOTS, { recursive: true });
    await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`), fullPage: true });
  }

  function freshSpaceNumber() {
    lastSpace += 1;
    return lastSpace;
  }

  test('two people see a hold, a booking and a release of each other', async () => {
    const space = freshSpaceNumber();
    const anna = await openBoard(space, userToken(7));
    const bruno = await openBoard(space, userToken(8));

    await choose(anna, 2, 3);
    await anna.click('[data-act=hold]');
    for (const slot of [2, 3]) {
      await slotIs(bruno, slot, 'occupied');
      await anna.waitForSelector(`[data-slot="${slot}"][data-mine="true"]`);
      assert.equal(await bruno.getAttribute(`[data-slot="${slot}"]`, 'data-mine'), 'false');
      assert.match(await bruno.textContent(`[data-slot="${slot}"] .countdown`), /^ancora 1[45]:\d\d$/);
    }

    // The choice stays on what was held: taking slot 3 out of it books slot 2 alone.
    await choose(anna, 3);
    await anna.click('[data-act=book]');
    await slotIs(bruno, 2, 'booked');
    await anna.waitForSelector('[data-slot="2"][data-status="booked"][data-mine="true"]');

    await choose(anna, 3);
    await anna.click('[data-act=release]');
    await slotIs(bruno, 3, 'available');
    await slotIs(anna, 3, 'available');

    await choose(bruno, 3, 4);
    await bruno.click('[data-act=hold]');
    await slotIs(anna, 3, 'occupied');
    await anna.waitForSelector('#log li:first-child .version:text-is("v6")');
    await photograph(anna, 'anna');
    await photograph(bruno, 'bruno');
    assert.deepEqual([...anna.complaints, ...bruno.complaints], []);
  });

  test('a refusal is shown in the server’s words, and a slot that another one took cannot be chosen', async () => {
    const space = freshSpaceNumber();
    const anna = await openBoard(space, userToken(7));
    for (const slot of [5, 6]) {
      await choose(anna, slot);
      await anna.click('[data-act=hold]');
      await anna.waitForSelector(`[data-slot="${slot}"][data-mine="true"]`);
      await choose(anna, slot);
    }
    await choose(anna, 7);
    await anna.click('[data-act=hold]');
    await anna.waitForSelector('.toast[data-kind=refusal]:has-text("Troppi slot trattenuti")');
    await slotIs(anna, 7, 'available');

    const held = await slotcast.userCaller(8).post('/api/slots/7/hold', { idSpazio: space, sedeId: 1, date: DATE });
    assert.equal(held.status, 200, held.text);
    await anna.waitForSelector('[data-slot="7"][data-status="occupied"][aria-disabled="true"][aria-pressed="false"]');
    await anna.waitForSelector('.toast:has-text("Non più disponibile: 15:00")');
    await anna.waitForSelector('[data-act=hold][aria-disabled=true]');
  });

  test('the token leaves the address bar and stays in the tab', async () => {
    const space = freshSpaceNumber();
    const page = await openBoard(space, userToken(7));
    assert.equal(new URL(page.url()).hash, `#sede=1&spazio=${space}&giorno=${DATE}`);
    await page.reload();
    await page.waitForSelector('#connection[data-state=online]');
    assert.deepEqual(page.complaints, []);
  });

  test('without a token the page asks for one, and goes on with it', async () => {
    const space = freshSpaceNumber();
    const page = await openPage(space);
    await page.waitForSelector('#token-dialog[open]');
    await page.fill('#token', 'no.token.this');
    await page.click('#token-form button[type=submit]');
    await page.waitForSelector('#token-error:has-text("Token non valido")');
    await page.fill('#token', userToken(7));
    await page.click('#token-form button[type=submit]');
    await slotIs(page, 9, 'available');
    assert.equal(await page.textContent('#who'), 'utente 7');
  });

  test('staff closes and frees slots, sees who holds, and how many are connected', async () => {
    const space = freshSpaceNumber();
    const guest = await openBoard(space, userToken(7), { viewport: { width: 390, height: 844 } });
    const staff = await openBoard(space, staffToken(), { colorScheme: 'dark' });
    await choose(guest, 1);
    await guest.click('[data-act=hold]');
    await staff.waitForSelector('[data-slot="1"] .note:text-is("utente 7")');
    await choose(staff, 8, 9);
    await staff.click('[data-staff-status=blocked]');
    await slotIs(guest, 8, 'blocked');
    await slotIs(guest, 9, 'blocked');
    await choose(staff, 9);
    await staff.click('[data-staff-status=available]');
    await slotIs(guest, 9, 'available');
    await staff.waitForSelector('#stats dd');
    assert.ok(Number(await staff.textContent('#stats dd')) >= 2);
    await photograph(guest, 'phone');
    await photograph(staff, 'staff');
    assert.deepEqual([...guest.complaints, ...staff.complaints], []);
  });

  test('a page that was cut off says so, and catches up without a gap', async () => {
    const space = freshSpaceNumber();
    const body = { idSpazio: space, sedeId: 1, date: DATE };
    const page = await openBoard(space, userToken(7));
    await page.context().setOffline(true);
    await page.evaluate(() => window.dispatchEvent(new Event('offline')));
    await page.waitForSelector('#connection[data-state=reconnecting]');
    const acts = await slotcast.userCaller(8).post('/api/slots/hold', { ...body, slots: [1, 2] });
    assert.equal(acts.status, 200, acts.text);
    await page.context().setOffline(false);
    await slotIs(page, 1, 'occupied');
    await slotIs(page, 2, 'occupied');
    await page.waitForSelector('#log li:has-text("recuperato")');
    await photograph(page, 'recovered');
  });

  test('a token that ends is announced, and replaced without a new connection', async () => {
    const space = freshSpaceNumber();
    const page = await openBoard(space, userToken(7, { exp: secondsNow() + 50 }));
    await page.waitForSelector('#connection:has-text("token in scadenza")');
    await page.click('#change-token');
    await page.fill('#token', userToken(7));
    await page.click('#token-form button[type=submit]');
    await page.waitForSelector('#connection:text-is("connesso")');
    assert.equal(await page.locator('#log li:has-text("entrato")').count(), 1);
  });

  /** What a user holds in a space, by the store's word: `[[3, 4]]`. */
  async function heldSlots(user, space) {
    const { data } = await slotcast.userCaller(user).get('/api/holds');
    return data.holds.filter((hold) => hold.spazioId === space).map((hold) => hold.slots);
  }

  const freshUser = () => 1_000 + freshSpaceNumber();

  // A second tap of the same finger must not undo what the first one did.
  for (const width of [320, 390, 768, 1_240]) {
    test(`two quick presses at ${width} px hold, and never release`, async () => {
      const space = freshSpaceNumber();
      for (const pause of [50, 120, 250, 400, 600]) {
        const user = freshUser();
        const page = await openBoard(space, userToken(user), { viewport: { width, height: 780 } });
        const slot = 1 + [50, 120, 250, 400, 600].indexOf(pause);
        await choose(page, slot);
        const button = page.locator('[data-act=hold]');
        await button.scrollIntoViewIfNeeded();
        const { x, y, width: w, height: h } = await button.boundingBox();
        await page.mouse.click(x + w / 2, y + h / 2);
        await sleep(pause);
        await page.mouse.click(x + w / 2, y + h / 2);
        await page.waitForSelector(`[data-slot="${slot}"][data-mine="true"]`);
        // Longer than an act takes, so that a second act would have shown.
        await page.waitForSelector('#actions [data-act=release][aria-disabled=false]');
        await sleep(300);
        assert.deepEqual(await heldSlots(user, space), [[slot]], `${pause} ms`);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
        await photograph(page, `actions-${width}`);
        await page.context().close();
      }
    });
  }

  test('what was chosen stays with its space and day when a link leads elsewhere in the same tab', async () => {
    const [space, other, user] = [freshSpaceNumber(), freshSpaceNumber(), freshUser()];
    const page = await openBoard(space, userToken(user));
    await choose(page, 3, 4);
    const links = [`#sede=1&spazio=${other}&giorno=${DATE}`, `#sede=1&spazio=${space}&giorno=${day(8)}`];
    for (const link of links) {
      await page.evaluate((hash) => (location.hash = hash), link);
      await page.waitForSelector('#chosen:text-is("Scegli uno o più slot")');
      await slotIs(page, 9, 'available');
      assert.equal(await page.locator('[data-slot][aria-pressed=true]').count(), 0);
      await page.click('[data-act=hold]', { force: true });
    }
    assert.deepEqual([await heldSlots(user, space), await heldSlots(user, other)], [[], []]);
    assert.deepEqual(page.complaints, []);
  });

  test('a choice that lost a slot says so, and the rest is held only when asked for again', async () => {
    const [space, user] = [freshSpaceNumber(), freshUser()];
    const page = await openBoard(space, userToken(user), { viewport: { width: 390, height: 844 } });
    await choose(page, 2, 3);
    const taken = { idSpazio: space, sedeId: 1, date: DATE };
    assert.equal((await slotcast.userCaller(8).post('/api/slots/3/hold', taken)).status, 200);
    await page.waitForSelector('#chosen:text-is("Non più disponibile: 11:00. Resta: 10:00.")');
    await page.click('[data-act=hold]', { force: true });
    await photograph(page, 'lost');
    assert.deepEqual(await heldSlots(user, space), []);
    await page.click('#choose-rest:has-text("Continua con 10:00")');
    await page.click('[data-act=hold]');
    await page.waitForSelector('[data-slot="2"][data-mine="true"]');
    assert.deepEqual(await heldSlots(user, space), [[2]]);
  });

  const storages = {
    'blocked storage': () => {
      for (const name of ['localStorage', 'sessionStorage']) {
        const get = () => {
          throw new DOMException('denied', 'SecurityError');
        };
        Object.defineProperty(window, name, { get });
      }
    },
    'a broken remembered place': () => localStorage.setItem('slotcast.place', '{'),
    'a remembered place that is null': () => localStorage.setItem('slotcast.place', 'null'),
    'a remembered place of another shape': () =>
      localStorage.setItem('slotcast.place', '{"sedeId": {}, "spazioId": -1}'),
  };
  for (const [name, spoil] of Object.entries(storages)) {
    test(`with ${name} the page works`, async () => {
      const context = await browser.newContext({ locale: 'it-IT' });
      await context.addInitScript(spoil);
      const page = await context.newPage();
      await page.goto(`${slotcast.url}/#token=${userToken(7)}`);
      await page.waitForSelector('#connection[data-state=online]');
      await page.waitForSelector('[data-slot="1"]');
      assert.equal(await page.textContent('#space-name'), 'Spazio 1, sede 1');
      await context.close();
    });
  }

  test('a link with another user’s token changes the user only when the person says so', async () => {
    const space = freshSpaceNumber();
    const page = await openBoard(space, userToken(7));
    const link = `#sede=1&spazio=${space}&giorno=${DATE}&token=${userToken(8)}`;
    await page.evaluate((hash) => (location.hash = hash), link);
    await page.waitForSelector('#switch-dialog[open]');
    await photograph(page, 'switch');
    await page.click('#switch-cancel');
    assert.equal(await page.textContent('#who'), 'utente 7');
    // As a link from elsewhere: the page is loaded anew, in the tab of user 7.
    await page.goto('about:blank');
    await page.goto(`${slotcast.url}/${link}`);
    await page.waitForSelector('#switch-dialog[open]');
    await page.waitForSelector('#who:text-is("utente 7")');
    assert.equal(new URL(page.url()).hash.includes('token'), false);
    await page.click('#switch-accept');
    await page.waitForSelector('#who:text-is("utente 8")');
    await page.waitForSelector('#connection[data-state=online]');
    await page.reload();
    await page.waitForSelector('#who:text-is("utente 8")');
    assert.deepEqual(page.complaints, []);
  });

  test('after a change of user nothing of the one before is shown', async () => {
    const [space, first, second] = [freshSpaceNumber(), freshUser(), freshUser()];
    const page = await openBoard(space, userToken(first));
    await choose(page, 1);
    await page.click('[data-act=hold]');
    await page.waitForSelector('#holds li');
    await page.click('#change-token');
    await page.fill('#token', userToken(second));
    // The answer about the holds of the second user does not come.
    await page.route('**/api/holds', () => {});
    await page.click('#token-form button[type=submit]');
    await page.waitForSelector(`#who:text-is("utente ${second}")`);
    await page.waitForSelector('[data-slot="1"][data-status=occupied][data-mine=false]');
    assert.equal(await page.locator('#holds li').count(), 0);
    assert.equal(await page.locator('[data-slot][aria-pressed=true]').count(), 0);
  });
});
