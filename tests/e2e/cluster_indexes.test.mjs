// Indexing what slotcast 0.1 stored in a Cluster: the keys of each server, for the buckets that it has.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';

import { day } from './lib/fixtures.mjs';
import { startRedisCluster } from './lib/redis_cluster.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { eventually } from './lib/waiting.mjs';

const run = promisify(execFile);

const BUCKETS = 128;
const USER = 4711;

/** The buckets of spaces, by where a node stores something of them in another Redis. */
async function bucketsOf(spaces, date) {
  const redis = await startRedis();
  const node = await startSlotcast({ settings: { REDIS_URL: redis.url } });
  for (const number of spaces) {
    const body = { idSpazio: number, sedeId: 1, date, status: 'blocked' };
    assert.equal((await node.staffCaller().settled.put('/api/slots/1', body)).status, 200);
  }
  const buckets = new Map();
  for (const key of await redis.ask('KEYS', 'slotcast:{b*}:day:*')) {
    const [, bucket, number] = /\{b(\d+)\}:day:1:(\d+):/.exec(key);
    buckets.set(Number(number), Number(bucket));
  }
  await node.stop();
  await redis.kill();
  return buckets;
}

test('the bookings of 0.1 on all servers of a Cluster are indexed', async () => {
  const date = day(9);
  const spaces = Array.from({ length: 24 }, (_, index) => index + 1);
  const buckets = await bucketsOf(spaces, date);
  assert.equal(buckets.size, spaces.length);
  const cluster = await startRedisCluster();
  const cli = (...words) => run('redis-cli', ['-c', '-e', '-p', String(cluster.servers[0].port), ...words.map(String)]);
  const start = Date.parse(`${date}T08:00:00Z`);
  const record = ['b', 4, start, start + 3_600_000, '09:00', USER, '', '', '', '', 4, ''].join('\n');
  for (const [number, bucket] of buckets) {
    const key = (name) => `slotcast:{b${bucket}}:${name}`;
    await cli('HSET', key('epoch'), 'epoch', '0123456789abcdef0123456789abcdef', 'replid', '');
    await cli('HSET', key(`head:1:${number}`), 'v', 4);
    await cli('HSET', key(`day:1:${number}:${date.replaceAll('-', '')}`), 1, record);
  }
  const node = await startSlotcast({ settings: { REDIS_URL: cluster.url } });
  const caller = node.userCaller(USER);
  const read = async () => {
    const answer = await caller.get('/api/bookings');
    return answer.status === 200 && answer.data.bookings;
  };
  const bookings = await eventually(read, 'the indexes of all buckets', 90_000);
  const booked = bookings.map(({ spazioId }) => spazioId).sort((left, right) => left - right);
  assert.deepEqual(booked, spaces);
  const told = node.log().match(/indexed what slotcast 0\.1 stored/g) ?? [];
  assert.ok(told.length >= 1 && told.length < BUCKETS / 16, `told ${told.length} times`);
  await node.stop();
  await cluster.kill();
});
