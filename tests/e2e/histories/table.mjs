// What was measured, as Markdown.

/** How long something took: the middle and the longest of some runs, in ms. */
function spread(all) {
  const sorted = [...all].sort((left, right) => left - right);
  const seconds = (milliseconds) => (milliseconds / 1_000).toFixed(1);
  return `${seconds(sorted[Math.floor(sorted.length / 2)])} (${seconds(sorted.at(-1))})`;
}

/** A row for each fault that was run: what was seen in all its runs. */
function rowOf({ name, on, loses }, runs) {
  const whole = runs.filter(({ workMs }) => workMs !== undefined);
  const [acts, lost] = ['acts', 'lost'].map((what) => whole.reduce((sum, run) => sum + run[what], 0));
  const violations = runs.flatMap(({ counts }) => Object.keys(counts));
  const figures = whole.length === 0 ? ['', ''] : [spread(whole.map(({ workMs }) => workMs)), spread(whole.map(({ equalMs }) => equalMs))];
  const cells = [`\`${name}\``, on, runs.length, acts, ...figures, lost, [...new Set(violations)].join(', ') || 'none', loses ?? 'nothing'];
  return `| ${cells.join(' | ')} |`;
}

/** The table of faults, runs, recovery and violations. */
export function tableOf(results, faults) {
  const head = ['fault', 'on', 'runs', 'acts', 'acts work after, s', 'viewers equal after, s', 'acts lost', 'violations', 'what may be lost'];
  const rows = faults.flatMap((fault) => {
    const runs = results.filter(({ name }) => name === fault.name);
    return runs.length === 0 ? [] : [rowOf(fault, runs)];
  });
  return `${[`| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`, ...rows].join('\n')}\n`;
}
