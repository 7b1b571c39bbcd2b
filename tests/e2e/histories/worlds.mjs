// What a history happens to: three nodes on one Redis, on a primary and a replica behind sentinels, or on a Cluster. Each
// node has a home: an address that clients keep while the node behind it is replaced.

import { startCluster } from '../lib/cluster.mjs';
import { range } from '../lib/fixtures.mjs';
import { startLinks } from '../lib/links.mjs';
import { startTcpProxy } from '../lib/proxy.mjs';
import { Dice, seeded } from '../lib/random.mjs';
import { startRedisCluster } from '../lib/redis_cluster.mjs';
import { startRedis, startSentinels } from '../lib/redis_server.mjs';

/** No limits for callers. Holds are swept soon, even if a node has missed their end. */
export const SETTINGS = {
  SLOTCAST_USER_RATE: '0',
  SLOTCAST_EVENT_RATE: '0',
  SLOT_MAX_HOLDS: '0',
  SLOT_MAX_HELD: '0',
  SLOTCAST_ANONYMOUS_RATE: '0',
  SLOT_TIMER_INTERVAL: '2000',
};

/** Starts a store of each kind, by its name. `options` are Redis's own. */
const STORES = {
  standalone: (options, environment) => startRedis({ options, environment }),
  sentinel: () => startSentinels(),
  cluster: () => startRedisCluster({ replicas: 1 }),
};

export class World {
  /**
   * Starts a store of the kind `on`, and three nodes. With `links` each node has wires to it that can fail. `redis` are
   * options of a standalone server, `environment` is what its process gets besides; `binaries` are other programs than the
   * one under test, by node.
   */
  static async start({ on, seed, links = false, redis = {}, environment = {}, settings = {}, binaries = [] }) {
    const world = new World();
    world.dice = new Dice(seeded(`${seed} world`));
    world.on = on;
    world.store = await STORES[on](redis, environment);
    try {
      await world.#startNodes({ links, settings, binaries });
    } catch (error) {
      await world.end();
      throw error;
    }
    return world;
  }

  async #startNodes({ links, settings, binaries }) {
    this.cluster = await startCluster({ nodes: 0, store: this.store, settings: { ...SETTINGS, ...settings } });
    this.links = links ? await Promise.all(range(1, 3).map(() => startLinks(this.ports(), this.dice.next))) : [];
    /** The node of each home; undefined while there is none. */
    this.homes = [];
    this.homes = await Promise.all(range(0, 2).map((index) => this.#startNode(index, undefined, binaries[index])));
    this.doors = await Promise.all(range(0, 2).map((index) => startTcpProxy(() => [this.homes[index]?.port ?? 1])));
  }

  /** The ports of all servers that nodes speak to. */
  ports() {
    const { sentinels = [], servers = [this.store] } = this.store;
    return [...servers, ...sentinels].map(({ port }) => port);
  }

  #startNode(index, port, binary) {
    const url = this.links[index]?.urlOf(this.store.url) ?? this.store.url;
    return this.cluster.addNode({ REDIS_URL: url }, port, binary);
  }

  /** The running nodes. */
  get nodes() {
    return this.homes.filter((node) => node !== undefined);
  }

  /** The address of a home. */
  door(index) {
    return this.doors[index].url;
  }

  /** Ends the node of a home as a power cut would. */
  async killNode(index) {
    const node = this.homes[index];
    this.homes[index] = undefined;
    await this.cluster.killNode(node);
  }

  /** Asks the node of a home to end, as a deployment does, and waits for its end. */
  async stopNode(index) {
    const node = this.homes[index];
    this.homes[index] = undefined;
    await this.cluster.stopNode(node);
  }

  /** Starts a node for a home. */
  async startNode(index, binary = undefined) {
    this.homes[index] = await this.#startNode(index, undefined, binary);
  }

  /** Replaces a node. The old one serves until the new one is there. */
  async replaceNode(index, binary = undefined) {
    const old = this.homes[index];
    this.homes[index] = await this.#startNode(index, undefined, binary);
    await this.cluster.stopNode(old);
  }

  /** The one Redis, or the server that is the primary of the sentinels. */
  async primary() {
    if (this.on === 'standalone') return this.store;
    return this.store.primary();
  }

  /** The key's server on a Cluster, else the primary. */
  async serverOf(key) {
    if (this.on !== 'cluster') return this.primary();
    return this.store.ownerOf(await this.store.slotOf(key));
  }

  /** All servers that hold keys as primaries. */
  async primaries() {
    if (this.on === 'cluster') return this.store.primaries();
    return [await this.primary()];
  }

  /** Ends everything; what ended badly is told as texts. */
  async end() {
    const problems = [];
    for (const door of this.doors ?? []) door.close();
    const ends = await Promise.allSettled((this.cluster?.nodes ?? []).map((node) => node.stop()));
    for (const { reason } of ends.filter(({ status }) => status === 'rejected')) problems.push(reason.message);
    for (const link of this.links ?? []) link.close();
    await this.store.kill().catch(() => {});
    return problems;
  }
}
