// One `slotcast sweep` that frees 100,000 ended holds. They are made over HTTP, nine at a time, on nodes that free nothing
// by themselves.

import { day, range } from '../../tests/e2e/lib/fixtures.mjs';
import { sleep } from '../../tests/e2e/lib/waiting.mjs';
import { run as runCommand } from '../lib/command.mjs';

export const title = 'a sweep of ended holds';

const SLOTS = range(1, 9);
const CONNECTIONS = 32;

export async function run(bench) {
  const holds = bench.size(100_000, 5_000);
  const acts = Math.ceil(holds / SLOTS.length);
  const settings = { SLOT_TIMER_INTERVAL: '0' };
  const results = await bench.compare({ systems: ['slotcast'], settings }, async (running, generator) => {
    const made = await generator.send([running.first.address], { requests: holdRequests(acts), connections: CONNECTIONS, once: true });
    if (made.accepted !== acts) throw new Error(`only ${JSON.stringify(made)} of ${acts} holds were made`);
    await sleep(2_000);
    running.reset();
    const { report, seconds, cpu } = await runCommand(['sweep'], { REDIS_URL: running.redis.url });
    const redis = running.redisSeconds();
    if (report.freed !== acts * SLOTS.length) throw new Error(`not all were freed: ${JSON.stringify(report)}`);
    return {
      freed: report.freed,
      seconds,
      perSecond: report.freed / seconds,
      cpu: (cpu / report.freed) * 1e6,
      redis: (redis / report.freed) * 1e6,
      node: (running.first.cpu.seconds() / report.freed) * 1e6,
    };
  });
  bench.addAll(results, [
    ['freed', 'ended holds', ''],
    ['seconds', 'freed by one `slotcast sweep` in', 's'],
    ['perSecond', 'freed', '/s'],
    ['cpu', 'CPU of the command per hold', 'us'],
    ['redis', 'CPU of Redis per hold', 'us'],
    ['node', 'CPU of a node that looks on, per hold', 'us'],
  ]);
}

/** Holds of a second of all slots of many days of many spaces, in one list for each connection. */
function holdRequests(acts) {
  const lists = range(1, CONNECTIONS).map(() => []);
  for (const act of range(0, acts - 1)) {
    const body = {
      idSpazio: 1 + Math.floor(act / 200),
      sedeId: 1,
      date: day(7 + (act % 200)),
      slots: SLOTS,
      holdSeconds: 1,
      id_utente: 1 + act,
    };
    lists[act % CONNECTIONS].push({ method: 'POST', path: '/api/slots/hold', body: JSON.stringify(body) });
  }
  return lists;
}
