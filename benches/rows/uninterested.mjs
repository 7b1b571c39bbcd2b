// A node's cost for changes of a space that none of its clients watches.

import { sleep } from '../../tests/e2e/lib/waiting.mjs';

export const title = 'a node without viewers of the published space';

const RATE = 500;

export async function run(bench) {
  const seconds = bench.size(10, 3);
  const systems = bench.systems.filter((system) => system !== 'floor');
  const results = await bench.compare({ nodes: 2, rounds: 3, systems }, async (running, generator) => {
    await generator.open([running.first.address], 10, { spaces: [1] });
    await generator.open([running.last.address], 200, { spaces: [2] });
    const publish = () => generator.publish([running.first.address], { rate: RATE, seconds, recipients: 10 });
    await publish();
    await sleep(2_000);
    running.reset();
    await sleep(seconds * 1000);
    const idle = running.last.cpu.seconds();
    running.reset();
    const { accepted } = await publish();
    const busy = running.last.cpu.seconds();
    return { cpu: (Math.max(0, busy - idle) / accepted) * 1e6, idle: (idle / seconds) * 1e3 };
  });
  bench.addAll(results, [
    ['cpu', 'CPU per publish of a node without viewers, above idle', 'us', { toReach: 0.02 }],
    ['idle', 'CPU of that node with 200 idle clients', 'ms/s'],
  ]);
}
