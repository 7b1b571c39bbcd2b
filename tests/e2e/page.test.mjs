// The page of a node in a real browser: two people see each other's acts, and nothing that a thumb does is lost or doubled.
// Skipped, and said so, where there is no Chromium.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import {
  act, choose, chosen, hasNoSidewaysScroll, hold, isLive, launch, newPage, openAt, photograph, skip, slotIs, slotIsNotOwn,
  slotIsOwn,
} from './lib/board_page.mjs';
import { day } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { secondsNow, staffToken, userToken } from './lib/tokens.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

const DATE = day(7);

describe('the live board', { skip }, () => {
  let slotcast;
  let browser;
  let lastSpace = 500;

  before(async () => {
    slotcast = await startSlotcast({ settings: { SLOT_MAX_HOLDS: '2' } });
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await slotcast?.stop();
  });

  const freshNumber = () => {
    lastSpace += 1;
    return lastSpace;
  };
  const freshUser = () => 1_000 + freshNumber();
  const openPage = (space, token, options) =>
    openAt(browser, slotcast.url, { sede: 1, spazio: space, giorno: DATE, token }, options);

  /** Like `openPage`, but waits until the page is connected and shows the slots of the day. */
  async function openBoard(space, token, options) {
    const page = await openPage(space, token, options);
    await isLive(page);
    await slotIs(page, 9, 'available');
    return page;
  }

  /** The slots that a user holds in a space, as the store has them: `[[3, 4]]`. */
  async function heldSlots(user, space) {
    const { data } = await slotcast.userCaller(user).get('/api/holds');
    return data.holds.filter((one) => one.spazioId === space).map((one) => one.slots);
  }

  test('two people see a hold, a booking and a release of each other', async () => {
    const space = freshNumber();
    const anna = await openBoard(space, userToken(7));
    const bruno = await openBoard(space, userToken(8));
    await hold(anna, 2, 3);
    for (const slot of [2, 3]) await slotIsNotOwn(bruno, slot, 'occupied');
    assert.match(await bruno.getAttribute('[data-slot="2"] .left', 'data-left'), /15 minuti/);
    assert.match(await anna.textContent('.card .hold-text'), /10:00–12:00: restano 1[45]:\d\d/);
    await act(anna, 'book', 2);
    await slotIsOwn(anna, 2, 'booked');
    await slotIsNotOwn(bruno, 3, 'booked');

    await hold(anna, 5);
    await slotIsNotOwn(bruno, 5, 'occupied');
    await act(anna, 'release', 5);
    await slotIs(bruno, 5, 'available');
    await hold(bruno, 5, 6);
    await slotIsNotOwn(anna, 6, 'occupied');
    assert.deepEqual([...anna.complaints, ...bruno.complaints], []);
  });

  test('a refusal says what to do next, and a slot that another one took cannot be chosen', async () => {
    const [space, user] = [freshNumber(), freshUser()];
    const anna = await openBoard(space, userToken(user));
    await hold(anna, 5);
    await hold(anna, 6);
    await choose(anna, 7);
    await anna.click('[data-press=hold]');
    await anna.waitForSelector('[data-notice=refusal]:has-text("Hai già bloccato il massimo: rilascia prima qualcosa")');
    await slotIs(anna, 7, 'available');

    const held = await slotcast.userCaller(8).post('/api/slots/7/hold', { idSpazio: space, sedeId: 1, date: DATE });
    assert.equal(held.status, 200, held.text);
    await anna.waitForSelector('[data-slot="7"][data-status="occupied"][aria-disabled="true"][aria-selected="false"]');
    await anna.waitForSelector('#chosen[data-lost]:has-text("Qualcuno ha preso 15:00–16:00")');
    await anna.waitForSelector('[data-press=hold][aria-disabled=true]');
  });

  test('the token leaves the address bar and stays in the tab', async () => {
    const space = freshNumber();
    const page = await openBoard(space, userToken(7));
    assert.equal(new URL(page.url()).hash, `#sede=1&spazio=${space}&giorno=${DATE}`);
    await page.reload();
    await isLive(page);
    await page.waitForSelector('#who:has-text("utente 7")');
    assert.deepEqual(page.complaints, []);
  });

  test('without a token one may look, and sign in', async () => {
    const space = freshNumber();
    const page = await openPage(space);
    await slotIs(page, 9, 'available');
    await page.click('[data-press=signin]');
    await page.waitForSelector('#token-dialog[open]');
    await page.fill('#token', 'no.token.this');
    await page.click('#token-form button[type=submit]');
    await page.waitForSelector('#token-error:has-text("Token non valido")');
    await page.fill('#token', userToken(7));
    await page.click('#token-form button[type=submit]');
    await isLive(page);
    await page.waitForSelector('#who:text-is("utente 7")');
  });

  test('in development one may be each of the example users', async () => {
    const page = await openPage(freshNumber());
    await page.click('#examples button:has-text("utente 8")');
    await page.waitForSelector('#who:text-is("utente 8")');
    await page.click('#examples button:has-text("staff")');
    await page.waitForSelector('#who:text-is("utente 1 · staff")');
    await page.waitForSelector('[data-press=close]');
    assert.deepEqual(page.complaints.filter((text) => !/WebSocket|token/i.test(text)), []);
  });

  test('staff closes and frees slots, sees who holds, and how many are connected', async () => {
    const space = freshNumber();
    const guest = await openBoard(space, userToken(7), { viewport: { width: 390, height: 844 } });
    const staff = await openBoard(space, staffToken(), { colorScheme: 'dark' });
    await hold(guest, 1);
    await staff.waitForSelector('[data-slot="1"] .word:has-text("utente 7")');
    await choose(staff, 8, 9);
    await staff.click('[data-press=close]');
    await slotIs(guest, 8, 'blocked');
    await slotIs(guest, 9, 'blocked');
    await choose(staff, 9);
    await staff.click('[data-press=free]');
    await slotIs(guest, 9, 'available');
    await staff.waitForSelector('#stats dd');
    assert.ok(Number(await staff.textContent('#stats dd')) >= 2);
    assert.deepEqual([...guest.complaints, ...staff.complaints], []);
  });

  test('a page that was cut off says so, and catches up without a reload', async () => {
    const space = freshNumber();
    const page = await openBoard(space, userToken(7));
    await page.evaluate(() => (window.stays = true));
    await page.context().setOffline(true);
    await page.evaluate(() => window.dispatchEvent(new Event('offline')));
    await page.waitForSelector('.connection[data-stale]:has-text("senza connessione: com’era alle")');
    const body = { idSpazio: space, sedeId: 1, date: DATE };
    const acts = await slotcast.userCaller(8).post('/api/slots/hold', { ...body, slots: [1, 2] });
    assert.equal(acts.status, 200, acts.text);
    await sleep(Number(process.env.SLOTCAST_OFFLINE_SECONDS ?? 1) * 1_000);
    await page.context().setOffline(false);
    await slotIs(page, 1, 'occupied');
    await slotIs(page, 2, 'occupied');
    await isLive(page);
    assert.equal(await page.evaluate(() => window.stays), true);
  });

  test('a token that ends is announced, and replaced without a new connection', async () => {
    const space = freshNumber();
    const page = await openBoard(space, userToken(7, { exp: secondsNow() + 50 }));
    await page.waitForSelector('#who:has-text("sta per scadere")');
    await page.evaluate(() => {
      window.links = [];
      const board = document.querySelector('slotcast-board');
      board.client.subscribe(() => window.links.push(board.client.state.link));
    });
    await page.click('#change-token');
    await page.fill('#token', userToken(7));
    await page.click('#token-form button[type=submit]');
    await page.waitForSelector('#who:text-is("utente 7")');
    assert.deepEqual([...new Set(await page.evaluate(() => window.links))], ['online']);
  });

  // A second tap of the same finger must not undo what the first one did.
  for (const width of [320, 390, 768, 1_240]) {
    test(`two quick presses at ${width} px hold, and never release`, async () => {
      const space = freshNumber();
      const pressTwice = async (pause, index) => {
        const user = freshUser();
        const page = await openBoard(space, userToken(user), { viewport: { width, height: 780 } });
        const slot = 1 + index;
        await choose(page, slot);
        const { x, y, width: w, height: h } = await page.locator('[data-press=hold]').boundingBox();
        await page.mouse.click(x + w / 2, y + h / 2);
        await sleep(pause);
        await page.mouse.click(x + w / 2, y + h / 2);
        await slotIsOwn(page, slot);
        // Every request is answered by now, so a second act would show.
        await page.waitForSelector(`.card[data-slots="${slot}"] [data-press^="release "][aria-disabled=false]`);
        await sleep(300);
        assert.deepEqual(await heldSlots(user, space), [[slot]], `${pause} ms`);
        await hasNoSidewaysScroll(page);
        await page.context().close();
      };
      await Promise.all([50, 120, 250, 400, 600].map(pressTwice));
    });
  }

  test('two quick presses on book book once, and cancel nothing', async () => {
    const [space, user] = [freshNumber(), freshUser()];
    const page = await openBoard(space, userToken(user));
    await hold(page, 4);
    const { x, y, width, height } = await page.locator('[data-press^="book "]').boundingBox();
    // The last press is longer ago than the guard of presses lasts.
    await sleep(1_100);
    for (const pause of [0, 150, 300]) {
      await sleep(pause);
      await page.mouse.click(x + width / 2, y + height / 2);
    }
    await slotIsOwn(page, 4, 'booked');
    assert.deepEqual(await chosen(page), []);
  });

  // A choice belongs to the space and day where it was made.
  test('what was chosen stays with its space and day when a link leads elsewhere in the same tab', async () => {
    const [space, other, user] = [freshNumber(), freshNumber(), freshUser()];
    const page = await openBoard(space, userToken(user));
    await choose(page, 3, 4);
    for (const link of [`#sede=1&spazio=${other}&giorno=${DATE}`, `#sede=1&spazio=${space}&giorno=${day(8)}`]) {
      await page.evaluate((hash) => (location.hash = hash), link);
      await page.waitForSelector('#chosen:text-is("Tocca l’inizio, poi la fine")');
      await isLive(page);
      await slotIs(page, 9, 'available');
      assert.deepEqual(await chosen(page), []);
      await page.click('[data-press=hold]', { force: true });
    }
    assert.deepEqual([await heldSlots(user, space), await heldSlots(user, other)], [[], []]);
    await page.goBack();
    await page.goBack();
    await page.waitForSelector('[data-slot="4"][aria-selected=true]');
    assert.equal(new URL(page.url()).hash, `#sede=1&spazio=${space}&giorno=${DATE}`);
    await page.goForward();
    await eventually(async () => (await chosen(page)).length === 0, 'nothing chosen elsewhere');
    assert.deepEqual(page.complaints, []);
  });

  // A choice that lost a slot says so, and is not sent.
  test('a choice that lost a slot says so, and the rest is held only when asked for again', async () => {
    const [space, user] = [freshNumber(), freshUser()];
    const page = await openBoard(space, userToken(user), { viewport: { width: 390, height: 844 } });
    await choose(page, 2, 3);
    const taken = { idSpazio: space, sedeId: 1, date: DATE };
    assert.equal((await slotcast.userCaller(8).post('/api/slots/3/hold', taken)).status, 200);
    await page.waitForSelector('#chosen[data-lost]:has-text("Qualcuno ha preso 11:00–12:00")');
    await page.click('[data-press=hold]', { force: true });
    await photograph(page, 'lost');
    assert.deepEqual(await heldSlots(user, space), []);
    await page.click('button:has-text("Scegli invece 10:00–11:00")');
    await page.click('[data-press=hold][aria-disabled=false]');
    await slotIsOwn(page, 2);
    assert.deepEqual(await heldSlots(user, space), [[2]]);
  });

  // Storage is never required.
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
    'a remembered place of another shape': () => localStorage.setItem('slotcast.place', '{"sedeId": {}, "spazioId": -1}'),
  };
  for (const [name, spoil] of Object.entries(storages)) {
    test(`with ${name} the page works`, async () => {
      const page = await newPage(browser);
      await page.addInitScript(spoil);
      await page.goto(`${slotcast.url}/#token=${userToken(7)}`);
      await isLive(page);
      await page.waitForSelector('[data-slot="1"]');
      await page.waitForSelector('#title:has-text("Spazio 1, sede 1")');
      await page.context().close();
    });
  }

  // The user changes only when the person says so.
  test('a link with another user’s token changes the user only when the person says so', async () => {
    const space = freshNumber();
    const page = await openBoard(space, userToken(7));
    const link = `#sede=1&spazio=${space}&giorno=${DATE}&token=${userToken(8)}`;
    await page.evaluate((hash) => (location.hash = hash), link);
    await page.waitForSelector('#switch-dialog[open]');
    await page.click('#switch-cancel');
    assert.equal(await page.textContent('#who'), 'utente 7');
    // A link from another site loads the page anew in the tab of user 7.
    await page.goto('about:blank');
    await page.goto(`${slotcast.url}/${link}`);
    await page.waitForSelector('#switch-dialog[open]');
    await page.waitForSelector('#who:text-is("utente 7")');
    assert.equal(new URL(page.url()).hash.includes('token'), false);
    await page.click('#switch-accept');
    await page.waitForSelector('#who:text-is("utente 8")');
    await isLive(page);
    await page.reload();
    await page.waitForSelector('#who:text-is("utente 8")');
    assert.deepEqual(page.complaints, []);
  });

  // Nothing of the previous user may be shown.
  test('after a change of user nothing of the one before is shown', async () => {
    const [space, first, second] = [freshNumber(), freshUser(), freshUser()];
    const page = await openBoard(space, userToken(first));
    await hold(page, 1);
    await page.waitForSelector('#holds li');
    // The node's answer about the second user's holds is held back.
    await page.route('**/api/holds', () => {});
    await page.click('#change-token');
    await page.fill('#token', userToken(second));
    await page.click('#token-form button[type=submit]');
    await page.waitForSelector(`#who:text-is("utente ${second}")`);
    await slotIsNotOwn(page, 1, 'occupied');
    assert.equal(await page.locator('#holds li').count(), 0);
    assert.equal(await page.locator('.card').count(), 0);
  });

  test('a hold runs out in front of both, and its end is told where the person looks', async () => {
    const [space, user] = [freshNumber(), freshUser()];
    const body = { idSpazio: space, sedeId: 1, date: DATE, slots: [3], holdSeconds: 8 };
    const anna = await openBoard(space, userToken(user));
    const bruno = await openBoard(space, userToken(8));
    const held = await slotcast.userCaller(user).post('/api/slots/hold', body);
    assert.equal(held.status, 200, held.text);
    await slotIsOwn(anna, 3, 'occupied');
    await slotIsNotOwn(bruno, 3, 'occupied');
    await anna.waitForSelector('.card .hold-text:has-text("finisce tra")');
    await anna.waitForSelector('[data-notice=ended]:has-text("Il tuo blocco 11:00–12:00 è finito")');
    await slotIs(anna, 3, 'available');
    await slotIs(bruno, 3, 'available');
    await anna.click('[data-notice=ended] button:has-text("Blocca di nuovo")');
    await slotIsOwn(anna, 3, 'occupied');
  });
});
