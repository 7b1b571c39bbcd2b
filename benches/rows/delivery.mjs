// Delivering at a steady rate: 100 changes a second are published through node A, 200 clients on node B hear each.

export const title = '100 publishes a second to 200 recipients on another node';

const RECIPIENTS = 200;
const RATE = 100;

export async function run(bench) {
  const seconds = bench.size(10, 3);
  const results = await bench.compare({ rounds: 3, nodes: 2 }, async (running, generator) =>
    measureDelivery(running, generator, { recipients: RECIPIENTS, rate: RATE, seconds }),
  );
  bench.addAll(results, [
    ['allCpu', 'CPU per delivery, 100/s x 200, both nodes', 'us', { toReach: 0.3, toReachFloor: 1.6 }],
    ['cpu', 'CPU per delivery, node of the recipients alone', 'us'],
    ['publishCpu', 'CPU per publish, node of the publisher', 'us'],
    ['redis', 'CPU of Redis per publish', 'us'],
    ['p50', 'latency publish to client, p50', 'ms'],
    ['p99', 'latency publish to client, p99', 'ms', { toReach: 0.15 }],
    ['load', 'CPU of the load generator per delivery', 'us'],
  ]);
  await compareWithDisk(bench, seconds);
}

/** The cost of having each act on disk before it is answered and announced. */
async function compareWithDisk(bench, seconds) {
  const options = { nodes: 2, rounds: 1, systems: ['slotcast'], redis: { appendonly: 'yes', appendfsync: 'always' } };
  const results = await bench.compare(options, async (running, generator) =>
    measureDelivery(running, generator, { recipients: RECIPIENTS, rate: RATE, seconds }),
  );
  bench.addAll(results, [['p99', 'the same with `appendfsync always`, p99', 'ms', { note: 'peers keep nothing' }]]);
}

/** Publishes through the first node to clients of the last node, which may be the same node. */
export async function measureDelivery(running, generator, { recipients, rate, seconds, connections = 32, ahead = 0 }) {
  await generator.open([running.last.address], recipients, { spaces: [1] });
  await warmUp(running, generator);
  const options = { rate, connections, recipients, ahead };
  const publish = (duration) => generator.publish([running.first.address], { ...options, seconds: duration });
  await publish(Math.min(2, seconds));
  running.reset();
  generator.cpu.reset();
  const answer = await publish(seconds);
  return costsOf(answer, running, generator);
}

/** Publishes in a space that nobody watches, so that a just-in-time compiler has seen the code before anything counts. */
export async function warmUp(running, generator) {
  await generator.publish([running.first.address], { spaces: [900], rate: 500, seconds: 4 });
}

/** The cost of one `publish` since the last reset. */
export function costsOf(answer, running, generator) {
  const { delivered, expected, accepted, latency_us: latency } = answer;
  if (delivered === 0) throw new Error(`nothing was delivered: ${JSON.stringify(answer)}`);
  const perDelivery = (cpu) => (cpu / delivered) * 1e6;
  const perPublish = (cpu) => (cpu / accepted) * 1e6;
  const [first, last] = [running.first.cpu.seconds(), running.last.cpu.seconds()];
  return {
    cpu: perDelivery(last),
    allCpu: perDelivery(running.nodes.length > 1 ? first + last : last),
    publishCpu: running.nodes.length > 1 ? perPublish(first) : NaN,
    redis: perPublish(running.redisSeconds()),
    p50: latency.p50 / 1e3,
    p99: latency.p99 / 1e3,
    load: perDelivery(generator.cpu.seconds()),
    publishes: answer.accepted_per_s,
    deliveries: delivered / answer.took_s,
    undelivered: expected - delivered,
    snapshots: answer.snapshots,
    settled: answer.settled,
  };
}
