// A proxy for a node's websockets that delays, drops and repeats what the node sends, and cuts connections; by a seed.
// HTTP passes as it is.

import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

import { WebSocket, WebSocketServer } from 'ws';

/** How often each thing happens to a packet, 0 to 1. */
export interface Weather {
  readonly drop: number;
  readonly repeat: number;
  readonly delay: number;
  readonly cut: number;
}

const CALM: Weather = { drop: 0, repeat: 0, delay: 0, cut: 0 };

/** The longest delay of a packet, in ms. */
const DELAY_MS = 120;

/** What Socket.IO sends as an event or an answer; the packets of Engine.IO, and the connect, pass untouched. */
const EVENT = /^4[23]/;

/** A proxy in front of one port. */
export class Proxy {
  weather: Weather = CALM;
  /** Whether everything that a node sends vanishes, while the connection stays: a black hole. */
  isBlackHole = false;
  readonly counts = { dropped: 0, repeated: 0, delayed: 0, cut: 0 };
  url = '';
  readonly #port: () => number;
  readonly #server: Server;
  readonly #accept = new WebSocketServer({ noServer: true });
  readonly #pairs = new Set<readonly [WebSocket, WebSocket]>();
  #random: () => number;

  constructor(port: () => number, seed = 1) {
    this.#port = port;
    this.#random = generator(seed);
    this.#server = createServer((request, response) => this.#forward(request, response));
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
  }

  static async start(port: () => number, seed = 1): Promise<Proxy> {
    const proxy = new Proxy(port, seed);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.url = `http://127.0.0.1:${(proxy.#server.address() as AddressInfo).port}`;
    return proxy;
  }

  calm(): void {
    this.weather = CALM;
  }

  /** Breaks every connection. */
  cut(): void {
    for (const [near, far] of this.#pairs) {
      near.terminate();
      far.terminate();
    }
  }

  close(): void {
    this.cut();
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #forward(request: IncomingMessage, response: ServerResponse): void {
    const { method, url, headers } = request;
    const asked = httpRequest({ port: this.#port(), host: '127.0.0.1', method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    asked.on('error', () => response.destroy());
    request.pipe(asked);
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const far = new WebSocket(`ws://127.0.0.1:${this.#port()}${request.url}`);
    far.on('error', () => socket.destroy());
    far.on('open', () => {
      this.#accept.handleUpgrade(request, socket, head, (near) => this.#join(near, far));
    });
  }

  #join(near: WebSocket, far: WebSocket): void {
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      near.terminate();
      far.terminate();
    };
    for (const socket of pair) {
      socket.on('error', end);
      socket.on('close', end);
    }
    near.on('message', (data) => this.isBlackHole || far.send(String(data)));
    far.on('message', (data) => this.#deliver(near, String(data), end));
  }

  #deliver(near: WebSocket, packet: string, end: () => void): void {
    if (this.isBlackHole) return;
    if (!EVENT.test(packet)) return near.send(packet);
    const { drop, repeat, delay, cut } = this.weather;
    if (this.#random() < cut) {
      this.counts.cut += 1;
      return end();
    }
    if (this.#random() < drop) {
      this.counts.dropped += 1;
      return;
    }
    const send = () => near.readyState === WebSocket.OPEN && near.send(packet);
    if (this.#random() < delay) {
      this.counts.delayed += 1;
      setTimeout(send, this.#random() * DELAY_MS);
    } else send();
    if (this.#random() < repeat) {
      this.counts.repeated += 1;
      setTimeout(send, this.#random() * DELAY_MS);
    }
  }
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
