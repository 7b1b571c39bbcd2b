// Faults of nodes.

import { range } from '../../lib/fixtures.mjs';
import { sleep } from '../../lib/waiting.mjs';

let goOn;

export const NODES = [
  {
    name: 'none',
    on: 'standalone',
    inject: async () => {},
  },
  {
    name: 'clients-break',
    on: 'standalone',
    sizes: { breaks: true },
    inject: async () => {},
  },
  {
    name: 'node-killed',
    on: 'standalone',
    inject: (world) => world.killNode(0),
    heal: (world) => world.startNode(0),
  },
  {
    name: 'node-frozen',
    on: 'standalone',
    inject: async (world) => {
      goOn = world.cluster.freezeNode(world.homes[1]);
    },
    heal: async () => goOn(),
  },
  {
    name: 'node-stopped',
    on: 'standalone',
    inject: (world) => world.stopNode(2),
    heal: (world) => world.startNode(2),
  },
  {
    name: 'nodes-replaced',
    on: 'standalone',
    inject: async (world) => {
      for (const index of range(0, 2)) {
        await world.replaceNode(index);
        await sleep(300);
      }
    },
  },
];
