// Runs each fault once with few operations, and checks every promise.
//
// SLOTCAST_HISTORY_SEEDS says with how many seeds each (1).

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { range } from '../lib/fixtures.mjs';
import { runApart, told } from './apart.mjs';
import { FAULTS } from './faults/index.mjs';

const SEEDS = range(1, Number(process.env.SLOTCAST_HISTORY_SEEDS ?? 1)).map(String);

// The histories mostly wait, so three run at the same time.
describe('histories', { concurrency: 3 }, () => {
  for (const fault of FAULTS) {
    for (const seed of SEEDS) {
      test(`${fault.name}, seed ${seed}`, { skip: fault.needs?.() }, async (t) => {
        const result = await runApart(fault.name, seed, { server: process.env.SLOTCAST_TEST_REDIS_SERVER });
        t.diagnostic(told(result).split('\n')[0]);
        assert.deepEqual(result.counts, {}, told(result));
      });
    }
  }
});
