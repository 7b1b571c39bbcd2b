// How long it takes until all clients are back when one of two nodes dies. All clients are on the first node, which is
// killed. They come to the second one as `socket.io-client` does by default: at first after 0.5 to 1.5 s, then after pauses
// twice as long.

import { range } from '../../tests/e2e/lib/fixtures.mjs';

export const title = 'clients that come back when their node is killed';

export async function run(bench) {
  const count = bench.size(5_000, 500);
  const systems = bench.systems.filter((system) => system !== 'floor');
  const results = await bench.compare({ nodes: 2, systems }, async (running, generator) => {
    const spaces = range(1, 100);
    await generator.open([running.last.address], 300, { spaces });
    await generator.tell('close');
    await generator.open([running.first.address], count, { spaces });
    const backOff = { delay_ms: 1_000, delay_max_ms: 5_000, randomization: 0.5 };
    await generator.tell('come_back', { targets: [running.last.address], ...backOff });
    running.last.cpu.reset();
    await running.first.kill();
    const back = await generator.tell('await_back', { patience_ms: 120_000 });
    return {
      missing: count - back.back,
      took: back.took_s,
      p50: back.latency_us.p50 / 1e6,
      p99: back.latency_us.p99 / 1e6,
      attempts: back.attempts / count,
      cpu: (running.last.cpu.seconds() / count) * 1e6,
    };
  });
  bench.addAll(results, [
    ['took', `until all ${count} are joined again (0.5 to 1.5 s of it is their back-off)`, 's'],
    ['p50', 'from loss to joined again, p50', 's'],
    ['p99', 'from loss to joined again, p99', 's'],
    ['attempts', 'attempts per client', ''],
    ['missing', 'clients not back within two minutes', ''],
    ['cpu', 'CPU per client that came back', 'us'],
  ]);
}
