// Several nodes on one Redis of their own: `const cluster = await startCluster()`, then `cluster.nodes[0].url`.

import { startRedis } from './redis_server.mjs';
import { startSlotcast } from './slotcast.mjs';
import { eventually } from './waiting.mjs';

/**
 * Starts Redis and a number of nodes on it. `settings` are the environment variables of each node, `redis` the options of
 * Redis. `store` is a server that was started in place of Redis, with a `url` and `kill`.
 */
export async function startCluster({ nodes = 3, settings = {}, redis = {}, store = undefined } = {}) {
  const cluster = new Cluster(store ?? (await startRedis({ options: redis })), settings);
  const started = await Promise.allSettled(Array.from({ length: nodes }, () => cluster.addNode()));
  const failed = started.find(({ status }) => status === 'rejected');
  if (failed === undefined) return cluster;
  // A process that keeps running would keep the tests from ending.
  await Promise.all(cluster.nodes.map((node) => node.kill()));
  await cluster.redis.kill();
  throw failed.reason;
}

class Cluster {
  constructor(redis, settings) {
    this.redis = redis;
    this.settings = settings;
    /** The running nodes, including frozen ones. */
    this.nodes = [];
    this.turn = 0;
  }

  /** Starts one more node, on a free port or on `port`; `binary` names a program of another version. */
  async addNode(settings = {}, port = undefined, binary = undefined) {
    const all = { REDIS_URL: this.redis.url, ...this.settings, ...settings };
    const node = await startSlotcast({ settings: all, port, binary });
    this.nodes.push(node);
    return node;
  }

  /** The nodes by turns. */
  get next() {
    this.turn += 1;
    return this.nodes[this.turn % this.nodes.length];
  }

  /** Freezes a node. Gives a function that lets it continue. */
  freezeNode(node) {
    node.child.kill('SIGSTOP');
    return () => node.child.kill('SIGCONT');
  }

  /** Kills a node, like a power cut. */
  async killNode(node) {
    this.nodes = this.nodes.filter((one) => one !== node);
    for (const client of node.clients) client.close();
    await node.kill();
  }

  /** Asks a node to end, as a deployment does. It must end well. */
  async stopNode(node) {
    this.nodes = this.nodes.filter((one) => one !== node);
    await node.stop();
  }

  /** Waits until every node serves again, which it does without a restart. */
  async ready() {
    await Promise.all(this.nodes.map((node) => node.ready()));
  }

  /** Ends the nodes, then Redis. Each node must end well. */
  async stop() {
    const ends = await Promise.allSettled(this.nodes.map((node) => node.stop()));
    await this.redis.kill();
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed) throw failed.reason;
  }
}

/** The value of one metric of a node: `name{labels}` exactly as it is shown, 0 where it is not. */
export async function readMetric(node, name) {
  const text = await (await fetch(`http://127.0.0.1:${node.adminPort}/metrics`)).text();
  const line = text.split('\n').find((one) => one.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.slice(name.length + 1));
}

/** Waits until all nodes show the same board of a space, and returns it. */
export async function sameBoard(nodes, space, options = {}) {
  return eventually(async () => {
    const boards = await Promise.all(nodes.map((node) => node.board(space, options)));
    const texts = boards.map((board) => JSON.stringify(comparable(board)));
    return texts.every((text) => text === texts[0]) && boards[0];
  }, `the same board of ${space.room} on all nodes`);
}

/** A board without the fields that depend on the instant of the question. */
export const comparable = ({ slots, ...board }) => ({
  ...board,
  slots: slots.map(({ minutes_remaining: _, ...entry }) => entry),
});
