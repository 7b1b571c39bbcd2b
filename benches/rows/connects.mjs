// Connecting, with token check and join: the node's CPU, and how many a second.

import { range } from '../../tests/e2e/lib/fixtures.mjs';

export const title = 'connecting, with token check and join';

export async function run(bench) {
  const count = bench.size(5_000, 500);
  const results = await bench.compare({ rounds: 3 }, async (running, generator) => {
    const spaces = range(1, 100);
    await generator.open([running.first.address], bench.size(2_000, 300), { spaces });
    await generator.tell('close');
    running.reset();
    generator.cpu.reset();
    const { took_s: took, latency_us: latency } = await generator.open([running.first.address], count, { spaces });
    return {
      cpu: (running.first.cpu.seconds() / count) * 1e6,
      perSecond: count / took,
      p99: latency.p99 / 1e3,
      redis: (running.redisSeconds() / count) * 1e6,
      load: (generator.cpu.seconds() / count) * 1e6,
    };
  });
  bench.addAll(results, [
    ['cpu', 'CPU per connect and join', 'us', { toReach: 0.1 }],
    ['perSecond', 'connects and joins', '/s', { more: true }],
    ['p99', 'connect to joined, p99, 200 at a time', 'ms'],
    ['redis', 'CPU of Redis per connect', 'us'],
    ['load', 'CPU of the load generator per connect', 'us'],
  ]);
}
