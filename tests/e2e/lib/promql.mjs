// What a PromQL expression names, by Prometheus's own grammar: a misspelt metric is no syntax error, only an empty panel.

import { parser } from '@prometheus-io/lezer-promql';

/**
 * The selectors of an expression as `{name, matchers: [{label, operator, value}]}`, and the labels that it groups by.
 * Throws where it cannot be parsed.
 */
export function readPromql(expression) {
  const selectors = [];
  const groupedBy = new Set();
  const text = ({ from, to }) => expression.slice(from, to);
  parser.parse(expression).iterate({
    enter(node) {
      if (node.type.isError) throw new Error(`not PromQL at ${node.from}: ${expression}`);
      if (node.name === 'VectorSelector') selectors.push(readSelector(node.node, text));
      if (node.name === 'GroupingLabels') for (const label of node.node.getChildren('LabelName')) groupedBy.add(text(label));
    },
  });
  return { selectors, groupedBy };
}

function readSelector(node, text) {
  const matchers = [];
  node.getChild('LabelMatchers')?.cursor().iterate(({ name, node: matcher }) => {
    if (name !== 'UnquotedLabelMatcher') return;
    const part = (kind) => text(matcher.getChild(kind));
    matchers.push({ label: part('LabelName'), operator: part('MatchOp'), value: JSON.parse(part('StringLiteral')) });
  });
  return { name: text(node.getChild('Identifier')), matchers };
}

/** The series of a text that a node exports: `{name, labels}` each. */
export function readSeries(metrics) {
  const lines = metrics.split('\n').filter((line) => line && !line.startsWith('#'));
  return lines.map((line) => {
    const [, name, labels = ''] = line.match(/^(\w+)(?:\{(.*)\})? \S+$/);
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, value]) => [label, value]);
    return { name, labels: Object.fromEntries(pairs) };
  });
}
