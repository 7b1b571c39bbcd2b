// A machine, or a disk, that is too busy for Redis to answer in time: how that is told, and what may then be done again.

import assert from 'node:assert/strict';

import { runCommand } from './slotcast.mjs';
import { DEADLINE_MS, eventually } from './waiting.mjs';

/** The cause of what failed for it alone. */
export const STALLED = /no answer in time|has not answered in time|the call came after its deadline|cannot be reached: no answer yet/;

/** Lines of a node that asks Redis once more than it need have, or has a new connection to it. */
const DISTURBED = new RegExp(`the connection to Redis is lost|subscription connection|cannot follow|too many messages|${STALLED.source}`);

/** How often at most something is measured. */
const ATTEMPTS = 5;

/**
 * What `measure` gives, which counts what nodes ask of Redis or are told by it: done anew, on a fresh space, where the `log()`
 * of one of them tells that it had to ask more than is counted.
 */
export async function undisturbed(nodes, measure) {
  for (let attempt = 1; ; attempt += 1) {
    const before = nodes.map((node) => node.log().length);
    const measured = await measure().then((value) => ({ value }), (error) => ({ error }));
    const isDisturbed = nodes.some((node, index) => DISTURBED.test(node.log().slice(before[index])));
    if (isDisturbed && attempt < ATTEMPTS) continue;
    if (measured.error) throw measured.error;
    return measured.value;
  }
}

/**
 * Runs `slotcast sweep` until a sweep is done, and gives its report, with how many `failed` before it: one fails where Redis
 * does not answer it in time, and what it has freed is in no report.
 */
export async function sweepByCommand(settings, deadline = DEADLINE_MS) {
  let failed = 0;
  return eventually(async () => {
    const { code, stdout, stderr } = await runCommand(['sweep'], settings, { deadline });
    if (code === 0) return { ...JSON.parse(stdout), failed };
    assert.match(stderr, STALLED);
    failed += 1;
    return undefined;
  }, 'a sweep', deadline);
}
