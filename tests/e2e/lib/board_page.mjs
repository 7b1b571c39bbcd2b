// The page of a node in a real browser, as its tests drive it. Without a browser they are skipped, and say so.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { findBrowser } from './browser.mjs';

const BROWSER = findBrowser();

/** Why these tests are skipped; `false` where there is a browser. */
export const skip = BROWSER ? false : 'no Chromium in PATH: install it, or name it in CHROMIUM';

export const launch = () => chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox', '--disable-gpu'] });

/** A page with its own storage, as another person's browser. What its console complains of is in `complaints`. */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({
    locale: 'it-IT',
    timezoneId: 'Europe/Rome',
    viewport: { width: 1240, height: 860 },
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') page.complaints.push(`${message.text()} ${message.location().url}`);
  });
  return page;
}

/** Opens the page of a node at a place: `{sede, spazio, giorno, token}`. */
export async function openAt(browser, url, place, options) {
  const page = await newPage(browser, options);
  const named = Object.entries(place).filter(([, value]) => value !== undefined);
  await page.goto(`${url}/#${new URLSearchParams(named)}`);
  return page;
}

/** Waits until the board is live. */
export async function isLive(page) {
  await page.waitForSelector('.connection[data-link=online]:not([data-stale])');
}

export const slotIs = (page, slot, status) => page.waitForSelector(`[data-slot="${slot}"][data-status="${status}"]`);
export const slotIsOwn = (page, slot, status) =>
  page.waitForSelector(`[data-slot="${slot}"][data-mine]${status ? `[data-status="${status}"]` : ''}`);
export const slotIsNotOwn = (page, slot, status) =>
  page.waitForSelector(`[data-slot="${slot}"]:not([data-mine])[data-status="${status}"]`);

/** Chooses from the first to the last slot, whatever was chosen before. */
export async function choose(page, first, last = first) {
  await page.locator('slotcast-board').evaluate(async (board) => board.updateComplete);
  const clear = page.locator('[data-press=clear]');
  if ((await clear.getAttribute('aria-disabled')) === 'false') await clear.click();
  await page.click(`[data-slot="${first}"]`);
  await page.waitForSelector(`[data-slot="${first}"][aria-selected=true]`);
  if (last === first) return;
  await scrollTo(page, last);
  await page.click(`[data-slot="${last}"]`, { modifiers: ['Shift'] });
  await page.waitForSelector(`[data-slot="${last}"][aria-selected=true]`);
}

/** Scrolls to a slot as a person does. The board hears of it before the next press, within a frame. */
async function scrollTo(page, slot) {
  await page.locator(`[data-slot="${slot}"]`).scrollIntoViewIfNeeded();
  await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
}

/** The numbers of the slots that are chosen. */
export const chosen = (page) =>
  page.locator('[data-slot][aria-selected=true]').evaluateAll((rows) => rows.map((row) => Number(row.dataset.slot)));

/** Holds what is chosen, and waits until it is own. */
export async function hold(page, first, last = first) {
  await choose(page, first, last);
  await page.click('[data-press=hold][aria-disabled=false]');
  for (let slot = first; slot <= last; slot += 1) await slotIsOwn(page, slot, 'occupied');
}

/** Presses a button on the card of an own hold, by its act. A button that has just appeared under a press waits. */
export async function act(page, name, slot) {
  const button = page.locator(`.card[data-slots~="${slot}"] button[data-press^="${name} "][aria-disabled=false]`);
  await button.click();
}

export async function hasNoSidewaysScroll(page) {
  const width = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(width[0] <= width[1], `${width[0]} px wide in a window of ${width[1]} px`);
}

/** Takes a picture of what a test saw, into the folder that SCREENSHOTS names. */
export async function photograph(page, name) {
  if (!process.env.SCREENSHOTS) return;
  mkdirSync(process.env.SCREENSHOTS, { recursive: true });
  // A picture must not show a fade.
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}
