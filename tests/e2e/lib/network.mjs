// A network of its own for clients that are to vanish: a namespace behind a link that can be cut, so that the node's
// kernel hears nothing, no FIN and no reset.

import { execFileSync, spawn } from 'node:child_process';

import { killAtExit } from './slotcast.mjs';

const ip = (...words) => execFileSync('ip', words, { stdio: ['ignore', 'pipe', 'pipe'] });

/** A new network, or `undefined` where this process may not make one. */
export function makeNetwork() {
  const tag = (process.pid % 65_536).toString(16);
  const network = new Network(`sc-${tag}`, `sc${tag}h`, `sc${tag}c`, process.pid % 250);
  try {
    network.make();
    return network;
  } catch {
    network.remove();
    return undefined;
  }
}

class Network {
  constructor(namespace, nearEnd, farEnd, number) {
    this.namespace = namespace;
    this.nearEnd = nearEnd;
    this.farEnd = farEnd;
    /** The node's address as its clients see it. From the block for tests between networks. */
    this.near = `198.18.${number}.1`;
    this.far = `198.18.${number}.2`;
    process.on('exit', () => this.remove());
  }

  make() {
    ip('netns', 'add', this.namespace);
    ip('link', 'add', this.nearEnd, 'type', 'veth', 'peer', 'name', this.farEnd, 'netns', this.namespace);
    ip('addr', 'add', `${this.near}/30`, 'dev', this.nearEnd);
    ip('link', 'set', this.nearEnd, 'up');
    ip('-n', this.namespace, 'addr', 'add', `${this.far}/30`, 'dev', this.farEnd);
    ip('-n', this.namespace, 'link', 'set', this.farEnd, 'up');
  }

  /** Starts a module of Node's inside, with a channel for messages. */
  fork(module, args) {
    const command = ['netns', 'exec', this.namespace, process.execPath, module, ...args];
    const child = spawn('ip', command, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    killAtExit(child);
    return child;
  }

  /** Cuts the link: from now on nothing passes in either direction. */
  cut() {
    ip('-n', this.namespace, 'link', 'set', this.farEnd, 'down');
  }

  remove() {
    for (const words of [
      ['link', 'del', this.nearEnd],
      ['netns', 'del', this.namespace],
    ]) {
      try {
        ip(...words);
      } catch {
        // The network was not made, or is gone.
      }
    }
  }
}
