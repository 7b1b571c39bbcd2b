// The page over two nodes that share a Redis: a user's two devices, and a node that dies. Skipped where there is no Chromium.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { act, hold, isLive, launch, openAt, skip, slotIs, slotIsNotOwn, slotIsOwn } from './lib/board_page.mjs';
import { day } from './lib/fixtures.mjs';
import { startTcpProxy } from './lib/proxy.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';

const DATE = day(7);

describe('the page over two nodes', { skip }, () => {
  let redis;
  let nodes;
  let proxy;
  let browser;

  before(async () => {
    redis = await startRedis();
    nodes = [];
    for (let count = 0; count < 2; count += 1) nodes.push(await startSlotcast({ settings: { REDIS_URL: redis.url } }));
    proxy = await startTcpProxy(() => nodes.filter((node) => !node.exit).map((node) => node.port));
    browser = await launch();
  });

  after(async () => {
    await browser?.close();
    proxy?.close();
    for (const node of nodes ?? []) if (!node.exit) await node.stop();
    await redis?.kill();
  });

  test('what is held on one device is own on the other, through another node', async () => {
    const place = { sede: 1, spazio: 801, giorno: DATE, token: userToken(81) };
    const [first, second] = [await openAt(browser, nodes[0].url, place), await openAt(browser, nodes[1].url, place)];
    const stranger = await openAt(browser, nodes[1].url, { ...place, token: userToken(82) });
    for (const page of [first, second, stranger]) await isLive(page);
    await hold(first, 3);
    await slotIsOwn(second, 3, 'occupied');
    await slotIsNotOwn(stranger, 3, 'occupied');
    await act(second, 'book', 3);
    await slotIsOwn(first, 3, 'booked');
    await slotIsNotOwn(stranger, 3, 'booked');
    await hold(second, 5);
    await slotIsOwn(first, 5);
    await act(first, 'release', 5);
    await slotIs(second, 5, 'available');
  });

  test('the node that serves a page is killed, and the page goes on with the other one', async () => {
    const page = await openAt(browser, proxy.url, { sede: 1, spazio: 802, giorno: DATE, token: userToken(83) });
    await isLive(page);
    await page.evaluate(() => (window.stays = true));
    await hold(page, 2);
    // The page may use either node. So both are killed, one after the other, and the first is back before the second is killed.
    await nodes[0].kill();
    await hold(page, 4);
    nodes.push(await startSlotcast({ settings: { REDIS_URL: redis.url } }));
    await nodes[1].kill();
    await page.waitForSelector('[data-press=hold]');
    await hold(page, 6);
    for (const slot of [2, 4, 6]) await slotIsOwn(page, slot, 'occupied');
    assert.equal(await page.evaluate(() => window.stays), true);
  });
});
