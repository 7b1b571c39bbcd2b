// The page under unusual conditions: without websockets, and for guests. Skipped if there is no Chromium.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { choose, chosen, hold, isLive, launch, newPage, openAt, skip, slotIs, slotIsNotOwn, slotIsOwn } from './lib/board_page.mjs';
import { day, today } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { staffToken, userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const DATE = day(7);

describe('the page in unusual conditions', { skip }, () => {
  let slotcast;
  let browser;

  before(async () => {
    slotcast = await startSlotcast({ settings: { SLOTCAST_GUESTS: 'watch' } });
    const space = { name: 'Sala riunioni', timezone: 'Europe/Rome', opens: '09:00', closes: '18:00', slotMinutes: 60 };
    for (const number of [1, 2]) assert.equal((await slotcast.caller(staffToken()).put(`/api/spaces/1/${number}`, space)).status, 200);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await slotcast?.stop();
  });

  const heldBy = async (user, { spazio, date, slots }) => {
    const body = { idSpazio: spazio, sedeId: 1, date, slots };
    const answer = await slotcast.userCaller(user).post('/api/slots/hold', body);
    assert.equal(answer.status, 200, answer.text);
  };

  const withoutWebsockets = {
    'there are no websockets': () => delete window.WebSocket,
    // Safari 15 does this, because there `'self'` of the policy does not cover `wss:`.
    'the policy forbids websockets': () => {
      window.WebSocket = class {
        constructor() {
          throw new DOMException('The operation is insecure.', 'SecurityError');
        }
      };
    },
    'no websocket passes': () => {
      window.WebSocket = class extends WebSocket {
        constructor() {
          super(`ws://${location.host}/`);
        }
      };
    },
  };
  for (const [index, [condition, spoil]] of Object.entries(withoutWebsockets).entries()) {
    test(`where ${condition}, the page polls, and everything works`, async () => {
      const page = await newPage(browser);
      await page.addInitScript(spoil);
      const polls = [];
      page.on('request', (request) => request.url().includes('transport=polling') && polls.push(request.method()));
      const date = day(8 + index);
      await page.goto(`${slotcast.url}/#sede=1&spazio=1&giorno=${date}&token=${userToken(91)}`);
      await isLive(page);
      await hold(page, 2, 3);
      await heldBy(92, { spazio: 1, date, slots: [5] });
      await slotIsNotOwn(page, 5, 'occupied');
      await page.click('.card button[data-press^="release "]');
      await slotIs(page, 3, 'available');
      assert.ok(polls.includes('GET') && polls.includes('POST'), polls.join());
      assert.deepEqual(page.complaints.filter((text) => !text.includes('WebSocket connection to')), []);
      await page.context().close();
    });
  }

  test('who scrolls the page between two taps at one place chooses what is there now', async () => {
    const place = { sede: 1, spazio: 1, giorno: day(12), token: userToken(94) };
    const page = await openAt(browser, slotcast.url, place, { viewport: { width: 390, height: 560 } });
    await isLive(page);
    const { x, y, width, height } = await page.locator('[data-slot="2"]').boundingBox();
    const [left, top] = [x + width / 2, y + height / 2];
    await page.mouse.click(left, top);
    await page.waitForSelector('[data-slot="2"][aria-selected=true]');
    await page.evaluate(async (by) => {
      document.querySelector('main').scrollBy(0, by);
      for (let frame = 0; frame < 2; frame += 1) await new Promise(requestAnimationFrame);
    }, height);
    await page.mouse.click(left, top);
    await page.waitForSelector('[data-slot="3"][aria-selected=true]');
    assert.deepEqual(await chosen(page), [2, 3]);
    await page.context().close();
  });

  test('a space that the user may not join says so in place of catching up for ever', async () => {
    const page = await openAt(browser, slotcast.url, { sede: 1, spazio: 2, giorno: day(14), token: userToken(96, { sedi: [7] }) });
    await page.waitForSelector('.connection:has-text("Questo spazio non è per te: scegline un altro")');
    await page.context().close();
  });

  test('without a day in the address the field shows that of the space, not that of the viewer', async () => {
    // Whenever this runs, at least one of these zones has another date than Rome.
    for (const timezoneId of ['Pacific/Kiritimati', 'Pacific/Pago_Pago']) {
      const page = await openAt(browser, slotcast.url, { sede: 1, spazio: 1, token: userToken(97) }, { timezoneId });
      await isLive(page);
      await eventually(async () => (await page.inputValue('#date')) === today(), 'the day in Rome');
      await page.context().close();
    }
  });

  test('a day too far ahead says what to do next', async () => {
    const page = await openAt(browser, slotcast.url, { sede: 1, spazio: 1, giorno: day(500), token: userToken(95) });
    await page.waitForSelector('.empty:text-is("Questo giorno non si può prenotare: scegline un altro")');
    await page.context().close();
  });

  test('a guest follows what happens, is asked to sign in where only users may act, and goes on as a user', async () => {
    const page = await openAt(browser, slotcast.url, { sede: 1, spazio: 2, giorno: DATE });
    await isLive(page);
    await page.waitForSelector('#who:text-is("ospite")');
    await page.waitForSelector('#chosen:text-is("Accedi per bloccare uno slot")');
    await heldBy(93, { spazio: 2, date: DATE, slots: [4] });
    await slotIsNotOwn(page, 4, 'occupied');
    assert.equal(await page.locator('[data-press=hold]').count(), 0);
    await page.click('[data-press=signin]');
    await page.fill('#token', userToken(93));
    await page.click('#token-form button[type=submit]');
    await page.waitForSelector('#who:text-is("utente 93")');
    // The slot that the guest saw as taken is the signed-in user's own.
    await slotIsOwn(page, 4, 'occupied');
    await choose(page, 6);
    await page.click('[data-press=hold][aria-disabled=false]');
    await slotIsOwn(page, 6, 'occupied');
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
});
