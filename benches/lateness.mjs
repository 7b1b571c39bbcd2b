// How late a freed slot reaches a client: from the end that the hold's answer named to the arrival of its `slot_update`,
// in a stock client on this machine. 100 holds end each second for ten seconds.
//
// Run by `scripts/bench lateness`, which builds the node and gives it by SLOTCAST_BIN.

import { range } from '../tests/e2e/lib/fixtures.mjs';
import { startSlotcast } from '../tests/e2e/lib/slotcast.mjs';
import { userToken } from '../tests/e2e/lib/tokens.mjs';
import { eventually } from '../tests/e2e/lib/waiting.mjs';

const PER_SECOND = 100;
const SECONDS = 10;
const SPACES = 125;
const SLOTS = 8;
const DATE = new Date(Date.now() + 7 * 86_400_000).toISOString().slice(0, 10);

const node = await startSlotcast({ settings: { SLOT_MAX_HOLDS: '0', SLOTCAST_USER_RATE: '0', SLOTCAST_LOG: 'warn' } });
const service = userToken(1, { ruolo: 'servizio' });
const watcher = node.connect({ token: service });
await watcher.connected();

/** When each held slot ends, by `space:slot`, and how late its end was heard. */
const ends = new Map();
const lateness = [];
watcher.socket.on('slot_update', ({ status, data }) => {
  if (status !== 'available') return;
  lateness.push(Date.now() - ends.get(`${data.spazioId}:${data.id_slot}`));
});
for (const space of range(1, SPACES)) {
  await watcher.socket.emitWithAck('join_space', { spazioId: space, sedeId: 1 });
}

/** Holds one slot so that it ends at `end`, to the whole second of a hold's length. */
async function hold(space, slot, seconds) {
  const answer = await fetch(`${node.url}/api/slots/${slot}/hold`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service}` },
    body: JSON.stringify({ idSpazio: space, sedeId: 1, date: DATE, holdSeconds: seconds, id_utente: 1000 + space }),
  });
  const { data } = await answer.json();
  ends.set(`${space}:${slot}`, Date.parse(data.heldUntil));
}

// Holds last whole seconds, so what spreads the ends within a second is when each begins.
const all = range(0, PER_SECOND * SECONDS - 1).map((index) => [1 + (index % SPACES), 1 + Math.floor(index / SPACES)]);
const began = Date.now();
await Promise.all(
  all.map(async ([space, slot], index) => {
    const due = began + (index * 1000) / PER_SECOND;
    await new Promise((resolve) => setTimeout(resolve, due - Date.now()));
    await hold(space, slot, 15);
  }),
);
await eventually(() => lateness.length >= all.length, 'all ends', 60_000);
lateness.sort((a, b) => a - b);
const percentile = (p) => lateness[Math.min(lateness.length - 1, Math.floor((lateness.length * p) / 100))];
console.log(`lateness of ${lateness.length} ends at ${PER_SECOND}/s, in ms:`);
console.log(`p50 ${percentile(50)}  p90 ${percentile(90)}  p99 ${percentile(99)}  max ${percentile(100)}`);
if (SLOTS * SPACES < all.length) throw new Error('more ends than slots');
await node.stop?.();
process.exit(percentile(99) < 250 ? 0 : 1);
