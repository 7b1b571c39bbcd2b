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

/** All faults. */
export const FAULTS = [...NODES, ...REDIS, ...LINKS, ...STORE, ...SENTINEL, ...CLUSTER];

/** The fault of a name. */
export function faultOf(name) {
  const found = FAULTS.find((fault) => fault.name === name);
  if (found === undefined) throw new Error(`no fault is called ${name}: ${FAULTS.map((fault) => fault.name).join(', ')}`);
  return found;
}
