// Faults of the wires between nodes and their store. Each befalls all nodes, or one of them (`one`), whose viewers then have
// to catch up while the others go on.

const world = { links: true };

/** A fault that begins with one call on each wire, and ends with `heal`. */
function ofWires(name, begin, more = {}) {
  const { one = false, on = 'standalone', ...rest } = more;
  const links = ({ links: all }) => (one ? all.slice(1, 2) : all);
  return {
    name,
    on,
    world,
    inject: async (here) => links(here).forEach(begin),
    heal: async (here) => links(here).forEach((link) => link.heal()),
    ...rest,
  };
}

export const LINKS = [
  ofWires('link-delayed', (link) => link.delay(40)),
  ofWires('link-slow', (link) => link.throttle(100_000)),
  ofWires('link-cut', (link) => link.cut()),
  ofWires('link-halved', (link) => link.halve()),
  ofWires('link-dropped', (link) => link.drop()),
  ofWires('link-held', (link) => link.hold()),
  ofWires('link-swallowed', (link) => link.swallow()),
  ofWires('link-dropped-of-one', (link) => link.drop(), { one: true, sizes: { lasts: 4_000 } }),
  ofWires('link-held-of-one', (link) => link.hold(), { one: true, sizes: { lasts: 4_000 } }),
  ofWires('sentinel-link-held-of-one', (link) => link.hold(), { one: true, on: 'sentinel', sizes: { lasts: 3_000 } }),
  ofWires('sentinel-link-cut', (link) => link.cut(), { on: 'sentinel' }),
  ofWires('cluster-link-held-of-one', (link) => link.hold(), { one: true, on: 'cluster', sizes: { lasts: 3_000 } }),
  ofWires('cluster-link-halved', (link) => link.halve(), { on: 'cluster' }),
  ofWires('cluster-link-swallowed-of-one', (link) => link.swallow(), { one: true, on: 'cluster' }),
];
