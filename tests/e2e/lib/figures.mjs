// What a node's process holds, as the node counts it on its admin listener and the kernel under /proc.

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';

import { eventually } from './waiting.mjs';

/** The node's metrics without labels, by name without `slotcast_`. Asks on a connection that is closed at once. */
export async function readMetrics(node) {
  const text = await new Promise((resolve, reject) => {
    const asked = get({ host: '127.0.0.1', port: node.adminPort, path: '/metrics', agent: false }, (answer) => {
      let body = '';
      answer.setEncoding('utf8').on('data', (chunk) => (body += chunk));
      answer.on('end', () => resolve(body)).on('error', reject);
    });
    asked.on('error', reject);
  });
  const lines = text.split('\n').map((line) => /^slotcast_(\w+) (\S+)$/.exec(line));
  return Object.fromEntries(lines.filter(Boolean).map(([, name, value]) => [name, Number(value)]));
}

/** The counts of what clients make a node hold. */
export async function readCounts(node) {
  const { connections, users, rooms, room_members, feed_topics, queue_depth, tcp_connections, tasks } = await readMetrics(node);
  const files = readdirSync(`/proc/${node.child.pid}/fd`).length;
  return { connections, users, rooms, room_members, feed_topics, queue_depth, tcp_connections, tasks, files };
}

/** Waits until the node holds no more of anything than `before`. */
export async function countsReturn(node, before, deadline) {
  let now;
  const isBack = async () => {
    now = await readCounts(node);
    return Object.entries(now).every(([name, count]) => count <= before[name]);
  };
  await eventually(isBack, 'counts as before', deadline).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(now)}, before ${JSON.stringify(before)}`);
  });
}

/** Waits until a node that was just started has come to rest, and returns its counts. */
export async function countsAtRest(node) {
  let before = await readCounts(node);
  await eventually(async () => {
    const now = await readCounts(node);
    const isSame = JSON.stringify(now) === JSON.stringify(before);
    before = now;
    return isSame && now.tcp_connections === 0;
  }, 'a node at rest');
  return before;
}

/** A line of the process's memory in bytes: `VmRSS`, or `VmHWM`, its highest since `forgetPeak`. */
export function readMemory(node, line) {
  const status = readFileSync(`/proc/${node.child.pid}/status`, 'utf8');
  return Number(new RegExp(`^${line}:\\s+(\\d+) kB`, 'm').exec(status)[1]) * 1024;
}

/** Resets `VmHWM` to the present resident memory. */
export function forgetPeak(node) {
  writeFileSync(`/proc/${node.child.pid}/clear_refs`, '5');
}
