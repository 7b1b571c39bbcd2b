// How late a freed slot reaches a client: from the end that the hold's answer named, by the store's clock, to the arrival of
// its `slot_update` in a stock client on this machine, which has the same clock. 100 holds end each second for ten seconds:
// on the embedded store, and on Redis through one node and through three, where the client watches on another node than
// the one that made the hold.
//
// Run by `scripts/bench lateness`, which builds the node and gives it by SLOTCAST_BIN.

import { loadavg } from 'node:os';

import { startCluster } from '../tests/e2e/lib/cluster.mjs';
import { range } from '../tests/e2e/lib/fixtures.mjs';
import { startSlotcast } from '../tests/e2e/lib/slotcast.mjs';
import { userToken } from '../tests/e2e/lib/tokens.mjs';
import { eventually } from '../tests/e2e/lib/waiting.mjs';

const PER_SECOND = 100;
const SECONDS = 10;
const SPACES = 125;
const SLOTS = 8;
const HOLD_SECONDS = 15;
const TARGET_MS = 250;
const DATE = new Date(Date.now() + 7 * 86_400_000).toISOString().slice(0, 10);

const settings = { SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0', SLOTCAST_USER_RATE: '0', SLOTCAST_LOG: 'warn' };
const service = userToken(1, { ruolo: 'servizio' });

/** The measured systems by name. Each starts `{nodes, stop}`. */
const SYSTEMS = [
  ['embedded store', async () => {
    const node = await startSlotcast({ settings });
    return { nodes: [node], stop: () => node.stop() };
  }],
  ['Redis, one node', () => startCluster({ nodes: 1, settings })],
  ['Redis, three nodes', () => startCluster({ nodes: 3, settings })],
];

if (SLOTS * SPACES < PER_SECOND * SECONDS) throw new Error('more ends than slots');
let isInTime = true;
for (const [name, start] of SYSTEMS) {
  const system = await start();
  const late = await measureLateness(system.nodes).finally(() => system.stop());
  isInTime &&= printTable(name, late);
}
process.exit(isInTime ? 0 : 1);

/**
 * How late each end was heard, in ms, ascending. Each space is watched on one of the nodes; its holds are made on the
 * others, where there are any.
 */
async function measureLateness(nodes) {
  /** By `space:slot`: when each hold ends, and when its freeing was heard. */
  const [ends, heard] = [new Map(), new Map()];
  const watchers = await Promise.all(nodes.map((node) => node.user(1, { token: service })));
  for (const { socket } of watchers) {
    socket.on('slot_update', ({ status, data }) => {
      if (status === 'available') heard.set(`${data.spazioId}:${data.id_slot}`, Date.now());
    });
  }
  for (const space of range(1, SPACES)) {
    const answer = await watchers[space % nodes.length].socket.emitWithAck('join_space', { spazioId: space, sedeId: 1 });
    if (!answer.ok) throw new Error(`a space was not joined: ${JSON.stringify(answer)}`);
  }

  /** Holds one slot, on a node where its space is not watched unless there is only one node. */
  const hold = async (space, slot) => {
    const others = nodes.filter((_, index) => index !== space % nodes.length);
    const node = others[slot % others.length] ?? nodes[0];
    const answer = await fetch(`${node.url}/api/slots/${slot}/hold`, {
      method: 'POST',
      headers: { authorization: `Bearer ${service}` },
      body: JSON.stringify({ idSpazio: space, sedeId: 1, date: DATE, holdSeconds: HOLD_SECONDS, id_utente: 1000 + space }),
    });
    const text = await answer.text();
    if (answer.status !== 200) throw new Error(`a hold was answered ${answer.status}: ${text}`);
    ends.set(`${space}:${slot}`, Date.parse(JSON.parse(text).data.heldUntil));
  };

  // Holds last whole seconds, so their ends are spread within a second by when each begins.
  const all = range(0, PER_SECOND * SECONDS - 1).map((index) => [1 + (index % SPACES), 1 + Math.floor(index / SPACES)]);
  const began = Date.now();
  await Promise.all(
    all.map(async ([space, slot], index) => {
      const due = began + (index * 1000) / PER_SECOND;
      await new Promise((resolve) => setTimeout(resolve, due - Date.now()));
      await hold(space, slot);
    }),
  );
  await eventually(() => heard.size >= all.length, () => `all ends (${heard.size} of ${all.length})`, 60_000);
  return [...ends].map(([slot, end]) => heard.get(slot) - end).sort((left, right) => left - right);
}

/** Prints the percentiles, and whether the 99th meets its goal. */
function printTable(name, late) {
  const percentile = (p) => late[Math.min(late.length - 1, Math.floor((late.length * p) / 100))];
  const busy = loadavg().map((load) => load.toFixed(1));
  const isInTime = percentile(99) < TARGET_MS;
  console.log(`\n${name}: lateness of ${late.length} ends at ${PER_SECOND}/s, in ms (load average ${busy.join(' ')}):`);
  console.log('   p50    p90    p99    max');
  console.log([50, 90, 99, 100].map((p) => String(percentile(p)).padStart(6)).join(' '));
  console.log(`p99 under ${TARGET_MS} ms: ${isInTime ? 'yes' : 'NO'}`);
  return isInTime;
}
