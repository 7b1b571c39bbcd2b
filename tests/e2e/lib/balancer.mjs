// A balancer as platforms have one. It asks the nodes now and then whether they are ready, and gives each connection to the
// next node that is. It notes when clients came, and when their connections were closed.

import { startTcpProxy } from './proxy.mjs';
import { sleep } from './waiting.mjs';

const ASK_EVERY_MS = 200;

/** `nodes` gives the nodes to ask, each with its `port` and `url`. */
export async function startBalancer(nodes) {
  const balancer = new Balancer(nodes);
  await balancer.askAll();
  balancer.proxy = await startTcpProxy(() => balancer.ports());
  balancer.url = balancer.proxy.url;
  balancer.proxy.look = (chunk, near, far) => balancer.note(chunk, near, far);
  balancer.asking = balancer.keepAsking();
  return balancer;
}

class Balancer {
  constructor(nodes) {
    this.nodes = nodes;
    this.ready = new Set();
    /** The time at which a node was found not to be ready, by port. */
    this.withdrawn = new Map();
    this.known = new WeakSet();
    /** Websockets of clients: `{port, openedAt, closedAt}`. */
    this.websockets = [];
  }

  ports() {
    const ready = this.nodes().map(({ port }) => port).filter((port) => this.ready.has(port));
    return ready.length > 0 ? ready : this.nodes().map(({ port }) => port);
  }

  /** The first bytes of a connection tell whether a client begins a session on it. */
  note(chunk, near, far) {
    if (this.known.has(near) || this.known.has(far)) return;
    this.known.add(near);
    if (!/^GET \/socket\.io\/\S*transport=websocket/.test(chunk.toString('latin1', 0, 200))) return;
    const websocket = { port: far.remotePort, openedAt: Date.now() };
    this.websockets.push(websocket);
    far.once('close', () => (websocket.closedAt = Date.now()));
  }

  async askAll() {
    await Promise.all(this.nodes().map((node) => this.#ask(node)));
  }

  async #ask({ url, port }) {
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
    if (answer?.status === 200) this.ready.add(port);
    else if (this.ready.delete(port)) this.withdrawn.set(port, { at: Date.now(), status: answer?.status });
  }

  async keepAsking() {
    while (!this.ended) {
      await this.askAll();
      await sleep(ASK_EVERY_MS);
    }
  }

  async close() {
    this.ended = true;
    await this.asking;
    this.proxy.close();
  }
}
