// The servers that are compared, each started the same way: `const running = await start('pubsub', { nodes: 2 })`, then
// `running.nodes[0].address`, `running.nodes[0].pid`, and `running.stop()`.

import { join } from 'node:path';

import { startCluster } from '../../tests/e2e/lib/cluster.mjs';
import { startRedis } from '../../tests/e2e/lib/redis_server.mjs';
import { SECRET } from '../../tests/e2e/lib/tokens.mjs';
import { CpuMeter } from './measure.mjs';
import { REPOSITORY, ServerProcess } from './processes.mjs';

/** The names of the systems in the table, in the order of its columns. */
export const SYSTEMS = {
  slotcast: 'slotcast',
  pubsub: 'Node, pub/sub',
  sharded: 'Node, sharded',
  streams: 'Node, streams',
  floor: 'floor',
};

export const PEERS = ['pubsub', 'sharded', 'streams'];

/** Redis without a disk: the peers' adapters keep nothing, so a disk would only slow one side down. */
const IN_MEMORY = { appendonly: 'no' };

/** The settings of each node of slotcast. Only limits that would refuse the bench's load are off. */
export const SETTINGS = { SLOTCAST_LOG: 'warn', SLOTCAST_USER_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0', SLOTCAST_DRAIN_TIME: '1' };

/** Starts a number of nodes of a system, on a Redis of their own. `settings` are for nodes of slotcast. */
export async function start(system, { nodes = 1, redis = IN_MEMORY, settings = {} } = {}) {
  if (system === 'slotcast') return startSlotcastNodes(nodes, redis, settings);
  if (system === 'floor') return new Running([await startFloor()], undefined);
  return startPeers(system, nodes, redis);
}

async function startSlotcastNodes(count, options, settings) {
  const cluster = await startCluster({ nodes: count, settings: { ...SETTINGS, ...settings }, redis: options });
  return new Running(cluster.nodes, cluster.redis);
}

async function startPeers(adapter, count, options) {
  const redis = await startRedis({ options });
  const settings = { ADAPTER: adapter, REDIS_URL: redis.url, JWT_SECRET: SECRET, NODE_ENV: 'production' };
  const server = join(REPOSITORY, 'benches/peers/server.mjs');
  const startOne = () => ServerProcess.start(adapter, process.execPath, [server], settings);
  return new Running(await Promise.all(Array.from({ length: count }, startOne)), redis);
}

function startFloor() {
  return ServerProcess.start('floor', join(REPOSITORY, 'target/load/release/floor'), []);
}

/** The nodes of one system. */
class Running {
  constructor(nodes, redis) {
    this.nodes = nodes.map((node) => new RunningNode(node));
    this.redis = redis;
    this.redisCpu = redis && new CpuMeter(redis.child.pid);
  }

  /** The addresses of all nodes. */
  get addresses() {
    return this.nodes.map((node) => node.address);
  }

  get first() {
    return this.nodes[0];
  }

  get last() {
    return this.nodes.at(-1);
  }

  /** Counts CPU time from now on. */
  reset() {
    for (const node of this.nodes) node.cpu.reset();
    this.redisCpu?.reset();
  }

  /** CPU seconds of Redis since `reset`; 0 without one. */
  redisSeconds() {
    return this.redisCpu?.seconds() ?? 0;
  }

  /** Ends all of them at once, because nothing of theirs is kept. */
  async stop() {
    await Promise.all(this.nodes.map((node) => node.kill()));
    await this.redis?.kill();
  }
}

class RunningNode {
  constructor(server) {
    this.server = server;
    this.url = server.url;
    this.port = server.port;
    this.address = `127.0.0.1:${server.port}`;
    this.pid = server.child.pid;
    this.cpu = new CpuMeter(this.pid);
  }

  async kill() {
    if (this.isKilled) return;
    this.isKilled = true;
    await this.server.kill();
  }
}
