// Faults of the one Redis that all nodes share.

import { sleep } from '../../lib/waiting.mjs';

const killedAndBack = {
  inject: (world) => world.store.kill(),
  heal: (world) => world.store.start(),
};

let goOn;

export const REDIS = [
  {
    name: 'redis-killed',
    on: 'standalone',
    sizes: { lasts: 1_000 },
    ...killedAndBack,
  },
  {
    name: 'redis-killed-everysec',
    on: 'standalone',
    loses: 'what Redis had not written yet: up to two seconds with `appendfsync everysec`',
    world: { redis: { appendfsync: 'everysec' } },
    sizes: { lasts: 1_000 },
    ...killedAndBack,
  },
  {
    name: 'redis-killed-without-aof',
    on: 'standalone',
    loses: 'everything: Redis keeps nothing on its disk',
    world: { redis: { appendonly: 'no' } },
    sizes: { lasts: 1_000 },
    ...killedAndBack,
  },
  {
    name: 'redis-frozen',
    on: 'standalone',
    sizes: { lasts: 3_000 },
    inject: async (world) => {
      goOn = world.store.freeze();
    },
    heal: async () => goOn(),
  },
  {
    name: 'redis-stutters',
    on: 'standalone',
    sizes: { lasts: 0 },
    inject: async (world) => {
      for (const milliseconds of [900, 1_300, 400]) {
        const go = world.store.freeze();
        await sleep(milliseconds);
        go();
        await sleep(300);
      }
    },
  },
  {
    name: 'subscriptions-killed',
    on: 'standalone',
    sizes: { lasts: 500 },
    inject: async (world) => {
      for (let round = 0; round < 4; round += 1) {
        await world.store.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
        await sleep(world.dice.between(50, 500));
      }
    },
  },
  {
    name: 'connections-killed',
    on: 'standalone',
    sizes: { lasts: 500 },
    inject: async (world) => {
      for (let round = 0; round < 4; round += 1) {
        await world.store.command('CLIENT', 'KILL', 'TYPE', 'normal');
        await sleep(world.dice.between(50, 500));
      }
    },
  },
  {
    name: 'scripts-flushed',
    on: 'standalone',
    sizes: { lasts: 500 },
    inject: (world) => world.store.command('SCRIPT', 'FLUSH'),
  },
  {
    name: 'redis-full',
    on: 'standalone',
    inject: (world) => world.store.command('CONFIG', 'SET', 'maxmemory', 1),
    heal: (world) => world.store.command('CONFIG', 'SET', 'maxmemory', 0),
  },
];
