// The wires between one node and the servers that it stands on, each able to fail in the ways in which networks do:
// `delay`, `throttle`, `halve`, `drop`, `hold`, `swallow`, `cut`; `heal` ends it.
//
// Where the servers name each other to the node (Sentinel, Cluster), the node is told its own wires instead: all ports have
// five digits, so that one port takes the place of another without a change of length.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

import { freePort } from './ports.mjs';

/** The most bytes that the node gets of a connection before `halve` ends it in the middle of a frame. */
const HALVED_BYTES = 600;

/** Starts the wires of one node to the servers on these ports. `random` is a source of numbers as `Math.random` is. */
export async function startLinks(ports, random = Math.random) {
  const links = new Links(ports, random);
  for (const port of ports) await links.add(port);
  return links;
}

class Links {
  constructor(ports, random) {
    this.random = random;
    this.wires = [];
    this.mode = { name: 'pass' };
    /** Whether servers name each other, so that the wire has to read what they say. */
    this.isRewriting = ports.length > 1;
  }

  async add(port) {
    const wire = new Wire(this, port, await freePort());
    this.wires.push(wire);
    wire.server.listen(wire.near, '127.0.0.1');
    await once(wire.server, 'listening');
  }

  /** The address of a server's wire, by the server's port. */
  portOf(port) {
    return this.wires.find(({ far }) => far === port).near;
  }

  /** A REDIS_URL with the wires in the place of the servers. */
  urlOf(url) {
    return this.wires.reduce((text, { far, near }) => replacePort(text, far, near), url);
  }

  /** What a server says, with the wires in the place of the servers. */
  rewrite(chunk) {
    const text = chunk.toString('latin1');
    if (!this.wires.some(({ far }) => text.includes(String(far)))) return chunk;
    return Buffer.from(this.urlOf(text), 'latin1');
  }

  /** From now on each chunk takes `milliseconds` longer in each direction. */
  delay(milliseconds) {
    this.#begin({ name: 'delay', milliseconds });
  }

  /** From now on at most this many bytes a second pass, in each direction of each connection. */
  throttle(bytesPerSecond) {
    this.#begin({ name: 'throttle', bytesPerSecond });
  }

  /** From now on each connection ends in the middle of an answer. */
  halve() {
    this.#begin({ name: 'halve' });
  }

  /** From now on nothing passes, either way, and nobody is told; what was sent is lost. */
  drop() {
    this.#begin({ name: 'drop' });
  }

  /** From now on nothing passes, until `heal` lets all of it pass. */
  hold() {
    this.#begin({ name: 'hold' });
  }

  /** From now on commands pass, and their answers are lost. */
  swallow() {
    this.#begin({ name: 'swallow' });
  }

  /** Ends all connections at once; new ones are refused until `heal`. */
  cut() {
    this.#begin({ name: 'cut' });
    for (const pipe of this.#pipes()) pipe.end();
  }

  #begin(mode) {
    this.mode = mode;
    for (const pipe of this.#pipes()) pipe.limit = undefined;
  }

  /** Lets everything pass again. A connection on which something was lost stays silent for ever, as a half-open one does. */
  heal() {
    this.#begin({ name: 'pass' });
    for (const pipe of this.#pipes()) pipe.release();
  }

  #pipes() {
    return this.wires.flatMap(({ pipes }) => [...pipes]);
  }

  close() {
    for (const pipe of this.#pipes()) pipe.end();
    for (const { server } of this.wires) server.close();
  }
}

/** A port as a number of its own in a text. */
const replacePort = (text, from, to) => text.replace(new RegExp(`(?<!\\d)${from}(?!\\d)`, 'g'), String(to));

/** Where the node connects to instead of one server. */
class Wire {
  constructor(links, far, near) {
    Object.assign(this, { links, far, near, pipes: new Set() });
    this.server = createServer((socket) => this.#accept(socket));
  }

  #accept(near) {
    if (this.links.mode.name === 'cut') {
      near.on('error', () => {});
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port: this.far, host: '127.0.0.1' });
    const pipe = new Pipe(this.links, near, far);
    this.pipes.add(pipe);
    near.once('close', () => this.pipes.delete(pipe));
  }
}

/** One connection. */
class Pipe {
  constructor(links, near, far) {
    Object.assign(this, { links, near, far, waiting: [], isPoisoned: false, tail: Buffer.alloc(0) });
    /** When the chunk before is to go on, in ms: no chunk overtakes another. */
    this.free = new Map([[near, 0], [far, 0]]);
    /** The chunks on their way, by their origin: each timer that fires sends the first of them. */
    this.queues = new Map([[near, []], [far, []]]);
    for (const [from, to] of [[near, far], [far, near]]) {
      from.setNoDelay(true);
      from.on('error', () => {});
      from.on('data', (chunk) => this.#pass(from, to, chunk));
      from.once('close', () => this.#closed(from, to));
    }
  }

  #closed(from, to) {
    // Over a wire that carries nothing, only the side that ended a connection knows of its end.
    const isSilent = this.isPoisoned || ['drop', 'hold', 'swallow'].includes(this.links.mode.name);
    if (from === this.far && isSilent) return;
    // What is on its way arrives before the end.
    setTimeout(() => to.destroy(), Math.max(0, this.free.get(from) - Date.now()));
  }

  #pass(from, to, chunk) {
    const { mode } = this.links;
    if (this.isPoisoned) return;
    if (mode.name === 'drop' || (mode.name === 'swallow' && from === this.far)) {
      this.isPoisoned = true;
      return;
    }
    if (mode.name === 'hold') {
      this.waiting.push({ from, to, chunk });
      return;
    }
    if (mode.name === 'halve' && from === this.far) {
      this.#halve(to, chunk);
      return;
    }
    this.#send(from, to, chunk);
  }

  #halve(to, chunk) {
    this.limit ??= 1 + Math.floor(this.links.random() * HALVED_BYTES);
    const part = this.#read(chunk).subarray(0, this.limit);
    this.limit -= part.length;
    to.write(part, () => this.limit <= 0 && this.end());
  }

  #send(from, to, chunk) {
    const read = from === this.far ? this.#read(chunk) : chunk;
    if (read.length === 0) return;
    const { milliseconds = 0, bytesPerSecond } = this.links.mode;
    const lasts = bytesPerSecond === undefined ? 0 : (read.length * 1_000) / bytesPerSecond;
    const at = Math.max(Date.now() + milliseconds, this.free.get(from)) + lasts;
    this.free.set(from, at);
    const queue = this.queues.get(from);
    const wait = at - Date.now();
    if (wait <= 0 && queue.length === 0) {
      to.write(read);
      return;
    }
    queue.push(read);
    // Backpressure: a sender to a slow wire is slowed down.
    if (bytesPerSecond !== undefined) from.pause();
    setTimeout(() => {
      const first = queue.shift();
      if (to.writable) to.write(first);
      from.resume();
    }, wait);
  }

  /** What a server says as the node is told it: whole lines, so that no port is looked for in two halves. */
  #read(chunk) {
    if (!this.links.isRewriting) return chunk;
    const all = Buffer.concat([this.tail, chunk]);
    const end = all.lastIndexOf('\n') + 1;
    this.tail = all.subarray(end);
    return this.links.rewrite(all.subarray(0, end));
  }

  release() {
    for (const { from, to, chunk } of this.waiting.splice(0)) this.#send(from, to, chunk);
    if (!this.isPoisoned && this.far.destroyed) this.near.destroy();
  }

  end() {
    this.near.destroy();
    this.far.destroy();
  }
}
