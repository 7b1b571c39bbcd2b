// The page by keyboard alone, for a screen reader, on a small screen and in another language; and its pictures.
// SCREENSHOTS=docs/screenshots takes those of the documentation anew.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';

import {
  act, choose, hasNoSidewaysScroll, hold, isLive, launch, openAt, photograph, skip, slotIs, slotIsOwn,
} from './lib/board_page.mjs';
import { day } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken, staffToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const DATE = day(7);
const require = createRequire(new URL('../../web/package.json', import.meta.url));

describe('the board for everybody', { skip }, () => {
  let slotcast;
  let browser;
  let lastUser = 2_000;

  before(async () => {
    slotcast = await startSlotcast({ settings: { SLOT_MAX_HOLDS: '2', SLOTCAST_GUESTS: 'watch' } });
    const hour = { name: 'Sala riunioni', timezone: 'Europe/Rome', opens: '09:00', closes: '18:00', slotMinutes: 60 };
    const staff = slotcast.caller(staffToken());
    for (let space = 2; space <= 12; space += 1) await staff.put(`/api/spaces/1/${space}`, hour);
    const quarters = { ...hour, name: 'Sala 24 ore', opens: '00:00', closes: '24:00', slotMinutes: 15 };
    assert.equal((await staff.put('/api/spaces/2/3', quarters)).status, 200);
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    await slotcast?.stop();
  });

  const freshUser = () => (lastUser += 1);

  async function open({ sede = 1, spazio = 2, user, token, ...options } = {}) {
    const place = { sede, spazio, giorno: DATE, token: token ?? (user && userToken(user)) };
    const page = await openAt(browser, slotcast.url, place, options);
    await page.waitForSelector('[data-slot="1"]');
    if (place.token) await isLive(page);
    return page;
  }

  /** A day as in real life: a booking, a hold of another user, and a closed slot. */
  async function fill(spazio) {
    const body = { idSpazio: spazio, sedeId: 1, date: DATE };
    const other = slotcast.userCaller(freshUser());
    for (const slots of [[5, 6], [4]]) assert.equal((await other.post('/api/slots/hold', { ...body, slots })).status, 200);
    assert.equal((await other.post('/api/slots/book', { ...body, slots: [5, 6] })).status, 200);
    const closed = { ...body, status: 'blocked', data: { note: 'manutenzione' } };
    assert.equal((await slotcast.caller(staffToken()).put('/api/slots/8', closed)).status, 200);
  }

  test('two hours of a day of 96 slots are booked by the keyboard alone, in at most 15 presses', async () => {
    const page = await open({ sede: 2, spazio: 3, user: freshUser() });
    let presses = 0;
    const press = async (key) => {
      presses += 1;
      await page.keyboard.press(key);
    };
    const focused = () => page.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.getAttribute('role'));
    await page.locator('#today').focus();
    while ((await focused()) !== 'option') await press('Tab');
    // The two digits of an hour count together only if they come within a moment, so the test types them at once.
    await Promise.all(['1', '4'].map(press));
    for (const key of [' ', 'Shift+PageDown', 'Shift+PageDown']) await press(key);
    await page.waitForSelector('#chosen:text-is("14:00–16:00, 2 ore")');
    await press('Enter');
    await slotIsOwn(page, 64, 'occupied');
    // The focus stays on the control that had it.
    assert.equal(await focused(), 'option');
    await press('Enter');
    await press('Enter');
    await slotIsOwn(page, 57, 'booked');
    await slotIsOwn(page, 64, 'booked');
    await eventually(async () => (await focused()) === 'option', 'the focus is back in the day');
    assert.ok(presses <= 15, `${presses} presses`);
    assert.deepEqual(page.complaints, []);
  });

  test('a day of 96 slots is drawn in portions, and no row that is in sight moves', async () => {
    const page = await open({ sede: 2, spazio: 3, user: freshUser() });
    await page.waitForSelector('[data-slot="96"]');
    const pictures = await page.locator('slotcast-board').evaluate(async (board, step) => {
      const drawn = [];
      const draw = board.performUpdate;
      board.performUpdate = function () {
        draw.call(this);
        const rows = [...this.renderRoot.querySelectorAll('.slot')];
        drawn.push({ count: rows.length, top: Math.round(rows[0]?.getBoundingClientRect().top ?? 0) });
      };
      board.go(step);
      while ((drawn.at(-1)?.count ?? 0) < 96 || drawn.length < 3) await new Promise(requestAnimationFrame);
      board.performUpdate = draw;
      return drawn;
    }, 1);
    const rows = pictures.filter(({ count }) => count > 0);
    const from = rows.findIndex(({ count }) => count < 96);
    assert.notEqual(from, -1, JSON.stringify(pictures));
    const grown = rows.slice(from).map(({ count }, index, all) => count - (all[index - 1]?.count ?? 0));
    assert.ok(grown.every((count) => count <= 32), JSON.stringify(pictures));
    assert.equal(new Set(rows.slice(from).map(({ top }) => top)).size, 1, JSON.stringify(pictures));
  });

  test('a slot is named by its time, its state and whose it is, and acts by their verbs', async () => {
    await fill(3);
    const page = await open({ spazio: 3, user: freshUser() });
    await hold(page, 2);
    const names = await page.locator('slotcast-board').getByRole('option').evaluateAll((rows) => rows.map((row) => row.getAttribute('aria-label')));
    assert.equal(names[0], '09:00, disponibile, fino alle 10:00');
    assert.equal(names[1], '10:00, tuo, bloccato, fino alle 11:00');
    assert.equal(names[3], '12:00, occupato, fino alle 13:00');
    assert.equal(names[4], '13:00, prenotato, fino alle 14:00');
    assert.equal(names[7], '16:00, chiuso, manutenzione, fino alle 17:00');
    for (const name of ['Blocca', 'Prenota', 'Rilascia', 'Prolunga']) {
      await page.getByRole('button', { name, exact: true }).waitFor();
    }
  });

  test('what others change is told politely, gathered', async () => {
    const page = await open({ spazio: 4, user: freshUser() });
    const body = { idSpazio: 4, sedeId: 1, date: DATE };
    // One act makes both changes, so they arrive together on any machine.
    const held = await slotcast.userCaller(freshUser()).post('/api/slots/hold', { ...body, slots: [1, 2] });
    assert.equal(held.status, 200, held.text);
    await page.waitForSelector('#live[aria-live=polite]:has-text("2 slot presi")', { state: 'attached' });
  });

  test('axe finds nothing, whatever the page shows', async () => {
    await fill(5);
    const axe = require.resolve('axe-core/axe.min.js');
    const states = {
      fresh: async () => open({ spazio: 6, user: freshUser(), bypassCSP: true }),
      chosen: async () => {
        const page = await open({ spazio: 5, user: freshUser(), bypassCSP: true });
        await choose(page, 1, 2);
        return page;
      },
      held: async () => {
        const page = await open({ spazio: 5, user: freshUser(), bypassCSP: true, colorScheme: 'dark' });
        await hold(page, 1);
        return page;
      },
      refused: async () => {
        const page = await open({ spazio: 5, user: freshUser(), bypassCSP: true });
        await hold(page, 2);
        await hold(page, 3);
        await choose(page, 7);
        await page.click('[data-press=hold]');
        await page.waitForSelector('[data-notice=refusal]');
        return page;
      },
      offline: async () => {
        const page = await open({ spazio: 5, user: freshUser(), bypassCSP: true });
        await page.addScriptTag({ path: axe });
        await page.context().setOffline(true);
        await page.evaluate(() => window.dispatchEvent(new Event('offline')));
        await page.waitForSelector('.connection[data-stale]');
        return page;
      },
      dialog: async () => {
        const page = await open({ spazio: 5, user: freshUser(), bypassCSP: true });
        await page.click('#change-token');
        await page.waitForSelector('#token-dialog[open]');
        return page;
      },
      guest: async () => open({ spazio: 5, bypassCSP: true }),
    };
    for (const [name, make] of Object.entries(states)) {
      const page = await make();
      // The pictures show states, so fades must be over.
      await page.emulateMedia({ reducedMotion: 'reduce' });
      if (name !== 'offline') await page.addScriptTag({ path: axe });
      const { violations } = await page.evaluate(() => window.axe.run());
      const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`);
      assert.deepEqual(found, [], name);
      await page.context().close();
    }
  });

  test('at 320 px nothing scrolls sideways, every button is a finger wide, and axe finds nothing', async () => {
    await fill(7);
    for (const token of [userToken(freshUser()), staffToken(), undefined]) {
      const page = await open({ spazio: 7, token, viewport: { width: 320, height: 640 }, hasTouch: true, bypassCSP: true });
      if (token) await choose(page, 1, 2);
      await hasNoSidewaysScroll(page);
      const small = await page.locator('slotcast-board button').evaluateAll((buttons) =>
        buttons.map((button) => button.getBoundingClientRect()).filter(({ width, height }) => width < 44 || height < 44).length,
      );
      assert.equal(small, 0);
      await page.addScriptTag({ path: require.resolve('axe-core/axe.min.js') });
      await page.emulateMedia({ reducedMotion: 'reduce' });
      const { violations } = await page.evaluate(() => window.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(' ')}`), []);
      await page.context().close();
    }
  });

  test('on a phone the name of the space is not cut: it stands above the day where it has no room beside it', async () => {
    const longName = 'Sala riunioni grande, piano 2';
    const schedule = { timezone: 'Europe/Rome', opens: '09:00', closes: '18:00', slotMinutes: 60 };
    const look = (page) =>
      page.evaluate(() => {
        const choose = document.getElementById('choose');
        const { bottom, width } = choose.getBoundingClientRect();
        const date = document.getElementById('date').getBoundingClientRect();
        choose.style.width = 'auto';
        const whole = choose.getBoundingClientRect().width;
        return { isAbove: bottom <= date.top, isWhole: width >= Math.floor(whole) };
      });
    for (const [name, width, isAbove] of [['Sala 1', 390, false], [longName, 390, true], [longName, 320, true], [longName, 1240, false]]) {
      // The node has only this space, because the widest name in the list decides the width.
      const alone = await startSlotcast();
      try {
        assert.equal((await alone.caller(staffToken()).put('/api/spaces/1/1', { name, ...schedule })).status, 200);
        const place = { sede: 1, spazio: 1, giorno: DATE, token: userToken(freshUser()) };
        const page = await openAt(browser, alone.url, place, { viewport: { width, height: 844 } });
        await page.waitForSelector('#choose');
        assert.deepEqual(await look(page), { isAbove, isWhole: true }, `${name} at ${width} px`);
        await hasNoSidewaysScroll(page);
        await page.context().close();
      } finally {
        await alone.stop();
      }
    }
  });

  test('on the smallest screen the bar stays in reach, whatever stands above it', async () => {
    for (const viewport of [{ width: 320, height: 640 }, { width: 320, height: 480 }, { width: 640, height: 360 }]) {
      const user = freshUser();
      const page = await open({ spazio: 12, user, viewport, hasTouch: true });
      const body = { idSpazio: 12, sedeId: 1, date: DATE };
      for (const slots of [[1], [3]]) assert.equal((await slotcast.userCaller(user).post('/api/slots/hold', { ...body, slots })).status, 200);
      for (const slot of [1, 3]) await page.waitForSelector(`.card[data-slots="${slot}"]`);
      await choose(page, 7);
      // The user holds as much as allowed, so a refusal is shown, too.
      await page.click('[data-press=hold]');
      await page.waitForSelector('[data-notice=refusal]');
      await page.click('[data-press=clear]');
      await hasNoSidewaysScroll(page);
      const { board, bar, around } = await page.evaluate(() => {
        const boxOf = ({ bottom, height }) => ({ bottom, height });
        const root = document.querySelector('slotcast-board').shadowRoot;
        const box = (element) => boxOf(element.getBoundingClientRect());
        return { board: box(root.host), bar: box(root.querySelector('.bar')), around: box(document.querySelector('.column')) };
      });
      assert.ok(bar.bottom <= board.bottom + 1 && bar.bottom <= around.bottom + 1, JSON.stringify({ viewport, board, bar, around }));
      for (const slot of [1, 3]) await act(page, 'release', slot);
      await slotIs(page, 3, 'available');
      await page.context().close();
    }
  });

  test('a span of time stays in one line in cards and notices, however narrow the board is', async () => {
    for (const [locale, words] of [['it-IT', '10:00–12:00'], ['en-GB', '10:00 to 12:00']]) {
      const user = freshUser();
      const page = await open({ spazio: 11, user, locale, viewport: { width: 320, height: 844 }, hasTouch: true });
      await hold(page, 2, 3);
      for (let width = 320; width <= 460; width += 10) {
        await page.setViewportSize({ width, height: 844 });
        const spans = await page.evaluate(() => {
          const found = [];
          const root = document.querySelector('slotcast-board').shadowRoot;
          const texts = document.createTreeWalker(root.querySelector('.dock'), NodeFilter.SHOW_TEXT);
          while (texts.nextNode()) {
            const text = texts.currentNode;
            if (!text.parentElement.closest('.card, .notice')) continue;
            for (const { index, 0: span } of text.data.matchAll(/\d\d:\d\d(?:–| to )\d\d:\d\d/g)) {
              const range = document.createRange();
              range.setStart(text, index);
              range.setEnd(text, index + span.length);
              found.push({ span, lines: new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size });
            }
          }
          return found;
        });
        assert.ok(spans.some(({ span }) => span === words), JSON.stringify(spans));
        assert.ok(spans.every(({ lines }) => lines === 1), `at ${width} px: ${JSON.stringify(spans)}`);
      }
      await act(page, 'release', 2);
      await slotIs(page, 3, 'available');
      await page.context().close();
    }
  });

  test('with colours of the system alone, the bar of a hold is seen', async () => {
    const page = await open({ spazio: 11, user: freshUser(), forcedColors: 'active' });
    await hold(page, 2);
    const [bar, card] = await page.locator('.card progress').evaluate((progress) =>
      [progress, progress.closest('.card')].map((element) => getComputedStyle(element).backgroundColor),
    );
    assert.notEqual(bar, card);
    await act(page, 'release', 2);
    await slotIs(page, 2, 'available');
    await page.context().close();
  });

  test('a finger drags the ends of the choice, and scrolls with the rows', async () => {
    const page = await open({ spazio: 8, user: freshUser(), viewport: { width: 390, height: 844 }, hasTouch: true });
    await choose(page, 3);
    const box = await page.locator('.handle[data-end=to]').boundingBox();
    const target = await page.locator('[data-slot="5"]').boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    await page.mouse.move(x, y);
    await page.mouse.down();
    await page.mouse.move(x, target.y + target.height / 2, { steps: 4 });
    await page.mouse.up();
    await page.waitForSelector('#chosen:text-is("11:00–14:00, 3 ore")');
    const touch = await page.locator('.slots').evaluate((rows) => getComputedStyle(rows).touchAction);
    assert.equal(touch, 'pan-y');
  });

  test('Italian and English, and no word of the other', async () => {
    await fill(9);
    const words = {
      'it-IT': /\b(Hold|Book|Release|Extend|held|booked|closed|yours|live|Today|Your|Sign|You|the)\b/,
      'en-GB': /\b(Blocca|Prenota|Rilascia|Prolunga|occupato|prenotato|chiuso|tuo|diretta|Oggi|Hai|Tocca|delle|utente)\b/,
    };
    for (const [locale, other] of Object.entries(words)) {
      const user = freshUser();
      const page = await open({ spazio: 9, user, locale });
      await hold(page, 1);
      await hold(page, 2);
      await choose(page, 3);
      await page.click('[data-press=hold]');
      await page.waitForSelector('[data-notice=refusal]');
      const told = await page.evaluate(() => {
        const root = document.querySelector('slotcast-board').shadowRoot;
        const labels = [...root.querySelectorAll('[aria-label]')].map((one) => one.getAttribute('aria-label'));
        const shown = [];
        for (const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT); texts.nextNode(); ) {
          if (texts.currentNode.parentElement?.localName !== 'style') shown.push(texts.currentNode.data);
        }
        const around = document.body.innerText.replaceAll('English', '').replaceAll('Italiano', '');
        return [...labels, ...shown, around].join('\n').replaceAll('manutenzione', '').replaceAll('Sala riunioni', '');
      });
      assert.doesNotMatch(told, other, locale);
      assert.equal(await page.evaluate(() => document.documentElement.lang), locale.slice(0, 2));
      for (const slot of [1, 2]) await act(page, 'release', slot);
      await slotIs(page, 2, 'available');
      await page.context().close();
    }
  });

  test('the zone is named where it is not that of the viewer, with the viewer’s own time', async () => {
    const page = await open({ spazio: 10, user: freshUser(), timezoneId: 'America/New_York' });
    await page.waitForSelector('.zone:text-is("Orari di Europe/Rome")');
    const name = await page.getAttribute('[data-slot="2"]', 'aria-label');
    assert.match(name, /^10:00, disponibile, fino alle 11:00, 0[45]:00–0[56]:00 per te$/);
  });

  test('pictures of the board are taken, light, dark, on a phone, with 96 slots and on a wall', async () => {
    await fill(11);
    const user = freshUser();
    const light = await open({ spazio: 11, user });
    await hold(light, 2, 3);
    await choose(light, 9);
    await photograph(light, 'board');
    const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
    for (const [name, options] of Object.entries({ dark: { colorScheme: 'dark' }, phone })) {
      const page = await open({ spazio: 11, user, ...options });
      await slotIsOwn(page, 3);
      await photograph(page, name);
      await page.context().close();
    }
    const body = { idSpazio: 3, sedeId: 2, date: DATE, slots: [37, 38, 39, 40, 41, 42] };
    assert.equal((await slotcast.userCaller(freshUser()).post('/api/slots/hold', body)).status, 200);
    const many = await open({ sede: 2, spazio: 3, user: freshUser() });
    await choose(many, 44, 47);
    await photograph(many, '96-slots');
    // Nobody signs in at a wall screen, so a guest watches.
    const wall = await open({ spazio: 11, viewport: { width: 2_560, height: 1_440 } });
    await isLive(wall);
    await photograph(wall, 'wall');
    for (const page of [light, many, wall]) await hasNoSidewaysScroll(page);
  });
});
