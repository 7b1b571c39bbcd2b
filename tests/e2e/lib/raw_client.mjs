// A client that does what no stock client would: bytes on a TCP connection, and reading only when it is told to.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';

import { userToken } from './tokens.mjs';
import { eventually } from './waiting.mjs';

const WEBSOCKET = '/socket.io/?EIO=4&transport=websocket';
export const POLLING = '/socket.io/?EIO=4&transport=polling';

/** A request head, with the empty line. */
export const head = (method, path, headers = {}) =>
  [`${method} ${path} HTTP/1.1`, 'host: localhost', ...Object.entries(headers).map((pair) => pair.join(': ')), '', ''].join('\r\n');

/** A text frame, or one of another opcode, as a client sends it, masked. */
export function frame(text, { announce = Buffer.byteLength(text), opcode = 1 } = {}) {
  const payload = Buffer.from(text);
  const short = announce < 126;
  const start = Buffer.alloc(short ? 2 : announce < 65_536 ? 4 : 10);
  start[0] = 0x80 | opcode;
  start[1] = 0x80 | (short ? announce : announce < 65_536 ? 126 : 127);
  if (start.length === 4) start.writeUInt16BE(announce, 2);
  if (start.length === 10) start.writeBigUInt64BE(BigInt(announce), 2);
  const mask = randomBytes(4);
  return Buffer.concat([start, mask, payload.map((byte, index) => byte ^ mask[index % 4])]);
}

export class RawClient {
  constructor(port, host = '127.0.0.1') {
    this.received = '';
    this.openedAt = Date.now();
    this.socket = connect({ port, host, allowHalfOpen: true });
    this.socket.setNoDelay(true);
    this.socket.on('data', (chunk) => {
      this.received += chunk.toString('latin1');
      this.#answerPings(chunk);
    });
    this.socket.on('error', () => {});
    /** Resolves when the server has ended the connection, with how many ms that was after its beginning. */
    this.ended = new Promise((resolve) => {
      for (const event of ['end', 'close']) this.socket.once(event, () => resolve(Date.now() - this.openedAt));
    });
    this.ended.then(() => (this.hasEnded = true));
  }

  static async open(port, host) {
    const client = new RawClient(port, host);
    await once(client.socket, 'connect');
    return client;
  }

  write(data) {
    if (this.socket.writable) this.socket.write(data);
  }

  /** Waits until a text has come. */
  async sees(text, deadline) {
    const what = () => `${JSON.stringify(text)} in ${JSON.stringify(this.received.slice(-300))}`;
    await eventually(() => this.received.includes(text), what, deadline);
  }

  /** Becomes a websocket; its Engine.IO session has begun when this returns. */
  async upgrade({ sid = undefined } = {}) {
    this.write(
      head('GET', sid === undefined ? WEBSOCKET : `${WEBSOCKET}&sid=${sid}`, {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': 13,
        'sec-websocket-key': randomBytes(16).toString('base64'),
      }),
    );
    await this.sees(sid === undefined ? '"sid"' : '101 Switching Protocols');
    return this;
  }

  /** Connects as a user on an upgraded connection, and joins a space. */
  async join(user, space) {
    this.write(frame(`40{"token":"${userToken(user)}"}`));
    await this.sees('connection_confirmed');
    this.write(frame(`42${JSON.stringify(['join_space', space.event()])}`));
    await this.sees('joined_space');
    await this.sees('slots_status_update');
    return this;
  }

  /** Answers the server's pings from now on. */
  pongs() {
    this.hasPongs = true;
    // The first ping comes when the session begins.
    this.write(frame('3'));
    return this;
  }

  /** A ping is a text frame of one byte, `2`. */
  #answerPings(chunk) {
    if (this.hasPongs && chunk.includes(Buffer.from([0x81, 0x01, 0x32]))) this.write(frame('3'));
  }

  /** Sends a byte each second until the connection is gone. */
  dribble(text) {
    let sent = 0;
    const timer = setInterval(() => {
      if (sent >= text.length || this.socket.destroyed || !this.socket.writable) clearInterval(timer);
      else this.write(text[sent]);
      sent += 1;
    }, 1_000);
    this.ended.then(() => clearInterval(timer));
    return this;
  }

  close() {
    this.socket.destroy();
  }
}

/** A polling session that has begun: its id. */
export async function beginPolling(url) {
  const packet = await (await fetch(url + POLLING)).text();
  return JSON.parse(packet.slice(1)).sid;
}
