// Resident memory for each idle connection: joined clients, one more thousand at a time, on one node.

import { range } from '../../tests/e2e/lib/fixtures.mjs';
import { readMemory, settledMemory } from '../lib/measure.mjs';

export const title = 'memory for each idle connection';

export async function run(bench) {
  const counts = bench.size([1_000, 5_000, 10_000], [500, 1_000]);
  const results = await bench.compare({}, async (running, generator) => measureMemory(running, generator, counts));
  for (const count of counts) {
    const toReach = count >= 5_000 ? 0.75 : undefined;
    bench.addAll(results, [[`rss${count}`, `resident memory per idle connection, ${count}`, 'KiB', { toReach }]]);
  }
  bench.addAll(results, [
    ['own', `private memory per idle connection, ${counts.at(-1)}`, 'KiB'],
    ['base', 'resident memory without connections', 'MiB'],
    ['all', `resident memory in all, ${counts.at(-1)} connections`, 'MiB'],
    ['after', 'resident memory 10 s after all have left', 'MiB'],
  ]);
}

async function measureMemory(running, generator, counts) {
  const { address, pid } = running.first;
  const spaces = range(1, 100);
  // Warms up code, allocator and JIT before anything is counted.
  await generator.open([address], 300, { spaces });
  await generator.tell('close');
  const base = await settledMemory(pid);
  const result = {};
  let connected = 0;
  for (const count of counts) {
    await generator.open([address], count - connected, { spaces });
    connected = count;
    const now = await settledMemory(pid);
    result[`rss${count}`] = (now.rss - base.rss) / count;
    result.own = (now.own - base.own) / count;
    result.all = now.rss / 1024;
  }
  await generator.tell('close');
  await new Promise((done) => setTimeout(done, 10_000));
  return { ...result, base: base.rss / 1024, after: readMemory(pid).rss / 1024 };
}
