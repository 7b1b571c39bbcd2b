// A Redis Cluster of three primaries, with replicas if a test wants them. Its hash slots can be moved from one primary to
// another while the Cluster is used.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { range } from './fixtures.mjs';
import { freePort } from './ports.mjs';
import { startRedis } from './redis_server.mjs';
import { eventually } from './waiting.mjs';

const run = promisify(execFile);

/** How long the servers may take to agree: a server that the others took for dead stays so for twice the time below. */
const AGREEMENT_MS = 60_000;

/** How long a server may be silent before the others take it for dead, in ms. */
const NODE_TIMEOUT_MS = 2_000;

/**
 * Starts three primaries that share the hash slots, each with a number of replicas, and waits until each knows that all is
 * well.
 */
export async function startRedisCluster({ replicas = 0 } = {}) {
  const servers = await Promise.all(range(1, 3 * (1 + replicas)).map(() => startMember()));
  const cluster = new RedisCluster(servers);
  try {
    const addresses = servers.map(({ port }) => `127.0.0.1:${port}`);
    await run('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-replicas', String(replicas), '--cluster-yes']);
    await cluster.agree();
    if (replicas > 0) await cluster.replicated(3 * replicas);
    for (const server of servers) server.id = await server.command('-e', 'CLUSTER', 'MYID');
  } catch (error) {
    await cluster.kill();
    throw error;
  }
  return cluster;
}

async function startMember() {
  const options = {
    'cluster-enabled': 'yes',
    'cluster-port': await freePort(),
    'cluster-node-timeout': NODE_TIMEOUT_MS,
    // The loss of one server must not hide what happens on the others.
    'cluster-require-full-coverage': 'no',
    // The replica gets its first copy at once. Redis would wait for more replicas that could share the copy, but no other
    // replica comes.
    'repl-diskless-sync-delay': 0,
  };
  return startRedis({ options });
}

class RedisCluster {
  constructor(servers) {
    this.servers = servers;
    this.url = `redis-cluster://${servers.map(({ port }) => `127.0.0.1:${port}`).join(',')}`;
  }

  /** Waits until each server sees all the others, all hash slots served, and each slot where all others see it. */
  async agree() {
    const isWell = async () => {
      const infos = await Promise.all(this.servers.map((server) => server.command('CLUSTER', 'INFO')));
      const owners = (await this.#askEach('CLUSTER', 'SLOTS')).map(ownersOf);
      const parts = ['cluster_state:ok', 'cluster_slots_ok:16384', `cluster_known_nodes:${this.servers.length}`];
      return infos.every((info) => parts.every((part) => info.includes(part))) && new Set(owners).size === 1;
    };
    await eventually(() => isWell().catch(() => false), 'servers of a cluster that agree', AGREEMENT_MS);
  }

  /** Waits until this many replicas are in step with their primaries. */
  async replicated(count) {
    const inStep = async () => {
      const infos = await Promise.all(this.servers.map((server) => server.command('INFO', 'replication')));
      return infos.filter((info) => info.includes('master_link_status:up')).length === count;
    };
    await eventually(() => inStep().catch(() => false), `${count} replicas in step`, AGREEMENT_MS);
  }

  /** The servers that are primaries by their own word. */
  async primaries() {
    const roles = await Promise.all(this.servers.map((server) => server.ask('ROLE').catch(() => [])));
    return this.servers.filter((_, index) => roles[index][0] === 'master');
  }

  /** The replicas of a server, by their own word. */
  async replicasOf({ port }) {
    const roles = await Promise.all(this.servers.map((server) => server.ask('ROLE').catch(() => [])));
    return this.servers.filter((_, index) => roles[index][0] === 'slave' && roles[index][2] === port);
  }

  #askEach(...words) {
    return Promise.all(this.servers.map((server) => server.ask(...words)));
  }

  /** The hash slot of a key. */
  async slotOf(key) {
    return Number(await this.servers[0].command('-e', 'CLUSTER', 'KEYSLOT', key));
  }

  /** The one key that is like `pattern`, on whichever server it is. */
  async findKey(pattern) {
    const found = [...new Set((await this.#askEach('KEYS', pattern)).flat())];
    if (found.length !== 1) throw new Error(`${found.length} keys are like ${pattern}`);
    return found[0];
  }

  /** The server that serves a hash slot. */
  async ownerOf(slot) {
    const all = await this.servers[0].ask('CLUSTER', 'SLOTS');
    const [, , [, port]] = all.find(([first, last]) => first <= slot && slot <= last);
    return this.servers.find((server) => server.port === port);
  }

  /**
   * Begins to move a hash slot, as `redis-cli --cluster reshard` does. From here on the old server redirects commands for
   * keys that it has no more, and the new one takes commands for keys that it has already.
   */
  async beginMove(slot, to) {
    const from = await this.ownerOf(slot);
    await to.command('-e', 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id);
    await from.command('-e', 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id);
    return new Move(this, slot, from, to);
  }

  /** Ends all servers. */
  async kill() {
    await Promise.all(this.servers.map((server) => server.kill()));
  }
}

/** The owner of each hash slot, as one server sees it. */
function ownersOf(slots) {
  return JSON.stringify(slots.map(([first, last, [, port]]) => [first, last, port]).sort(([left], [right]) => left - right));
}

/** A hash slot on its way from one server to another. */
class Move {
  constructor(cluster, slot, from, to) {
    Object.assign(this, { cluster, slot, from, to });
    /** How many keys have been moved. */
    this.moved = 0;
  }

  /** How many keys are still to be moved. */
  async left() {
    return Number(await this.from.command('-e', 'CLUSTER', 'COUNTKEYSINSLOT', this.slot));
  }

  /** Moves `count` of the keys, one after the other; without a number all of them. */
  async moveKeys(count = Number.POSITIVE_INFINITY) {
    for (let done = 0; done < count; done += 1) {
      const [key] = await this.from.ask('CLUSTER', 'GETKEYSINSLOT', this.slot, 1);
      if (key === undefined) return;
      await this.from.command('-e', 'MIGRATE', '127.0.0.1', this.to.port, key, 0, 5_000);
      this.moved += 1;
    }
  }

  /** Moves the rest, and tells all servers who owns the hash slot now: the new owner first, so that it always has one. */
  async finish() {
    await this.moveKeys();
    // A replica follows its primary.
    const primaries = await this.cluster.primaries();
    const others = primaries.filter((server) => server !== this.to && server !== this.from);
    for (const server of [this.to, this.from, ...others]) {
      await server.command('-e', 'CLUSTER', 'SETSLOT', this.slot, 'NODE', this.to.id);
    }
  }
}
