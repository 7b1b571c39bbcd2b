// Large events of sockets whose acts wait for the store: a node reads few of them, and handles them in turn.

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { readMetric } from './lib/cluster.mjs';
import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { RawClient, frame } from './lib/raw_client.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually, sleep } from './lib/waiting.mjs';

const SOCKETS = 8;
const EVENTS = 60;

/** Nearly the largest event. */
const FILLER = 'x'.repeat(60 * 1024);

/** How many of them may wait for one socket: they may have 64 KiB, and the event that is being read comes on top. */
const MAY_WAIT = 4;

const redis = await startRedis();
after(() => redis.kill());
const slotcast = await startSlotcast({ settings: { REDIS_URL: redis.url } });
after(() => slotcast.stop());

test('a socket that sends large events while the store does not answer is held back, and none is lost', async (t) => {
  const space = freshSpace();
  const clients = [];
  for (const _ of range(1, SOCKETS)) {
    const client = await (await RawClient.open(slotcast.port)).upgrade();
    clients.push(await client.pongs().join(freshNumber(), space));
  }
  t.after(() => clients.forEach((client) => client.close()));

  const thaw = redis.freeze();
  t.after(thaw);
  for (const [index, client] of clients.entries()) {
    client.write(frame(`420${JSON.stringify(['hold_slot', space.event({ slots: [index + 1] })])}`));
    for (const id of range(1, EVENTS)) client.write(frame(`42${id}${JSON.stringify(['sync', space.event({ FILLER })])}`));
  }
  const waiting = () => readMetric(slotcast, 'slotcast_queue_depth');
  await eventually(async () => (await waiting()) >= SOCKETS, 'an event of each socket waits');
  let most = 0;
  for (const _ of range(1, 20)) {
    most = Math.max(most, await waiting());
    await sleep(20);
  }
  thaw();
  assert.ok(most <= SOCKETS * MAY_WAIT, `${most} events wait`);

  for (const client of clients) {
    await client.sees(`43${EVENTS}[`);
    const answers = [...client.received.matchAll(/43(\d+)\[/g)].map(([, id]) => Number(id));
    assert.deepEqual(answers, range(0, EVENTS), 'each is answered, in order');
  }
  await eventually(async () => (await waiting()) === 0, 'nothing waits');
});
