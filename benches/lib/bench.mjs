// The tools of a row: the systems, the sizes, and how measurements are repeated and gathered.

import { Generator } from './generator.mjs';
import { busyCores } from './measure.mjs';
import { SYSTEMS, start } from './systems.mjs';

/** The median of numbers. */
export function median(numbers) {
  const sorted = [...numbers].sort((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export class Bench {
  /** `quick` is for trying the bench itself. `systems` names the compared systems. */
  constructor({ quick, systems }) {
    this.quick = quick;
    this.systems = systems;
    this.lines = [];
    this.busiest = 0;
  }

  /** A size: the full one, or the one for trying. */
  size(whole, quick) {
    return this.quick ? quick : whole;
  }

  /**
   * Measures the systems by turns, A-B-A-B, on freshly started nodes each time. `measure` gets the running system and a
   * generator, and gives an object of numbers. Returns the medians by system.
   */
  async compare({ rounds = 1, systems = this.systems, ...options }, measure) {
    const results = new Map(systems.map((system) => [system, []]));
    for (let round = 1; round <= (this.quick ? 1 : rounds); round += 1) {
      for (const system of systems) {
        const result = await this.#measureOne(system, options, measure);
        results.get(system).push(result);
        console.log(`  ${SYSTEMS[system]}: ${JSON.stringify(result, roundNumber)}`);
      }
    }
    return mediansOf(results);
  }

  async #measureOne(system, options, measure) {
    this.busiest = Math.max(this.busiest, await busyCores());
    const running = await start(system, options);
    const generator = new Generator();
    try {
      return await measure(running, generator, system);
    } finally {
      await generator.end();
      await running.stop();
    }
  }

  /**
   * Adds a line to the table: `values` by system, and what the ratio of ours to that of Node with pub/sub should be.
   * `more` says that a larger figure is better.
   */
  add({ title, unit, values, toReach = undefined, toReachFloor = undefined, more = false, note = '' }) {
    this.lines.push({ title, unit, values, toReach, toReachFloor, more, note });
  }

  /** Adds a line for each of `fields`, `[key, title, unit, options]`, from the results of `compare`. */
  addAll(results, fields) {
    for (const [key, title, unit, options = {}] of fields) {
      const values = Object.fromEntries([...results].map(([system, result]) => [system, result[key]]));
      this.add({ title, unit, values, ...options });
    }
  }
}

const roundNumber = (_, value) => (typeof value === 'number' ? Number(value.toPrecision(4)) : value);

function mediansOf(results) {
  const medians = new Map();
  for (const [system, rounds] of results) {
    const keys = Object.keys(rounds[0]);
    medians.set(system, Object.fromEntries(keys.map((key) => [key, median(rounds.map((round) => round[key]))])));
  }
  return medians;
}
