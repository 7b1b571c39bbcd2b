// Faults of the data, the rights and the clock of the one Redis while it runs.

import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { makeClock } from '../../lib/moved_clock.mjs';
import { sleep } from '../../lib/waiting.mjs';

const everything = 'everything that was stored: it was deleted';
const sinceTheBackup = 'what was done since the backup';

/** How many acts are done between a backup and its restoration. */
const ACTS_SINCE = 25;

const actsMore = async (world, count) => {
  const goal = world.load.done + count;
  while (world.load.done < goal) await sleep(20);
};

/** Takes a right from the nodes, and gives it back. */
function withoutRight(name, rights) {
  const others = rights.map((right) => (right.startsWith('-') ? `+${right.slice(1)}` : right));
  return {
    name,
    on: 'standalone',
    sizes: { lasts: 4_000 },
    inject: async ({ store }) => {
      await store.command('ACL', 'SETUSER', 'default', ...rights);
      // A node needs the right when it subscribes, so it must subscribe again.
      if (rights.includes('-subscribe')) await store.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
    },
    heal: (world) => world.store.command('ACL', 'SETUSER', 'default', ...others),
  };
}

/** Moves the clock of Redis by so many seconds, and back. */
function movedClock(name, seconds) {
  let clock;
  return {
    name,
    on: 'standalone',
    world: () => {
      clock = makeClock();
      return { environment: clock.environment };
    },
    // Holds end earlier or later by this much, and a call's times cannot be compared with the store's.
    sizes: { clock: (Math.abs(seconds) + 5) * 1_000, lasts: 3_000 },
    inject: async ({ store }) => {
      clock.move(seconds);
      const [now] = await store.ask('TIME');
      if (Math.abs(Number(now) - Date.now() / 1_000 - seconds) > 60) throw new Error(`the clock of Redis is ${now}`);
    },
    heal: async () => clock.move(0),
  };
}

export const STORE = [
  {
    name: 'flushall',
    on: 'standalone',
    loses: everything,
    inject: (world) => world.store.command('FLUSHALL'),
  },
  {
    name: 'swapdb',
    on: 'standalone',
    loses: 'everything that was stored: the nodes see another database',
    inject: (world) => world.store.command('SWAPDB', 0, 1),
  },
  {
    name: 'swapdb-and-back',
    on: 'standalone',
    loses: 'what was done while the other database stood in its place',
    inject: (world) => world.store.command('SWAPDB', 0, 1),
    heal: (world) => world.store.command('SWAPDB', 0, 1),
  },
  {
    name: 'backup-restored',
    on: 'standalone',
    loses: sinceTheBackup,
    sizes: { lasts: 0 },
    // The running server reads the file: the database is emptied and filled in one command.
    inject: async (world) => {
      const { store } = world;
      await store.command('CONFIG', 'SET', 'appendonly', 'no');
      await store.command('SAVE');
      const file = join(store.folder, 'dump.rdb');
      const backup = join(store.folder, 'backup.rdb');
      cpSync(file, backup);
      await actsMore(world, ACTS_SINCE);
      cpSync(backup, file);
      await store.command('DEBUG', 'RELOAD', 'NOSAVE');
    },
    world: { redis: { 'enable-debug-command': 'yes' } },
  },
  {
    name: 'backup-restored-by-restart',
    on: 'standalone',
    loses: sinceTheBackup,
    sizes: { lasts: 500 },
    inject: async (world) => {
      const { store } = world;
      const backup = join(store.folder, 'backup');
      cpSync(join(store.folder, 'appendonlydir'), backup, { recursive: true });
      await actsMore(world, ACTS_SINCE);
      await store.kill();
      rmSync(join(store.folder, 'appendonlydir'), { recursive: true });
      mkdirSync(join(store.folder, 'appendonlydir'));
      cpSync(backup, join(store.folder, 'appendonlydir'), { recursive: true });
    },
    heal: (world) => world.store.start(),
  },
  ...['zadd', 'expireat', 'xadd', 'publish', 'hset', 'pexpire', 'zrange', 'subscribe', 'info'].map((command) =>
    withoutRight(`right-taken-${command}`, [`-${command}`]),
  ),
  withoutRight('right-taken-write', ['-@write']),
  {
    name: 'right-taken-channels',
    on: 'standalone',
    sizes: { lasts: 4_000 },
    inject: (world) => world.store.command('ACL', 'SETUSER', 'default', 'resetchannels'),
    heal: (world) => world.store.command('ACL', 'SETUSER', 'default', 'allchannels'),
  },
  movedClock('clock-forward', 3_600),
  movedClock('clock-back', -3_600),
  {
    name: 'schedule-changed',
    on: 'standalone',
    sizes: { lasts: 0 },
    inject: async (world) => {
      const staff = world.homes[0].staffCaller();
      for (const closes of ['19:00', '20:00', '18:00']) {
        for (const space of world.spaces) {
          const schedule = { name: `Sala fino alle ${closes}`, timezone: 'Europe/Rome', opens: '09:00', closes, slotMinutes: 60 };
          const answer = await staff.settled.put(space.path, schedule);
          if (answer.status !== 200) throw new Error(answer.text);
        }
        await sleep(200);
      }
    },
  },
];
