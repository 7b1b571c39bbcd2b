// Writes the measurements as a page of Markdown.

import { execFileSync } from 'node:child_process';

/** The page up to its table. */
const INTRODUCTION = `# Failures, measured

This page is made by \`node tests/e2e/histories/run.mjs --table docs/failures-measured.md\`; \`--seeds\`, \`--server\` and \`--fault\`
say how often, on what and which. failures.md says what is promised. This page says what was seen.

Each run starts three nodes on a store of its own: one Redis, a primary and a replica behind three Sentinels, or a Cluster of
three primaries with a replica each. Ten users and three sockets act on four spaces as a seed chooses, five viewers watch
(websocket, polling, upgraded), and staff sends notifications and broadcasts. Then the fault is brought about and ended.
Afterwards a checker reads every answer, every event and the store's own logs:

- Every answer fits one order of the acts, and two users never have the same slot. A 503 may be either.
- No viewer has a gap that it was not told of. In the end each shows what is stored.
- Every hold's end is announced once, and \`slots_freed\` sums up to that on every node.
- Every acknowledged notification and broadcast was received, in order, and no acknowledged act is lost.
- A repeat is answered as the first call was.

Times are seconds from the fault's end: the middle of the runs, and the longest in brackets. *Acts work* means that an act was
done on every node in every space. *Viewers equal* means that every viewer has heard of these acts. *Acts lost* counts
acknowledged acts that the store itself no longer has. They are a violation wherever the last column says "nothing". A name
under *violations* is a promise that is still broken under that fault: \`checks.mjs\` says what each name means.
`;

const CONCLUSION = `
## What is still lost, and when

- Redis decides what an acknowledged act is worth: with \`appendfsync everysec\` or without AOF, a killed Redis forgets what it had
  not written. With \`appendfsync always\` it forgets nothing.
- A replica that is promoted without its primary's consent (the primary was killed or frozen, \`REPLICAOF\` by hand, \`CLUSTER
  FAILOVER FORCE\` or \`TAKEOVER\`) lacks what it had not received. \`min-replicas-to-write 1\` bounds that.
- \`FLUSHALL\`, \`SWAPDB\` and a restored backup forget what they replace.
- In each of these the epoch changes: every viewer is sent the board, and what was lost is free for others again. Notifications and
  freed slots that the store had when it lost its data, and that nobody had received, are lost with it.
`;

/** The middle and the longest of some times in ms, as a text in seconds. */
function spread(all) {
  const sorted = [...all].sort((left, right) => left - right);
  const seconds = (milliseconds) => (milliseconds / 1_000).toFixed(1);
  return `${seconds(sorted[Math.floor(sorted.length / 2)])} (${seconds(sorted.at(-1))})`;
}

/** The row of a fault, with the figures of all its runs. */
function rowOf({ name, on, loses }, runs) {
  const whole = runs.filter(({ workMs }) => workMs !== undefined);
  const [acts, lost] = ['acts', 'lost'].map((what) => whole.reduce((sum, run) => sum + run[what], 0));
  const violations = new Set(runs.flatMap(({ counts }) => Object.keys(counts)));
  const figures = whole.length === 0 ? ['', ''] : [spread(whole.map(({ workMs }) => workMs)), spread(whole.map(({ equalMs }) => equalMs))];
  const cells = [`\`${name}\``, on, runs.length, acts, ...figures, lost, [...violations].join(', ') || 'none', loses ?? 'nothing'];
  return `| ${cells.join(' | ')} |`;
}

/** What a server calls itself, with its version. */
function nameOf(server) {
  const [, name, version] = /^(\w+) server v=([\d.]+)/.exec(execFileSync(server ?? 'redis-server', ['--version'], { encoding: 'utf8' }));
  return `${name} ${version}`;
}

/** The page for these results of these faults. */
export function pageOf(results, faults) {
  const head = ['fault', 'on', 'runs', 'acts', 'acts work', 'viewers equal', 'acts lost', 'violations', 'what the store may lose'];
  const rows = faults.flatMap((fault) => {
    const runs = results.filter(({ name }) => name === fault.name);
    return runs.length === 0 ? [] : [rowOf(fault, runs)];
  });
  const servers = [...new Set(results.map(({ server }) => nameOf(server)))].sort();
  const acts = results.reduce((sum, run) => sum + (run.acts ?? 0), 0);
  const table = [`| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`, ...rows].join('\n');
  return `${INTRODUCTION}\nMeasured on ${servers.join(', ')}: ${results.length} runs with ${acts} acts.\n\n${table}\n${CONCLUSION}`;
}
