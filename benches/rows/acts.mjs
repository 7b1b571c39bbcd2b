// Acts a second over HTTP, through one node and through three, against the ceiling: the same script with the same arguments,
// run by `redis-benchmark` on the same Redis in the same run.

import { range } from '../../tests/e2e/lib/fixtures.mjs';
import { staffToken } from '../../tests/e2e/lib/tokens.mjs';
import { DATE, updateRequest } from '../lib/generator.mjs';
import { driveScript, recordScript } from '../lib/redis_script.mjs';

export const title = 'acts over HTTP';

const CALLERS = 64;
const DURABLE = { appendonly: 'yes', appendfsync: 'always' };

export async function run(bench) {
  await compareActs(bench, 'no AOF', { appendonly: 'no' });
  await compareActs(bench, 'appendfsync always', DURABLE);
}

async function compareActs(bench, durability, redis) {
  const options = { systems: ['slotcast'], nodes: 3, rounds: 3, redis };
  const results = await bench.compare(options, (running, generator) => measureActs(bench, running, generator));
  if (!results.has('slotcast')) return;
  const result = results.get('slotcast');
  const line = (key, title, unit, note = '') =>
    bench.add({ title: `${title}, ${durability}`, unit, values: { slotcast: result[key] }, note });
  const ofCeiling = (key) => `${(result[key] / result.ceiling).toFixed(2)} of the ceiling`;
  line('ceiling', `ceiling: the script of one update by redis-benchmark, ${CALLERS} clients`, '/s');
  line('piped', 'the same with 16 commands under way each', '/s');
  line('update1', 'updates through one node', '/s', ofCeiling('update1'));
  line('update3', 'updates through three nodes', '/s', ofCeiling('update3'));
  line('hold1', 'holds and releases through one node', '/s', ofCeiling('hold1'));
  line('hold3', 'holds and releases through three nodes', '/s', ofCeiling('hold3'));
  line('cpu', 'CPU of the node per hold or release', 'us');
  line('redis', 'CPU of Redis per hold or release', 'us');
  line('p99', 'answer to a hold or release through one node, p99', 'ms');
  line('load', 'CPU of the load generator per hold or release', 'us');
}

async function measureActs(bench, running, generator) {
  const forMs = bench.size(4_000, 1_000);
  const drive = async (targets, requests) => {
    const answer = await generator.send(targets, { requests, connections: CALLERS, for_ms: forMs });
    if (answer.accepted !== answer.sent) throw new Error(`acts were refused: ${JSON.stringify(answer.by_status)}`);
    return answer;
  };
  const one = [running.first.address];
  const callers = range(1, CALLERS);
  const updates = callers.map((caller) => [updateRequest(caller, 1)]);
  const holds = callers.map((caller) => holdAndRelease(caller));
  await drive(running.addresses, updates);
  const update1 = (await drive(one, updates)).accepted_per_s;
  const update3 = (await drive(running.addresses, updates)).accepted_per_s;
  running.reset();
  generator.cpu.reset();
  const held = await drive(one, holds);
  const perAct = (seconds) => (seconds / held.accepted) * 1e6;
  const costs = { cpu: perAct(running.first.cpu.seconds()), redis: perAct(running.redisSeconds()), load: perAct(generator.cpu.seconds()) };
  const hold3 = (await drive(running.addresses, holds)).accepted_per_s;
  const script = await recordScript(running.redis.port, '{"sent":1}', update);
  const ceilingOf = (pipeline) => driveScript(running.redis.port, script, { clients: CALLERS, pipeline, runs: bench.size(40_000, 5_000) });
  const ceiling = await ceilingOf(1);
  const piped = await ceilingOf(16);
  return { ceiling, piped, update1, update3, hold1: held.accepted_per_s, hold3, p99: held.answer_us.p99 / 1e3, ...costs };
}

/** A caller's hold of a slot that nobody else wants, and its release, in turn. */
function holdAndRelease(caller) {
  const body = JSON.stringify({ idSpazio: 100 + caller, sedeId: 1, date: DATE, id_utente: caller });
  return ['hold', 'release'].map((act) => ({ method: 'POST', path: `/api/slots/3/${act}`, body }));
}

async function update(url) {
  const { method, path, body } = updateRequest(99, 1);
  const headers = { authorization: `Bearer ${staffToken('servizio')}`, 'content-type': 'application/json' };
  const answer = await fetch(url + path, { method, headers, body: body.replace('@SENT@', '1') });
  if (answer.status !== 200) throw new Error(`an update was answered with ${answer.status}: ${await answer.text()}`);
}
