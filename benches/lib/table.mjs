// The table: one line for each figure, ours beside the others', and the ratios.

import { SYSTEMS } from './systems.mjs';

/** A number with three significant digits. */
export function showNumber(value) {
  if (value === undefined || value === null || Number.isNaN(value)) return '-';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 100) return String(Math.round(value));
  if (size >= 10) return value.toFixed(1);
  if (size >= 0.1) return value.toFixed(2);
  return value.toPrecision(2);
}

const HEAD = ['', 'unit', ...Object.values(SYSTEMS), 'to pub/sub', 'to reach', 'to floor', ''];

/** The table as Markdown, padded so that it reads well as text too. */
export function formatTable(lines) {
  const rows = [HEAD, ...lines.map(formatLine)];
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const show = (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [show(rows[0]), rule, ...rows.slice(1).map(show)].join('\n');
}

function formatLine({ title, unit, values, toReach, toReachFloor, more, note }) {
  const toPeer = ratio(values.slotcast, values.pubsub);
  const toFloor = ratio(values.slotcast, values.floor);
  const figures = Object.keys(SYSTEMS).map((system) => showNumber(values[system]));
  const peerGoal = judge(toPeer, toReach, more);
  const floorGoal = toReachFloor === undefined ? '' : ` (${judge(toFloor, toReachFloor, more)})`;
  return [title, unit, ...figures, showNumber(toPeer), peerGoal, `${showNumber(toFloor)}${floorGoal}`, note];
}

function ratio(ours, other) {
  if (ours === undefined || other === undefined || other === 0) return undefined;
  return ours / other;
}

/** The goal, and whether it was reached. */
function judge(value, goal, more) {
  if (goal === undefined) return '';
  if (value === undefined) return `${goal}: not measured`;
  const isReached = more ? value >= goal : value <= goal;
  return `${goal}: ${isReached ? 'yes' : 'no'}`;
}
