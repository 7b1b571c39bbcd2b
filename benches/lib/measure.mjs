// CPU time and memory of a process, read from /proc.

import { readFileSync, readdirSync } from 'node:fs';
import os from 'node:os';

import { sleep } from '../../tests/e2e/lib/waiting.mjs';

/** Clock ticks a second of /proc/PID/stat; 100 on every Linux of today. */
const TICKS = 100;

/** Counts the CPU seconds of one process with all its threads, from the meter's making on. */
export class CpuMeter {
  constructor(pid) {
    this.pid = pid;
    this.reset();
  }

  /** Counts from now on. */
  reset() {
    this.ticks = readTicks(this.pid);
    this.threads = readThreads(this.pid);
  }

  /** CPU seconds so far. They are exact until a thread ends; then they are exact to a tick of 10 ms. */
  seconds() {
    const now = readThreads(this.pid);
    const isWhole = [...this.threads.keys()].every((thread) => now.has(thread));
    if (!isWhole) return (readTicks(this.pid) - this.ticks) / TICKS;
    let nanos = 0;
    for (const [thread, value] of now) nanos += value - (this.threads.get(thread) ?? 0);
    return nanos / 1e9;
  }
}

/** User and system time of a process in ticks. Its name, in brackets, may contain anything. */
function readTicks(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** Nanoseconds on a CPU, by thread. */
function readThreads(pid) {
  const threads = new Map();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      threads.set(thread, Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]));
    } catch (error) {
      // The thread ended between the two readings.
      if (!['ENOENT', 'ESRCH'].includes(error.code)) throw error;
    }
  }
  return threads;
}

/** Memory of a process in KiB: resident, its proportional share (Pss), and private. */
export function readMemory(pid) {
  const fields = new Map();
  for (const line of readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8').split('\n')) {
    const match = /^(\w+):\s+(\d+) kB/.exec(line);
    if (match) fields.set(match[1], Number(match[2]));
  }
  return { rss: fields.get('Rss'), pss: fields.get('Pss'), own: fields.get('Private_Clean') + fields.get('Private_Dirty') };
}

/** The memory once it moves by less than half a percent in two seconds, or after half a minute. */
export async function settledMemory(pid) {
  let before = readMemory(pid);
  for (let look = 0; look < 15; look += 1) {
    await sleep(2_000);
    const now = readMemory(pid);
    if (Math.abs(now.rss - before.rss) < before.rss * 0.005) return now;
    before = now;
  }
  return before;
}

/** How many cores are busy now. While the bench itself rests, that is the load of other programs. */
export async function busyCores() {
  const before = os.cpus();
  await sleep(500);
  const after = os.cpus();
  const total = (cpus, kinds) => cpus.reduce((sum, { times }) => sum + kinds.reduce((ms, kind) => ms + times[kind], 0), 0);
  const busy = ['user', 'nice', 'sys', 'irq'];
  const spent = total(after, busy) - total(before, busy);
  const passed = total(after, [...busy, 'idle']) - total(before, [...busy, 'idle']);
  return passed === 0 ? 0 : (spent / passed) * after.length;
}

/** How many descriptors a process has open. */
export function openFiles(pid) {
  return readdirSync(`/proc/${pid}/fd`).length;
}
