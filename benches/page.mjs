// What a person waits for on the page of a node, in Chromium: the first slots over a slow network, a day of 96 slots on a slow
// processor, and 50 changes a second. Writes the part `page` of RESULTS.md.
//
// Run by `scripts/bench page`, which builds the node and gives it by SLOTCAST_BIN. PAGE_WRITES_NOTHING=1 only prints.
//
// The throttles are those of the browser's own protocol, as its tools for developers have them. That of the network holds
// back each answer over HTTP; the websocket and the making of a connection are not held back. That of the processor stops the
// page's main thread for most of the time.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';

import { act, choose, isLive, launch, newPage, openAt, slotIs, slotIsOwn } from '../tests/e2e/lib/board_page.mjs';
import { day } from '../tests/e2e/lib/fixtures.mjs';
import { startRedis } from '../tests/e2e/lib/redis_server.mjs';
import { startSlotcast } from '../tests/e2e/lib/slotcast.mjs';
import { staffToken, userToken } from '../tests/e2e/lib/tokens.mjs';
import { describeMachine } from './lib/machine.mjs';
import { REPOSITORY } from './lib/processes.mjs';
import { replacePart } from './lib/results.mjs';

const NETWORK = { offline: false, latency: 150, downloadThroughput: 1_600_000 / 8, uploadThroughput: 750_000 / 8 };
const SLOWER = 6;
const VISITS = 11;
const DRAWINGS = 15;
const CHANGES_A_SECOND = 50;
/** How many slots one call changes. The page handles each as a change of its own, and a busy node keeps up. */
const TOGETHER = 5;
const SECONDS = 10;
const HOLDS = 15;
const FRAME_MS = 1_000 / 60;
const DATE = day(7);

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const percentile = (values, p) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor((values.length * p) / 100))];
const pause = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

/** Runs in the page: notes when the first slot is drawn, and how long each drawing of the board takes, including its layout. */
function watchDrawings() {
  window.drawings = [];
  const define = customElements.define.bind(customElements);
  customElements.define = (name, board) => {
    const draw = board.prototype.performUpdate;
    board.prototype.performUpdate = function () {
      const begun = performance.now();
      draw.call(this);
      this.renderRoot.querySelector('.frame')?.offsetHeight;
      const ended = performance.now();
      if (this.renderRoot.querySelector('.slot')) window.firstSlots ??= ended;
      window.drawings.push(ended - begun);
    };
    define(name, board);
  };
}

async function open(browser, slotcast, { sede, spazio, token }, prepare = async () => undefined) {
  const page = await newPage(browser);
  await page.addInitScript(watchDrawings);
  const devtools = await page.context().newCDPSession(page);
  await prepare(devtools);
  await page.goto(`${slotcast.url}/#sede=${sede}&spazio=${spazio}&giorno=${DATE}&token=${token}`);
  await page.waitForSelector('[data-slot="1"]');
  return { page, devtools };
}

/** From the start of the navigation until the first slots are drawn, in ms, with an empty cache each time. */
async function firstSlots(browser, slotcast) {
  const times = [];
  for (let visit = 0; visit < VISITS; visit += 1) {
    const { page } = await open(browser, slotcast, { sede: 1, spazio: 1, token: userToken(7) }, async (devtools) => {
      await devtools.send('Network.enable');
      await devtools.send('Network.emulateNetworkConditions', NETWORK);
    });
    times.push(await page.evaluate(() => window.firstSlots));
    await page.context().close();
  }
  return times;
}

/** Draws a whole day of 96 slots in the place of another day, in ms. */
async function wholeDay(browser, slotcast) {
  const { page, devtools } = await open(browser, slotcast, { sede: 2, spazio: 3, token: userToken(8) });
  await isLive(page);
  await devtools.send('Emulation.setCPUThrottlingRate', { rate: SLOWER });
  const times = [];
  for (let drawing = 0; drawing < DRAWINGS; drawing += 1) {
    await page.evaluate(() => {
      window.drawings.length = 0;
      document.querySelector('slotcast-board').go(window.isBack ? -1 : 1);
      window.isBack = !window.isBack;
    });
    await isLive(page);
    await page.waitForSelector('[data-slot="96"]');
    // The longest drawing is the one of all rows.
    times.push(await page.evaluate(() => Math.max(...window.drawings)));
  }
  await page.context().close();
  return times;
}

/** Changes slots. Repeats the call while the store is too busy to answer. */
async function changed(staff, slots, status) {
  for (;;) {
    const answer = await staff.put('/api/slots', { idSpazio: 3, sedeId: 2, date: DATE, status, slots });
    if (answer.status === 200) return answer;
    if (answer.status !== 503) throw new Error(answer.text);
  }
}

/** Measures the page while 50 slots a second change. */
async function manyChanges(browser, slotcast) {
  const { page, devtools } = await open(browser, slotcast, { sede: 2, spazio: 3, token: userToken(9) });
  await isLive(page);
  await devtools.send('Emulation.setCPUThrottlingRate', { rate: SLOWER });
  await page.evaluate(() => {
    window.drawings.length = 0;
    Object.assign(window, { longTasks: [], frames: [] });
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask' });
    const frame = (time) => {
      window.frames.push(time);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  });
  const staff = slotcast.caller(staffToken());
  const begun = Date.now();
  const sent = [];
  for (let change = 0; change < CHANGES_A_SECOND * SECONDS; change += TOGETHER) {
    await pause(Math.max(0, begun + (change * 1_000) / CHANGES_A_SECOND - Date.now()));
    const status = Math.floor(change / 96) % 2 === 0 ? 'booked' : 'available';
    sent.push(changed(staff, Array.from({ length: TOGETHER }, (_, index) => 1 + ((change + index) % 96)), status));
  }
  const answers = await Promise.all(sent);
  const took = (Date.now() - begun) / 1_000;
  const last = Math.max(...answers.map(({ data }) => data.version));
  await page.waitForFunction((version) => document.querySelector('slotcast-board').client.space({ sedeId: 2, spazioId: 3 }).state.position.version >= version, last);
  const told = await page.evaluate(() => ({ drawings: window.drawings, longTasks: window.longTasks, frames: window.frames }));
  const gaps = told.frames.slice(1).map((time, index) => time - told.frames[index]);
  await page.context().close();
  return { ...told, gaps, rate: (answers.length * TOGETHER) / took };
}

/** From the press on one device until the slot is drawn as own on the other device of the same user, through another node, in ms. */
async function otherDevice(browser) {
  const redis = await startRedis();
  const nodes = [];
  for (let count = 0; count < 2; count += 1) nodes.push(await startSlotcast({ settings: { REDIS_URL: redis.url, SLOTCAST_LOG: 'warn' } }));
  const place = { sede: 1, spazio: 1, giorno: DATE, token: userToken(10) };
  const [first, second] = [await openAt(browser, nodes[0].url, place), await openAt(browser, nodes[1].url, place)];
  for (const page of [first, second]) await isLive(page);
  await first.evaluate(() => document.addEventListener('click', () => (window.pressed = Date.now()), { capture: true }));
  const times = [];
  for (let hold = 0; hold < HOLDS; hold += 1) {
    const slot = 1 + (hold % 9);
    const shown = second.evaluate(async (number) => {
      const row = document.querySelector('slotcast-board').shadowRoot.querySelector(`[data-slot="${number}"]`);
      const isOwn = () => row.hasAttribute('data-mine');
      await new Promise((resolve) => new MutationObserver(() => isOwn() && resolve()).observe(row, { attributes: true }));
      return Date.now();
    }, slot);
    await choose(first, slot);
    await first.click('[data-press=hold][aria-disabled=false]');
    const pressed = await first.evaluate(() => window.pressed);
    times.push((await shown) - pressed);
    await slotIsOwn(first, slot);
    await act(first, 'release', slot);
    for (const page of [first, second]) await slotIs(page, slot, 'available');
  }
  for (const page of [first, second]) await page.context().close();
  for (const node of nodes) await node.stop();
  await redis.kill();
  return times;
}

function lineOf(title, unit, value, goal, isReached) {
  return [title, unit, value < 10 ? value.toFixed(1) : String(Math.round(value)), goal ?? '', goal === undefined ? '' : isReached ? 'yes' : 'no'];
}

function tableOf(lines) {
  const rows = [['', 'unit', 'measured', 'goal', 'reached'], ...lines];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const show = (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  return [show(rows[0]), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.slice(1).map(show)].join('\n');
}

/** Whether the node is a release build, found by how it compresses. */
async function buildOf(slotcast) {
  const { headers } = await fetch(slotcast.url, { headers: { 'accept-encoding': 'br, gzip' } });
  return headers.get('content-encoding') === 'br' ? 'a release build' : 'a build for development, which sends gzip in place of brotli';
}

// Each change is synced to the disk, and a busy disk would falsify the figures.
if (existsSync('/dev/shm')) process.env.TMPDIR = '/dev/shm';
const slotcast = await startSlotcast({ settings: { SLOTCAST_LOG: 'warn' } });
const quarters = { name: 'Sala 24 ore', timezone: 'Europe/Rome', opens: '00:00', closes: '24:00', slotMinutes: 15 };
await slotcast.caller(staffToken()).put('/api/spaces/2/3', quarters);
const browser = await launch();
const busy = loadavg()[0];
const [visits, days, changes, devices, build] = [
  await firstSlots(browser, slotcast),
  await wholeDay(browser, slotcast),
  await manyChanges(browser, slotcast),
  await otherDevice(browser),
  await buildOf(slotcast),
];
await browser.close();
await slotcast.stop();

const drawn = median(changes.drawings);
const lines = [
  lineOf(`first slots, median of ${VISITS} visits: 150 ms, 1.6 Mbit/s`, 'ms', median(visits), '1200', median(visits) <= 1_200),
  lineOf('the same, slowest', 'ms', Math.max(...visits)),
  lineOf(`a day of 96 slots drawn, median of ${DRAWINGS}, processor ${SLOWER} times slower`, 'ms', median(days), '16.7', median(days) <= FRAME_MS),
  lineOf('the same, fastest', 'ms', Math.min(...days)),
  lineOf('changes a second, of one day of 96 slots, all shown', '/s', changes.rate, String(CHANGES_A_SECOND), changes.rate >= CHANGES_A_SECOND * 0.98),
  lineOf('one of their drawings, median, processor slowed as above', 'ms', drawn, '16.7', drawn <= FRAME_MS),
  lineOf('the same, p10', 'ms', percentile(changes.drawings, 10)),
  lineOf('the same, p95', 'ms', percentile(changes.drawings, 95)),
  lineOf('frames a second meanwhile', '/s', (changes.gaps.length * 1_000) / changes.gaps.reduce((sum, gap) => sum + gap, 0)),
  lineOf('tasks longer than 50 ms meanwhile', '', changes.longTasks.length),
  lineOf(`an own hold is own on the other device, through another node, slowest of ${HOLDS}`, 'ms', Math.max(...devices), '1000', Math.max(...devices) <= 1_000),
  lineOf('the same, median', 'ms', median(devices)),
];
const { date, commit, machine } = describeMachine();
const chromium = execFileSync('chromium', ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
const content = `### page: what a person waits for on the page of a node

${tableOf(lines)}

The throttles are Chromium's own (\`Network.emulateNetworkConditions\`, \`Emulation.setCPUThrottlingRate\`): each answer over HTTP waits
150 ms and comes at 1.6 Mbit/s; connections are made at once, and the websocket is not held back. A drawing is the element's
update with its layout, the longest one of a day: rows that are out of sight come a frame later. The two devices are two pages
at two nodes that share a Redis; the time is from the press to the drawn row.

${date}, commit ${commit}, \`./scripts/bench page\`, ${build}. ${machine}. ${chromium}. Load average at the start: ${busy.toFixed(1)}.`;
console.log(content);
if (!process.env.PAGE_WRITES_NOTHING) {
  const file = join(REPOSITORY, 'benches/RESULTS.md');
  writeFileSync(file, replacePart(readFileSync(file, 'utf8'), 'page', content));
}
process.exit(0);
