// Faults of a primary and its replica behind sentinels.

import { eventually } from '../../lib/waiting.mjs';

const LAG = 'what the replica had not received';

/** How long sentinels may take to agree on another primary. */
const AGREEMENT_MS = 60_000;

/** The primary when the fault begins. */
let old;
let goOn;

const remember = async ({ store }) => {
  old = await eventually(() => store.primary(), 'a primary', AGREEMENT_MS);
  return old;
};

const anotherTookOver = (world) => world.store.primaryAfter(old);

/** Sentinels agree on a primary that says so itself, and has its replica. */
const isSettled = async ({ store }) => {
  await eventually(async () => {
    const primary = await store.primary().catch(() => undefined);
    return primary && (await primary.ask('ROLE'))[2].length === 1;
  }, 'a primary with its replica', AGREEMENT_MS);
};

export const SENTINEL = [
  {
    name: 'sentinel-failover',
    on: 'sentinel',
    // The old primary stays writable for this long, for nodes that still write to it.
    sizes: { lasts: 3_000, warmUp: 40 },
    inject: async (world) => {
      await remember(world);
      await world.store.sentinels[0].command('SENTINEL', 'FAILOVER', 'main');
      await anotherTookOver(world);
    },
  },
  {
    name: 'sentinel-failover-with-min-replicas',
    on: 'sentinel',
    sizes: { lasts: 1_000, warmUp: 40 },
    prepare: async ({ store }) => {
      for (const server of store.servers) await server.command('CONFIG', 'SET', 'min-replicas-to-write', 1);
    },
    inject: async (world) => {
      await remember(world);
      await world.store.sentinels[0].command('SENTINEL', 'FAILOVER', 'main');
      await anotherTookOver(world);
    },
    // The new primary accepts no write before its replica is in step.
    heal: isSettled,
  },
  {
    name: 'sentinel-primary-killed',
    on: 'sentinel',
    loses: LAG,
    sizes: { lasts: 0 },
    inject: async (world) => (await remember(world)).kill(),
    heal: anotherTookOver,
  },
  {
    name: 'sentinel-primary-killed-and-back',
    on: 'sentinel',
    loses: LAG,
    sizes: { lasts: 1_000 },
    inject: async (world) => {
      await (await remember(world)).kill();
      await anotherTookOver(world);
    },
    heal: async (world) => {
      await old.start();
      await isSettled(world);
    },
  },
  {
    name: 'sentinel-primary-frozen-and-back',
    on: 'sentinel',
    loses: LAG,
    sizes: { lasts: 500 },
    inject: async (world) => {
      goOn = (await remember(world)).freeze();
      await anotherTookOver(world);
    },
    heal: async (world) => {
      goOn();
      await isSettled(world);
    },
  },
  {
    name: 'sentinel-replicaof-by-hand',
    on: 'sentinel',
    loses: 'what the old primary was sent after its replica was told to be one',
    sizes: { lasts: 1_000 },
    inject: async (world) => {
      const primary = await remember(world);
      const replica = world.store.servers.find((server) => server !== primary);
      await replica.command('REPLICAOF', 'NO', 'ONE');
      await primary.command('REPLICAOF', '127.0.0.1', replica.port);
    },
    heal: isSettled,
  },
];
