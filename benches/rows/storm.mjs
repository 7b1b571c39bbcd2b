// The storm of early joins: waves of clients that all connect at once, and emit `join_space` as soon as they are connected.
// Each must be joined, and hear the change that follows. A peer gets one wave, for comparison.

import { range } from '../../tests/e2e/lib/fixtures.mjs';
import { eventually } from '../../tests/e2e/lib/waiting.mjs';
import { openFiles } from '../lib/measure.mjs';

export const title = 'storm of early joins';

export async function run(bench) {
  const clients = bench.size(10_000, 1_000);
  const waves = bench.size(10, 2);
  const systems = bench.systems.filter((system) => ['slotcast', 'pubsub'].includes(system));
  const results = await bench.compare({ systems }, async (running, generator, system) => {
    const total = { lost: 0, deaf: 0, seconds: [], clients: 0 };
    for (const _ of range(1, system === 'slotcast' ? waves : 1)) await sendWave(running, generator, clients, total);
    const longest = Math.max(...total.seconds);
    return { clients: total.clients, lost: total.lost, deaf: total.deaf, longest };
  });
  bench.addAll(results, [
    ['clients', `clients in waves of ${clients}`, ''],
    ['lost', 'of these never joined', '', { note: lostNote(results.get('slotcast')) }],
    ['deaf', 'joined, but did not hear the change', ''],
    ['longest', 'until all of a wave are joined, longest', 's'],
  ]);
}

const lostNote = (ours) => (ours === undefined ? '' : `to reach 0: ${ours.lost + ours.deaf === 0 ? 'yes' : 'no'}`);

async function sendWave(running, generator, count, total) {
  const { address } = running.first;
  const spaces = range(1, 20);
  const options = { spaces, parallel: 4_000, mayFail: true, patienceMs: 120_000 };
  const opened = await generator.open([address], count, options);
  if (opened.settled < count) console.log(`    a wave lost some: ${JSON.stringify(opened)}`);
  total.clients += count;
  total.lost += count - opened.settled;
  total.seconds.push(opened.took_s);
  const heard = await generator.publish([address], { spaces, rate: 20, seconds: 1, recipients: count / spaces.length });
  total.deaf += Math.max(0, heard.expected - heard.delivered - (count - opened.settled));
  await generator.tell('close');
  await allGone(running.first);
}

/** Waits until the node has noticed that all clients have left, so that the next wave finds it empty. */
async function allGone(node) {
  await eventually(() => openFiles(node.pid) < 200, 'the end of all connections of a wave', 60_000);
}
