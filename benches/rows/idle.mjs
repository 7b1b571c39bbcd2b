// The CPU of connections that only answer pings (every 25 s).

import { range } from '../../tests/e2e/lib/fixtures.mjs';
import { sleep } from '../../tests/e2e/lib/waiting.mjs';

export const title = 'CPU of idle connections';

export async function run(bench) {
  const count = bench.size(5_000, 500);
  // Two ping intervals: each connection is pinged twice.
  const seconds = bench.size(50, 25);
  const results = await bench.compare({}, async (running, generator) => {
    const alone = await cpuOver(running, bench.size(10, 3));
    await generator.open([running.first.address], count, { spaces: range(1, 100) });
    await sleep(3_000);
    const held = await cpuOver(running, seconds);
    return { cpu: ((held - alone) / count) * 1e6, alone: alone * 1e3 };
  });
  bench.addAll(results, [
    ['cpu', `CPU per idle connection and second, ${count}`, 'us/s'],
    ['alone', 'CPU of a node without connections', 'ms/s'],
  ]);
}

/** CPU seconds a second of the first node. */
async function cpuOver(running, seconds) {
  running.reset();
  await sleep(seconds * 1000);
  return running.first.cpu.seconds() / seconds;
}
