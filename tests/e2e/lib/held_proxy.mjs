// A proxy in front of one node. It can hold back what the node sends, like a slow link or a sleeping client, and it can lose
// what it holds, like a network that breaks.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** Starts a proxy to a port of this machine, behind which a node may end and start again. */
export async function startHeldProxy(port) {
  const proxy = new HeldProxy(port);
  proxy.server.listen(0, '127.0.0.1');
  await once(proxy.server, 'listening');
  proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
  return proxy;
}

class HeldProxy {
  constructor(port) {
    this.port = port;
    this.isHeld = false;
    this.pairs = new Set();
    this.server = createServer((near) => this.#accept(near));
  }

  #accept(near) {
    const far = connect({ port: this.port, host: '127.0.0.1' });
    const pair = { near, far, held: [] };
    this.pairs.add(pair);
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on('error', () => {});
    }
    near.on('data', (chunk) => far.write(chunk));
    far.on('data', (chunk) => {
      if (!this.isHeld) near.write(chunk);
      // These bytes were on their way. The proxy now reads no more, so that the buffers of the node's kernel fill up.
      else pair.held.push(chunk) && far.pause();
    });
    near.once('close', () => far.destroy());
    far.once('close', () => {
      this.pairs.delete(pair);
      near.destroy();
    });
  }

  /** From now on the node's bytes do not arrive. */
  hold() {
    this.isHeld = true;
  }

  /** Lets the held bytes arrive, and all later ones. */
  release() {
    this.isHeld = false;
    for (const pair of this.pairs) {
      for (const chunk of pair.held.splice(0)) pair.near.write(chunk);
      pair.far.resume();
    }
  }

  /** Breaks every connection, and loses the held bytes. New connections work. */
  lose() {
    this.isHeld = false;
    for (const { near, far } of this.pairs) {
      near.destroy();
      far.destroy();
    }
  }

  close() {
    this.lose();
    this.server.close();
  }
}
