// All faults, in the order in which they are run. Each is a small object:
//
// - `name`; `on`, what the nodes stand on: `standalone`, `sentinel` or `cluster`;
// - `inject(world)` and `heal(world)`, with `sizes.lasts` ms between; a fault that ends by itself has no `heal`;
// - `loses`: why the store itself may lose acknowledged acts, and which; without it none may be lost;
// - `world`: options of `World.start`, or what makes them; `sizes`: those of `history.mjs`; `prepare`, `beforeCollect`, `end`: see there;
// - `needs()`: why the fault cannot be brought about here, if it cannot.

import { CLUSTER } from './cluster.mjs';
import { LINKS } from './links.mjs';
import { NODES } from './nodes.mjs';
import { REDIS } from './redis.mjs';
import { SENTINEL } from './sentinel.mjs';
import { STORE } from './store.mjs';

/** Faults under which a promise is known to be broken until it is mended; they are run by name only. */
const OPEN = new Set([
  'right-taken-zadd',
  'right-taken-expireat',
  'right-taken-xadd',
  'right-taken-publish',
  'right-taken-hset',
  'right-taken-pexpire',
  'right-taken-channels',
  'right-taken-write',
  // One run in two finds a node that is ready for over three seconds while all that it is asked is on the primary that is gone.
  'cluster-primary-killed',
  'cluster-primary-frozen-and-back',
]);

/** All faults, those that are run by name only among them. */
export const ALL_FAULTS = [...NODES, ...REDIS, ...LINKS, ...STORE, ...SENTINEL, ...CLUSTER];

export const FAULTS = ALL_FAULTS.filter(({ name }) => !OPEN.has(name));

/** The fault of a name. */
export function faultOf(name) {
  const found = ALL_FAULTS.find((fault) => fault.name === name);
  if (found === undefined) throw new Error(`no fault is called ${name}: ${ALL_FAULTS.map((fault) => fault.name).join(', ')}`);
  return found;
}
