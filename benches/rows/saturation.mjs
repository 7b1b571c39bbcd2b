// The most deliveries that the CPU allows, through node A to 200 clients on node B. Each publish follows once all clients
// have heard the publish 32 before it. Then publishes are sent as fast as they are accepted, which shows what happens to
// the clients.

import { measureDelivery } from './delivery.mjs';

export const title = 'as many publishes as possible to 200 recipients on another node';

const RECIPIENTS = 200;
const AHEAD = 32;

export async function run(bench) {
  const seconds = bench.size(5, 2);
  const load = { recipients: RECIPIENTS, rate: 0, seconds, connections: 16 };
  const steady = await bench.compare({ rounds: 2, nodes: 2 }, (running, generator) =>
    measureDelivery(running, generator, { ...load, ahead: AHEAD }),
  );
  bench.addAll(steady, [
    ['deliveries', 'deliveries at saturation', '/s', { more: true }],
    ['allCpu', 'CPU per delivery at saturation, both nodes', 'us'],
    ['cpu', 'CPU per delivery at saturation, node of the recipients alone', 'us'],
    ['p99', 'latency at saturation, p99', 'ms'],
    ['undelivered', 'deliveries that never came', ''],
    ['load', 'CPU of the load generator per delivery', 'us'],
  ]);
  const overload = await bench.compare({ nodes: 2 }, async (running, generator) => {
    const result = await measureDelivery(running, generator, load);
    return { ...result, closed: RECIPIENTS - result.settled };
  });
  bench.addAll(overload, [
    ['publishes', 'publishes accepted without regard to the clients', '/s', { more: true }],
    ['deliveries', 'deliveries of these, until the last one', '/s', { more: true }],
    ['undelivered', 'of these never delivered: one snapshot stood for many', ''],
    ['snapshots', 'snapshots that stood for them', ''],
    ['closed', `clients of ${RECIPIENTS} closed because they could not keep up`, ''],
  ]);
}
