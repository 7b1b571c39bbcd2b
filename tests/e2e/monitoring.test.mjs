// infra/ watches only what exists: each metric and label that an alert or the dashboard names is exported by a running node, and
// each alert has a section in the operations guide.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { parse as parseYaml } from 'yaml';

import { startCluster } from './lib/cluster.mjs';
import { freshSpace } from './lib/fixtures.mjs';
import { INFRA } from './lib/platforms.mjs';
import { readPromql, readSeries } from './lib/promql.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';
import { startReceiver } from './lib/webhook_receiver.mjs';

const rules = parseYaml(readFileSync(join(INFRA, 'prometheus/alerts.yaml'), 'utf8')).groups.flatMap((group) => group.rules);
const alerts = rules.filter(({ alert }) => alert);
const records = new Map(rules.filter(({ record }) => record).map(({ record, expr }) => [record, expr]));
const dashboard = JSON.parse(readFileSync(join(INFRA, 'grafana/dashboard.json'), 'utf8'));
const panels = dashboard.panels.filter(({ type }) => type !== 'row');

/** The labels that Prometheus adds to each series, and the series that it makes by itself. */
const ADDED = ['instance', 'job'];

const receiver = await startReceiver();
const cluster = await startCluster({ nodes: 2, settings: receiver.settings() });
after(async () => {
  await cluster.stop();
  await receiver.close();
});

/** Causes every event that makes a series, because some series appear with their first count. */
async function provokeEverything() {
  const space = freshSpace();
  const [node, other] = cluster.nodes;
  const client = await node.user(7);
  await client.join(space, { date: space.date });
  await client.callUntilSettled('hold_slot', space.event({ slots: [1], holdSeconds: 1 }));
  await client.first('slots_freed');
  const user = other.userCaller(8);
  for (const act of ['hold', 'extend', 'book']) {
    assert.equal((await user.settled.post(`/api/slots/2/${act}`, space.body())).status, 200);
  }
  assert.equal((await client.callUntilSettled('hold_slot', space.event({ slots: [2] }))).error.code, 'slot_unavailable');
  await client.callUntilSettled('release_slot', space.event({ slots: [3] }));
  const refused = node.connect({ token: `${userToken(7)}x` });
  await refused.refused();
  client.close();
  const watcher = await node.user(9);
  await watcher.join(space);
  // The subscriptions break, and the store goes away for a moment.
  await cluster.redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
  const thaw = cluster.redis.freeze();
  try {
    await eventually(async () => (await fetch(`${node.url}/readyz`)).status === 503, 'a node that is not ready');
  } finally {
    thaw();
  }
  await cluster.ready();
}

async function scrape() {
  const [node] = cluster.nodes;
  return readSeries(await (await fetch(`http://127.0.0.1:${node.adminPort}/metrics`)).text());
}

/** The names in an expression that no series of `series` has; the labels of its result are in `labels`. */
function whatIsMissing(expression, series) {
  const { selectors, groupedBy } = readPromql(expression);
  const missing = [];
  const labels = new Set(ADDED);
  assert.ok(selectors.length > 0, expression);
  for (const { name, matchers } of selectors) {
    const its = labelsOf(name, series);
    if (its === undefined) {
      missing.push(name);
      continue;
    }
    its.forEach((label) => labels.add(label));
    const found = series.filter((one) => one.name === name);
    for (const { label, operator, value } of matchers) {
      const matches = { '=': (text) => text === value, '=~': (text) => new RegExp(`^(?:${value})$`).test(text) }[operator];
      const isKnown = its.has(label) && (ADDED.includes(label) || records.has(name) || !matches || found.some((one) => matches(one.labels[label])));
      if (!isKnown) missing.push(`${name}{${label}${operator}${value}}`);
    }
  }
  for (const label of groupedBy) if (!labels.has(label)) missing.push(`by (${label})`);
  return { missing, labels: groupedBy.size > 0 ? groupedBy : labels };
}

/** The labels of a metric or a record; `undefined` where there is none of that name. */
function labelsOf(name, series) {
  if (name === 'up') return new Set(ADDED);
  if (records.has(name)) return new Set([...whatIsMissing(records.get(name), series).labels, ...ADDED]);
  const found = series.filter((one) => one.name === name);
  return found.length > 0 ? new Set([...found.flatMap((one) => Object.keys(one.labels)), ...ADDED]) : undefined;
}

test('every metric and label that an alert, a record or the dashboard names is exported by a node', async () => {
  await provokeEverything();
  const expressions = [
    ...rules.map(({ alert, record, expr }) => [alert ?? record, expr]),
    ...panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr])),
  ];
  // The next scrape shows the node's counts. By then the subscriptions are renewed.
  let missing;
  await eventually(async () => {
    const series = await scrape();
    missing = expressions.flatMap(([name, expr]) => whatIsMissing(expr, series).missing.map((what) => `${name}: ${what}`));
    return missing.length === 0;
  }, 'all metrics').catch(() => assert.deepEqual(missing, []));

  const series = await scrape();
  for (const { title, targets } of panels) {
    for (const { expr, legendFormat } of targets) {
      const { labels } = whatIsMissing(expr, series);
      for (const [, label] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) assert.ok(labels.has(label), `${title}: ${label}`);
    }
  }
});

test('the dashboard shows all that a node counts of the journal and of webhooks', async () => {
  const shown = new Set(panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => readPromql(expr).selectors.map(({ name }) => name))));
  const names = new Set((await scrape()).map(({ name }) => name));
  const counted = [...names].filter((name) => /^slotcast_(journal|webhook)_/.test(name) && !/_(sum|count)$/.test(name));
  assert.ok(counted.length >= 7, counted.join(' '));
  assert.deepEqual(counted.filter((name) => !shown.has(name)), []);
});

test('what a node does not export is found', async () => {
  const series = await scrape();
  const missing = (expression) => whatIsMissing(expression, series).missing;
  assert.deepEqual(missing('sum(rate(slotcast_act_total[5m]))'), ['slotcast_act_total']);
  assert.deepEqual(missing('sum by (kind) (slotcast_acts_total)'), ['by (kind)']);
  assert.deepEqual(missing('slotcast_acts_total{act="steal"}'), ['slotcast_acts_total{act=steal}']);
  assert.deepEqual(missing('slotcast_http_seconds_count{status=~"6.."}'), ['slotcast_http_seconds_count{status=~6..}']);
  assert.deepEqual(missing('slotcast:acts:rate5m{user="7"}'), ['slotcast:acts:rate5m{user=7}']);
  assert.throws(() => missing('sum(rate(slotcast_acts_total[5m])'), /not PromQL/);
});

test('what alerts count from 0 is there before anything has happened', async () => {
  const fresh = await cluster.addNode();
  const series = readSeries(await (await fetch(`http://127.0.0.1:${fresh.adminPort}/metrics`)).text());
  const names = series.map(({ name, labels }) => `${name} ${Object.values(labels).join(' ')}`);
  for (const name of ['slotcast_store_errors_total apply', 'slotcast_acts_total hold unavailable', 'slotcast_sweeps_total interval']) {
    assert.ok(names.includes(name), name);
  }
});

test('each alert says what is wrong, how bad it is, and where it is written what to do', () => {
  const guide = readFileSync(join(INFRA, 'README.md'), 'utf8');
  const anchors = [...guide.matchAll(/^#+ (.*)$/gm)].map(([, title]) => title.toLowerCase().replace(/[^\w -]/g, '').replaceAll(' ', '-'));
  assert.ok(alerts.length >= 12);
  for (const { alert, annotations, labels } of alerts) {
    assert.ok(['critical', 'warning'].includes(labels.severity), alert);
    assert.ok(annotations.summary.length > 20, alert);
    const [page, anchor] = annotations.runbook.split('#');
    assert.equal(page, 'infra/README.md', 'a link within the repository, until it has an address');
    assert.ok(anchors.includes(anchor), `infra/README.md has no section #${anchor}`);
  }
});

test('the dashboard has what Grafana asks for', () => {
  assert.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length);
  const sources = parseYaml(readFileSync(join(INFRA, 'grafana/provisioning/datasources/prometheus.yaml'), 'utf8')).datasources;
  for (const { title, datasource, gridPos, targets } of panels) {
    assert.equal(datasource.uid, sources[0].uid, title);
    assert.ok(gridPos.x + gridPos.w <= 24, title);
    assert.ok(targets.length > 0, title);
  }
});
