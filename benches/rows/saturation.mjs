// Delivering as fast as publishes are accepted, through node A to 200 clients on node B.

import { measureDelivery } from './delivery.mjs';

export const title = 'as many publishes as are accepted, to 200 recipients on another node';

export async function run(bench) {
  const seconds = bench.size(5, 2);
  const results = await bench.compare({ rounds: 2, nodes: 2 }, async (running, generator) =>
    measureDelivery(running, generator, { recipients: 200, rate: 0, seconds, connections: 16 }),
  );
  bench.addAll(results, [
    ['deliveries', 'deliveries at saturation, to the last one', '/s', { more: true }],
    ['publishes', 'publishes accepted at saturation', '/s', { more: true }],
    ['cpu', 'CPU per delivery at saturation, node of the recipients', 'us'],
    ['allCpu', 'CPU per delivery at saturation, both nodes', 'us'],
    ['p99', 'latency at saturation, p99', 'ms'],
    ['undelivered', 'deliveries that never came', ''],
    ['load', 'CPU of the load generator per delivery', 'us'],
  ]);
}
