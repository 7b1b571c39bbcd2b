// `/readyz` tells whether acts would be done: 503 with the reason while a right is missing or writes are refused, and 200
// again by itself. What can go on meanwhile does.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, renameSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';

import { freshSpace, range } from './lib/fixtures.mjs';
import { freePort } from './lib/ports.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { eventually } from './lib/waiting.mjs';

const readyOf = async (url) => {
  const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
  return response && { ...(await response.json()), status: response.status };
};

/** Waits until the node says that it is not ready for `obstacle`, with a reason that matches. */
async function notReady(url, obstacle, reason) {
  let ready;
  const isSo = async () => {
    ready = await readyOf(url);
    return ready?.status === 503 && ready.obstacles.includes(obstacle) && ready.reasons?.some((one) => reason.test(one));
  };
  await eventually(isSo, () => `${obstacle} for ${reason}: ${JSON.stringify(ready)}`);
  for (const one of ready.reasons) assert.doesNotMatch(one, /[\r\n]/, 'one line');
}

/** Gives the user of the node all rights but those that are taken away. */
const allow = (redis, ...rules) =>
  redis.command('ACL', 'SETUSER', 'node', 'reset', 'on', '>pw', '~*', '&*', '+@all', ...rules);

const urlOf = (redis) => redis.url.replace('redis://', 'redis://node:pw@');

const hold = (slotcast, space, slot = 1) => slotcast.userCaller(7).post(`/api/slots/${slot}/hold`, space.body());

/** A hold that must be done, if need be by a repeat. */
async function held(slotcast, space, slot = 1) {
  const answer = await slotcast.userCaller(7).settled.post(`/api/slots/${slot}/hold`, space.body());
  assert.equal(answer.status, 200, answer.text);
}

/** Each right that is taken away, and the name by which `/readyz` calls it. */
const RIGHTS = [
  ...['publish', 'xadd', 'zadd', 'expireat', 'pexpire', 'zrange', 'hset', 'info'].map((name) => [[`-${name}`], name]),
  [['resetchannels'], 'publish'],
  [['-@write'], 'hset'],
  [['-evalsha'], 'evalsha'],
];

describe('on a Redis that refuses its user', async () => {
  const redis = await startRedis();
  await allow(redis);
  const slotcast = await startSlotcast({ settings: { REDIS_URL: urlOf(redis) } });
  after(async () => {
    await slotcast.stop();
    await redis.kill();
  });

  for (const [rules, name] of RIGHTS) {
    test(`${rules} while running: not ready until it is given back`, async () => {
      await allow(redis, ...rules);
      // An act notices the missing right at once. Without acts the node notices it within seconds.
      if (!['publish', 'info'].includes(name)) await hold(slotcast, freshSpace());
      await notReady(slotcast.url, 'store_rights_missing', new RegExp(name, 'i'));
      await allow(redis);
      // A bucket in which an act was refused may need a moment.
      await held(slotcast, freshSpace());
      await slotcast.ready();
      await held(slotcast, freshSpace());
    });
  }

  test('an act that is refused is told at once', async () => {
    await allow(redis, '-zadd');
    assert.equal((await hold(slotcast, freshSpace())).status, 503);
    assert.equal((await readyOf(slotcast.url)).status, 503);
    await allow(redis);
    await slotcast.ready();
  });

  test('without SUBSCRIBE nobody joins, and who is in a room stays', async () => {
    const space = freshSpace();
    const client = await slotcast.user(8);
    await client.join(space);
    await allow(redis, '-subscribe');
    await notReady(slotcast.url, 'store_cannot_subscribe', /subscribe/);
    const other = freshSpace();
    const refused = await client.call('join_space', other.event());
    assert.equal(refused.error?.code, 'unavailable', JSON.stringify(refused));
    await allow(redis);
    await slotcast.ready();
    await client.join(other);
    await held(slotcast, other);
    await client.first('slot_update', ({ spazioId, data }) => (spazioId ?? data.spazioId) === other.number);
    client.close();
  });
});

test('a right that is missing at start: not ready until it is given', async () => {
  const redis = await startRedis();
  await allow(redis, '-zadd', '-subscribe');
  const port = await freePort();
  const starting = startSlotcast({ settings: { REDIS_URL: urlOf(redis) }, port });
  const url = `http://127.0.0.1:${port}`;
  await notReady(url, 'store_rights_missing', /ZADD/);
  await notReady(url, 'store_cannot_subscribe', /subscribe/);
  await allow(redis);
  const slotcast = await starting;
  await held(slotcast, freshSpace());
  await slotcast.stop();
  await redis.kill();
});

test('INFO that was refused at start and is given later raises the fence without a restart', async () => {
  const redis = await startRedis();
  await allow(redis, '-info');
  const slotcast = await startSlotcast({ settings: { REDIS_URL: urlOf(redis) } });
  assert.deepEqual((await readyOf(slotcast.url)).notes, ['store_unfenced']);
  const space = freshSpace();
  await held(slotcast, space);
  await allow(redis);
  await eventually(async () => !('notes' in (await readyOf(slotcast.url))), 'a fence');
  await held(slotcast, space, 2);
  // Changes the server's replication history as a failover does, which a fenced node notices.
  const { epoch } = await slotcast.board(space);
  await redis.command('REPLICAOF', '127.0.0.1', await freePort());
  await redis.command('REPLICAOF', 'NO', 'ONE');
  assert.notEqual((await slotcast.board(space)).epoch, epoch);
  await slotcast.stop();
  await redis.kill();
});

test('of a Cluster, a right that one of the servers refuses is told', async () => {
  const cluster = await startRedisCluster();
  for (const server of cluster.servers) await allow(server);
  const settings = { REDIS_URL: cluster.url.replace('redis-cluster://', 'redis-cluster://node:pw@') };
  const slotcast = await startSlotcast({ settings });
  for (const server of cluster.servers) {
    await allow(server, '-xadd');
    await notReady(slotcast.url, 'store_rights_missing', /XADD/);
    await allow(server);
    await slotcast.ready();
  }
  await slotcast.stop();
  await cluster.kill();
});

/** How a Redis comes to refuse all writes, and to take them again. */
const REFUSALS = {
  MISCONF: async (redis) => {
    const file = join(redis.folder, 'dump.rdb');
    rmSync(file, { force: true });
    mkdirSync(file);
    const save = async (status) => {
      await redis.command('BGSAVE').catch(() => {});
      const told = async () => new RegExp(`rdb_last_bgsave_status:${status}`).test(await redis.command('INFO', 'persistence'));
      await eventually(told, `a save that is ${status}`);
    };
    await redis.command('CONFIG', 'SET', 'save', '3600 1');
    await save('err');
    return async () => {
      rmdirSync(file);
      await save('ok');
    };
  },
  NOREPLICAS: async (redis) => {
    await redis.command('CONFIG', 'SET', 'min-replicas-to-write', 1);
    return () => redis.command('CONFIG', 'SET', 'min-replicas-to-write', 0);
  },
  OOM: async (redis) => {
    await redis.command('CONFIG', 'SET', 'maxmemory', 1);
    return () => redis.command('CONFIG', 'SET', 'maxmemory', 0);
  },
};

/** Boards, joins and connections go on; acts do not. */
async function assertOnlyReads(slotcast, space, started) {
  const board = await slotcast.caller().get(space.boardPath());
  assert.equal(board.status, 200, board.text);
  const client = await slotcast.user(9);
  for (const one of [space, freshSpace()]) {
    await client.join(one, { date: one.date });
    await client.first('slots_status_update', ({ spazioId }) => spazioId === one.number);
  }
  for (const slot of range(2, 4)) assert.equal((await hold(slotcast, space, slot)).status, 503);
  client.close();
  const healthy = await fetch(`${slotcast.url}/healthz`);
  assert.equal(healthy.status, 200);
  assert.ok(!(await readyOf(slotcast.url)).obstacles.includes('store_unreachable'), 'it can be reached');
  assert.ok(started.connected, 'who is connected stays');
}

for (const [code, refuse] of Object.entries(REFUSALS)) {
  test(`while Redis answers ${code} to writes, reads go on and /readyz tells`, async () => {
    const redis = await startRedis();
    const slotcast = await startSlotcast({ settings: { REDIS_URL: redis.url } });
    const space = freshSpace();
    await held(slotcast, space);
    const { socket } = await slotcast.user(8);
    const end = await refuse(redis);
    await notReady(slotcast.url, 'store_refuses_writes', new RegExp(code));
    await assertOnlyReads(slotcast, space, socket);
    await end();
    await slotcast.ready();
    await held(slotcast, space, 2);
    assert.ok(socket.connected);
    await slotcast.stop();
    await redis.kill();
  });
}

describe('on a data file', () => {
  for (const [name, lose] of Object.entries({
    'is removed': (file) => rmSync(file),
    'is moved away': (file) => renameSync(file, `${file}.moved`),
    'is replaced by another': (file) => {
      copyFileSync(file, `${file}.copy`);
      renameSync(`${file}.copy`, file);
    },
  })) {
    test(`that ${name}, no act is acknowledged and lost`, async () => {
      const slotcast = await startSlotcast();
      const space = freshSpace();
      const before = await hold(slotcast, space);
      assert.equal(before.status, 200);
      const [file] = readdirSync(slotcast.dataDir).filter((one) => one.endsWith('.redb'));
      lose(join(slotcast.dataDir, file));
      const lost = await hold(slotcast, space, 2);
      if (name === 'is replaced by another') {
        // The node opens the other file and goes on with its data under another epoch. The sweep may notice the file before
        // the act does.
        if (lost.status === 200) assert.notEqual(lost.data.epoch, before.data.epoch);
        else assert.equal(lost.status, 503, lost.text);
        await slotcast.ready();
        const after = await slotcast.userCaller(7).settled.post('/api/slots/3/hold', space.body());
        assert.notEqual(after.data.epoch, before.data.epoch);
        if (lost.status === 200) assert.equal((await hold(slotcast, space, 2)).data.holdToken, lost.data.holdToken);
        assert.match(slotcast.log(), /removed, replaced or written to/);
      } else {
        assert.equal(lost.status, 503, lost.text);
        await notReady(slotcast.url, 'data_file_gone', /removed, replaced or written to/);
        assert.equal((await hold(slotcast, space, 3)).status, 503);
        if (name === 'is moved away') {
          renameSync(`${join(slotcast.dataDir, file)}.moved`, join(slotcast.dataDir, file));
          await slotcast.ready();
          const after = await slotcast.userCaller(7).settled.post('/api/slots/3/hold', space.body());
          assert.equal(after.status, 200, after.text);
        }
      }
      await slotcast.stop();
    });
  }

  test('that is removed while nobody acts, /readyz tells', async () => {
    const slotcast = await startSlotcast({ settings: { SLOT_TIMER_INTERVAL: '0' } });
    for (const file of readdirSync(slotcast.dataDir)) rmSync(join(slotcast.dataDir, file));
    await notReady(slotcast.url, 'data_file_gone', /removed/);
    await slotcast.stop();
  });

  test('on a disk that is full, reads go on and /readyz tells', async (t) => {
    const folder = temporaryFolder();
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'none', folder], { stdio: 'ignore' });
    } catch {
      t.skip('this user may not mount a small disk');
      return;
    }
    t.after(() => execFileSync('umount', ['-l', folder]));
    const slotcast = await startSlotcast({ dataDir: folder, settings: { SLOTCAST_USER_RATE: '0' } });
    const space = freshSpace();
    assert.equal((await hold(slotcast, space)).status, 200);
    const { socket } = await slotcast.user(8);
    const ballast = join(folder, 'ballast');
    const fill = () => {
      try {
        for (;;) writeFileSync(ballast, Buffer.alloc(64 * 1024), { flag: 'a' });
      } catch (error) {
        assert.equal(error.code, 'ENOSPC');
      }
    };
    const staff = slotcast.staffCaller();
    let writing = 0;
    // The free pages of the file are used up first.
    const refused = async () => {
      fill();
      writing += 1;
      const body = { ...freshSpace().body(), status: 'blocked', data: { text: 'x'.repeat(15_000) } };
      return (await staff.put('/api/slots/1', body)).status === 503;
    };
    await eventually(refused, 'a write that is refused');
    t.diagnostic(`refused after ${writing} writes, the file has ${statSync(join(folder, 'slotcast.redb')).size} bytes`);
    await notReady(slotcast.url, 'store_refuses_writes', /data file/);
    await assertOnlyReads(slotcast, space, socket);
    for (const _ of range(1, 200)) {
      const board = await slotcast.caller().get(space.boardPath());
      assert.equal(board.status, 200, board.text);
    }
    rmSync(ballast);
    await slotcast.ready();
    await held(slotcast, space, 4);
    await slotcast.stop();
  });
});

test('a key set that cannot be fetched at start: not ready until it was, and ready while it is known', async () => {
  const port = await freePort();
  const jwks = `http://127.0.0.1:${await freePort()}/keys`;
  const settings = { JWT_SECRET: undefined, JWT_ALGORITHM: 'EdDSA', JWT_JWKS_URL: jwks };
  const starting = startSlotcast({ settings, port });
  await notReady(`http://127.0.0.1:${port}`, 'keys_unavailable', /JWT_JWKS_URL/);
  const { generateKeyPairSync } = await import('node:crypto');
  const jwk = { ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'EdDSA' };
  const issuer = createServer((_, response) => response.end(JSON.stringify({ keys: [jwk] })));
  issuer.listen(new URL(jwks).port, '127.0.0.1');
  const slotcast = await starting;
  issuer.closeAllConnections();
  await new Promise((done) => {
    issuer.close(done);
  });
  assert.equal((await readyOf(slotcast.url)).status, 200);
  await slotcast.stop();
});
