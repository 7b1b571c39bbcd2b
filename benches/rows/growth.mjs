// How the cost grows with the number of connections to a node. At each size, all clients are in one space, and all together
// hear the same number of deliveries a second.

import { readMemory } from '../lib/measure.mjs';
import { warmUp } from './delivery.mjs';

export const title = 'growth from 1,000 to 10,000 connections';

const DELIVERIES_PER_SECOND = 10_000;

export async function run(bench) {
  const counts = bench.size([1_000, 2_500, 5_000, 10_000], [250, 1_000]);
  const seconds = bench.size(10, 3);
  const results = await bench.compare({}, (running, generator) => measureGrowth(running, generator, counts, seconds));
  const part = (key, name, unit) => counts.map((count) => [`${key}${count}`, `${name}, ${count}`, unit]);
  bench.addAll(results, [
    ...part('connect', 'CPU per connect up to so many', 'us'),
    ...part('memory', 'resident memory per connection', 'KiB'),
    ...part('delivery', 'CPU per delivery to all', 'us'),
    ...part('p99', 'latency of a delivery to all, p99', 'ms'),
  ]);
}

async function measureGrowth(running, generator, counts, seconds) {
  const { first } = running;
  await generator.open([first.address], 300, { spaces: [1] });
  await generator.publish([first.address], { rate: 20, seconds: 2, recipients: 300 });
  await generator.tell('close');
  await warmUp(running, generator);
  const base = readMemory(first.pid).rss;
  const result = {};
  let connected = 0;
  for (const count of counts) {
    running.reset();
    await generator.open([first.address], count - connected, { spaces: [1] });
    result[`connect${count}`] = (first.cpu.seconds() / (count - connected)) * 1e6;
    connected = count;
    running.reset();
    const rate = Math.max(1, Math.round(DELIVERIES_PER_SECOND / count));
    // There are few connections, so that none is idle until a server closes it.
    const answer = await generator.publish([first.address], { rate, seconds, recipients: count, connections: 2 });
    result[`delivery${count}`] = (first.cpu.seconds() / answer.delivered) * 1e6;
    result[`p99${count}`] = answer.latency_us.p99 / 1e3;
    result[`memory${count}`] = (readMemory(first.pid).rss - base) / count;
  }
  return result;
}
