// Faults of a Redis Cluster of three primaries with a replica each.

import { eventually, sleep } from '../../lib/waiting.mjs';

const LAG = 'what the replica had not received';

/** How long the servers may take to agree on another primary. */
const AGREEMENT_MS = 60_000;

/** The primary of the first space when the fault begins, and its replica. */
let old;
let replica;
let goOn;

const remember = async (world) => {
  const [space] = world.spaces;
  const primaries = await world.store.primaries();
  const has = async (server) => (await server.ask('KEYS', `slotcast:*:log:${space.site}:${space.number}`)).length > 0;
  const owners = await Promise.all(primaries.map(has));
  old = primaries[owners.indexOf(true)];
  [replica] = await world.store.replicasOf(old);
};

const replicaTookOver = async ({ store }) => {
  const isPrimary = async () => (await replica.ask('ROLE'))[0] === 'master';
  await eventually(() => isPrimary().catch(() => false), 'the replica as primary', AGREEMENT_MS);
  const others = store.servers.filter((server) => server !== old);
  const isWell = async () => (await Promise.all(others.map((server) => server.command('CLUSTER', 'INFO')))).every((info) => info.includes('cluster_state:ok'));
  await eventually(isWell, 'a cluster that is well', AGREEMENT_MS);
};

/** A planned switch. */
const switched = (name, how, more = {}) => ({
  name,
  on: 'cluster',
  sizes: { lasts: 500 },
  inject: async (world) => {
    await remember(world);
    await replica.command('-e', 'CLUSTER', 'FAILOVER', ...how);
    await replicaTookOver(world);
  },
  ...more,
});

export const CLUSTER = [
  switched('cluster-failover', []),
  switched('cluster-failover-force', ['FORCE'], { loses: LAG }),
  switched('cluster-failover-takeover', ['TAKEOVER'], { loses: LAG }),
  {
    name: 'cluster-primary-killed',
    on: 'cluster',
    loses: LAG,
    sizes: { lasts: 0 },
    inject: async (world) => {
      await remember(world);
      await old.kill();
    },
    heal: replicaTookOver,
  },
  {
    name: 'cluster-primary-frozen-and-back',
    on: 'cluster',
    loses: LAG,
    sizes: { lasts: 500 },
    inject: async (world) => {
      await remember(world);
      goOn = old.freeze();
      await replicaTookOver(world);
    },
    heal: async () => {
      goOn();
      await eventually(async () => (await old.ask('ROLE'))[0] === 'slave', 'the old primary as replica', AGREEMENT_MS);
    },
  },
  {
    name: 'cluster-slot-moved',
    on: 'cluster',
    sizes: { lasts: 500 },
    inject: async (world) => {
      await remember(world);
      const [space] = world.spaces;
      const [key] = await old.ask('KEYS', `slotcast:*:log:${space.site}:${space.number}`);
      const slot = await world.store.slotOf(key);
      const to = (await world.store.primaries()).find((server) => server !== old);
      const move = await world.store.beginMove(slot, to);
      while ((await move.left()) > 0) {
        await move.moveKeys(1);
        await sleep(world.dice.between(20, 120));
      }
      await move.finish();
    },
  },
];
