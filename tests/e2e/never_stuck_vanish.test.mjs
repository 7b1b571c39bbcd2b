// Clients that leave without a FIN: their network is cut, the node's kernel hears nothing more of them. All are gone
// within the documented limits, and the node holds nothing for them any more.
//
// SLOTCAST_VANISHING_CLIENTS says how many (500).

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { countsAtRest, countsReturn, readCounts } from './lib/figures.mjs';
import { day, range } from './lib/fixtures.mjs';
import { makeNetwork } from './lib/network.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually, sleep, within } from './lib/waiting.mjs';

const CLIENTS = Number(process.env.SLOTCAST_VANISHING_CLIENTS ?? 500);
const CLIENTS_A_PROCESS = 1_250;
const SPACES = 20;

/** The server pings every 25 s, and closes 20 s after a ping that is not answered. */
const GONE_WITHIN_MS = 45_000;
const MARGIN_MS = 15_000;

const network = makeNetwork();
after(() => network?.remove());

test(`${CLIENTS} clients that leave without a FIN are gone in time, with their rooms`, { timeout: 300_000 }, async (t) => {
  if (network === undefined) {
    t.skip('no network namespace may be made here (as root: ip netns)');
    return;
  }
  const slotcast = await startSlotcast({ settings: { HOST: '0.0.0.0', SLOTCAST_LOG: 'warn' } });
  t.after(() => slotcast.stop());
  const before = await countsAtRest(slotcast);
  const herds = startHerds(`http://${network.near}:${slotcast.port}`);
  await within(Promise.all(herds.map((herd) => once(herd, 'message'))), 'all in their rooms', 120_000);
  await eventually(async () => (await readCounts(slotcast)).room_members === CLIENTS, 'members as many as clients');
  t.diagnostic(`before ${JSON.stringify(before)}, with them ${JSON.stringify(await readCounts(slotcast))}`);

  network.cut();
  const cutAt = Date.now();
  for (const herd of herds) herd.kill('SIGKILL');
  await changeRooms(slotcast);
  await eventually(async () => (await readCounts(slotcast)).connections === 0, 'no sockets', GONE_WITHIN_MS + MARGIN_MS);
  t.diagnostic(`all gone ${Date.now() - cutAt} ms after the cut`);
  // The request of a client that polled lasts until the kernel gives up on the answer.
  await countsReturn(slotcast, before, 60_000);
});

/** Processes of clients inside the network; one in ten polls. */
function startHerds(url) {
  const polling = Math.floor(CLIENTS / 10);
  const module = fileURLToPath(new URL('./lib/vanishing_clients.mjs', import.meta.url));
  const herd = (transport, first, count) => network.fork(module, [url, transport, first, count, SPACES].map(String));
  const websockets = CLIENTS - polling;
  const processes = Math.ceil(websockets / CLIENTS_A_PROCESS);
  const share = Math.ceil(websockets / processes);
  const herds = range(0, processes - 1).map((index) =>
    herd('websocket', index * share, Math.min(share, websockets - index * share)),
  );
  return [...herds, herd('polling', websockets, polling)];
}

/** A few changes in half of the rooms. To clients of these rooms the kernel has changes to send, to the others only pings. */
async function changeRooms(slotcast) {
  const staff = slotcast.staffCaller();
  for (const status of ['blocked', 'available', 'blocked']) {
    for (const idSpazio of range(1, SPACES / 2)) {
      const answer = await staff.put('/api/slots/1', { idSpazio, sedeId: 1, date: day(7), status });
      assert.equal(answer.status, 200, answer.text);
    }
    await sleep(500);
  }
}
