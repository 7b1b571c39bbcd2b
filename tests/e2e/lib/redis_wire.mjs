// The wire between a node and a Redis that is far away: delays what passes, and notes each command that the node sends.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/** Starts a wire to the Redis on `port`, a round trip on which takes `roundTrip` ms longer. */
export async function startRedisWire(port, { roundTrip = 0 } = {}) {
  const wire = new RedisWire(port, roundTrip / 2);
  wire.server.listen(0, '127.0.0.1');
  await once(wire.server, 'listening');
  wire.url = `redis://127.0.0.1:${wire.server.address().port}`;
  return wire;
}

class RedisWire {
  constructor(port, delay) {
    this.port = port;
    this.delay = delay;
    /** The commands so far, each as its words. */
    this.commands = [];
    this.sockets = new Set();
    this.server = createServer((near) => this.#join(near));
  }

  #join(near) {
    const far = connect({ port: this.port, host: '127.0.0.1' });
    const reader = new CommandReader((words) => this.commands.push(words));
    for (const [from, to] of [[near, far], [far, near]]) {
      this.sockets.add(from);
      from.setNoDelay(true);
      from.on('error', () => {});
      from.on('data', (chunk) => {
        if (from === near) reader.read(chunk);
        // Timers of one length fire in the order in which they were set.
        setTimeout(() => to.writable && to.write(chunk), this.delay);
      });
      from.once('close', () => {
        this.sockets.delete(from);
        setTimeout(() => to.destroy(), this.delay);
      });
    }
  }

  /** The commands since a count of them that have a word like this. */
  since(count, pattern) {
    return this.commands.slice(count).filter((words) => words.some((word) => pattern.test(word)));
  }

  close() {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }
}

/** Reads commands as clients send them: arrays of bulk strings, or the words of one line. */
class CommandReader {
  constructor(found) {
    this.found = found;
    this.buffer = Buffer.alloc(0);
  }

  read(chunk) {
    this.buffer = Buffer.concat([this.buffer, chunk]);
    for (let words = this.#take(); words; words = this.#take()) this.found(words);
  }

  /** The next whole command; `undefined` until it is complete. */
  #take() {
    let at = 0;
    const line = () => {
      const end = this.buffer.indexOf('\r\n', at);
      if (end < 0) return undefined;
      const text = this.buffer.toString('utf8', at, end);
      at = end + 2;
      return text;
    };
    const head = line();
    if (head === undefined) return undefined;
    const words = head.startsWith('*') ? [] : head.split(' ');
    const count = head.startsWith('*') ? Number(head.slice(1)) : words.length;
    while (words.length < count) {
      const length = Number(line()?.slice(1));
      if (!(this.buffer.length >= at + length + 2)) return undefined;
      words.push(this.buffer.toString('utf8', at, at + length));
      at += length + 2;
    }
    this.buffer = this.buffer.subarray(at);
    return words;
  }
}
