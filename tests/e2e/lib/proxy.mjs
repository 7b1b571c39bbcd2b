// Proxies as they stand in front of nodes, or between a node and Redis: without stickiness, and able to fail.

import { once } from 'node:events';
import { Agent, createServer as createHttpServer, request as httpRequest } from 'node:http';
import { connect, createServer } from 'node:net';
import { pipeline } from 'node:stream';

const listen = async (server) => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server.address().port;
};

/** Each connection goes to the next port of `ports()` that accepts it. */
export async function startTcpProxy(ports) {
  const proxy = new TcpProxy(ports);
  proxy.port = await listen(proxy.server);
  proxy.url = `http://127.0.0.1:${proxy.port}`;
  return proxy;
}

class TcpProxy {
  constructor(ports) {
    this.ports = ports;
    this.turn = 0;
    /** The bytes that were dropped on connections that a test has marked `lost`. */
    this.dropped = 0;
    /** How many ms each byte is delayed, in each direction. */
    this.delay = 0;
    this.sockets = new Set();
    this.server = createServer((near) => this.#accept(near));
  }

  #accept(near) {
    this.#keep(near);
    // Bytes that come before the other side is connected wait in the socket.
    near.pause();
    this.#tryNext(near, this.ports().length);
  }

  #tryNext(near, triesLeft) {
    const ports = this.ports();
    this.turn += 1;
    const far = connect({ port: ports[this.turn % ports.length], host: '127.0.0.1' });
    far.once('connect', () => {
      this.#keep(far);
      this.#join(near, far);
    });
    far.once('error', () => {
      if (far.connecting || !this.sockets.has(far)) triesLeft > 1 ? this.#tryNext(near, triesLeft - 1) : near.destroy();
    });
  }

  #join(near, far) {
    const pass = (from, to) => {
      from.on('data', (chunk) => {
        if (from.lost || to.lost) {
          this.dropped += 1;
          return;
        }
        this.look?.(chunk, near, far);
        this.#later(() => to.write(chunk));
      });
      // An end is delayed like the bytes before it.
      from.once('close', () => !from.lost && this.#later(() => to.destroy()));
    };
    pass(near, far);
    pass(far, near);
    near.resume();
  }

  #later(pass) {
    if (this.delay > 0) setTimeout(pass, this.delay);
    else pass();
  }

  #keep(socket) {
    this.sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.once('close', () => this.sockets.delete(socket));
  }

  close() {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
  }
}

/** Each request goes to the next of `ports()`, whatever connection it came by; so does each upgrade. */
export async function startHttpProxy(ports) {
  const proxy = new HttpProxy(ports);
  proxy.port = await listen(proxy.server);
  proxy.url = `http://127.0.0.1:${proxy.port}`;
  return proxy;
}

class HttpProxy {
  constructor(ports) {
    this.ports = ports;
    this.turn = 0;
    /** How many requests each port got. */
    this.counts = new Map();
    /** The Engine.IO sessions that had a request answered with 503; `null` for a handshake, which has no session. */
    this.refused = new Set();
    this.agent = new Agent({ keepAlive: true });
    this.sockets = new Set();
    this.server = createHttpServer((request, response) => this.#forward(request, response));
    this.server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
  }

  #next() {
    const ports = this.ports();
    this.turn += 1;
    const port = ports[this.turn % ports.length];
    this.counts.set(port, (this.counts.get(port) ?? 0) + 1);
    return port;
  }

  #ask({ method, url, headers }, more = {}) {
    return httpRequest({ host: '127.0.0.1', port: this.#next(), method, path: url, headers, ...more });
  }

  #note({ url }, { statusCode }) {
    if (statusCode === 503) this.refused.add(new URL(url, this.url).searchParams.get('sid'));
  }

  #forward(request, response) {
    const asked = this.#ask(request, { agent: this.agent });
    asked.on('response', (answer) => {
      this.#note(request, answer);
      response.writeHead(answer.statusCode, answer.headers);
      // If a node ends its connection within an answer, the proxy ends the client's, as every proxy does.
      pipeline(answer, response, () => {});
    });
    asked.on('error', () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    response.on('close', () => !response.writableFinished && asked.destroy());
    request.pipe(asked);
  }

  #upgrade(request, near, head) {
    const asked = this.#ask(request);
    near.on('error', () => asked.destroy());
    asked.on('upgrade', (answer, far, farHead) => {
      for (const socket of [near, far]) {
        this.sockets.add(socket);
        socket.on('error', () => {});
        socket.once('close', () => this.sockets.delete(socket));
      }
      near.write(headOf(answer));
      near.write(farHead);
      far.write(head);
      // A reset of one side also ends the other. Otherwise a client would wait for a node that is gone.
      pipeline(near, far, near, () => [near, far].forEach((socket) => socket.destroy()));
    });
    asked.on('response', (answer) => {
      this.#note(request, answer);
      near.end(headOf(answer));
    });
    asked.on('error', () => near.destroy());
    asked.end();
  }

  close() {
    for (const socket of this.sockets) socket.destroy();
    this.agent.destroy();
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** An answer's head as it stands on the wire. */
function headOf({ statusCode, statusMessage, rawHeaders }) {
  const lines = [`HTTP/1.1 ${statusCode} ${statusMessage}`];
  for (let index = 0; index < rawHeaders.length; index += 2) lines.push(`${rawHeaders[index]}: ${rawHeaders[index + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}
