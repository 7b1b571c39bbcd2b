// The host name in REDIS_URL moves to another server, as with a managed Redis, while the old server keeps running.

import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Whether this process may give another one its own hosts file. */
const mayMount = spawnSync('unshare', ['--mount', 'mount', '--bind', '/etc/hosts', '/etc/hosts']).status === 0;

// These nodes see such a file. The program is chosen before the modules that start it are loaded.
const folder = mkdtempSync(join(tmpdir(), 'slotcast-names-'));
const hosts = join(folder, 'hosts');
const program = process.env.SLOTCAST_BIN ?? join(import.meta.dirname, '../../target/debug/slotcast');
const wrapper = join(folder, 'slotcast');
writeFileSync(wrapper, `#!/bin/sh\nexec unshare --mount sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' "${hosts}" "${program}" "$@"\n`);
chmodSync(wrapper, 0o755);
process.env.SLOTCAST_BIN = wrapper;

const { Claims } = await import('./lib/claims.mjs');
const { startCluster } = await import('./lib/cluster.mjs');
const { startRedis } = await import('./lib/redis_server.mjs');
const { killAtExit, temporaryFolder } = await import('./lib/slotcast.mjs');
const { eventually } = await import('./lib/waiting.mjs');

const SERVER = process.env.SLOTCAST_TEST_REDIS_SERVER ?? 'redis-server';

const point = (address) => writeFileSync(hosts, `127.0.0.1 localhost\n${address} redis.example\n`);

/** Starts a replica on the same port of another address of this machine. */
async function startReplica({ port }) {
  const words = ['--port', port, '--bind', '127.0.0.2', '--dir', temporaryFolder(), '--save', '', '--appendonly', 'yes'];
  const child = spawn(SERVER, [...words, '--replicaof', '127.0.0.1', port].map(String), { stdio: 'ignore' });
  killAtExit(child);
  const command = async (...more) => (await run('redis-cli', ['-h', '127.0.0.2', '-p', String(port), ...more])).stdout;
  const isInStep = async () => /master_link_status:up/.test(await command('INFO', 'replication').catch(() => ''));
  await eventually(isInStep, 'a replica in step');
  return { command, kill: () => child.kill('SIGKILL') };
}

test('a host name that moves takes the nodes with it', { skip: !mayMount && 'needs to mount' }, async (t) => {
  const redis = await startRedis();
  point('127.0.0.1');
  const replica = await startReplica(redis);
  const kill = async () => {
    replica.kill();
    await redis.kill();
  };
  const settings = { SLOTCAST_USER_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0' };
  const cluster = await startCluster({ settings, store: { url: `redis://redis.example:${redis.port}`, kill } });
  t.after(() => cluster.stop());
  const claims = new Claims(() => cluster.nodes).start();
  t.after(() => claims.stop());
  await eventually(() => claims.done > 60, 'acts');

  await replica.command('REPLICAOF', 'NO', 'ONE');
  point('127.0.0.2');
  const at = Date.now();
  // The connection that asks is one of the clients.
  const isLeft = async () => /connected_clients:1\b/.test(await redis.command('INFO', 'clients'));
  await eventually(isLeft, 'nodes that have left the old server');
  const left = Date.now();
  await eventually(() => claims.records.filter(({ status, sentAt }) => status === 200 && sentAt > left).length > 60, 'acts there');
  await claims.stop();
  const lost = await claims.lost(cluster.nodes[0]);
  t.diagnostic(`a name that moves: the old server is left after ${left - at} ms; ${lost.length} acts were lost with it`);
  assert.deepEqual(lost.filter(({ sentAt }) => sentAt > left), []);
  await cluster.ready();
});
