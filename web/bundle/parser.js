// In place of `socket.io-parser` in what a node serves: packets of text alone, since no node sends or takes binary ones.

import { Emitter } from '@socket.io/component-emitter';

export const protocol = 5;
export const PacketType = { CONNECT: 0, DISCONNECT: 1, EVENT: 2, ACK: 3, CONNECT_ERROR: 4, BINARY_EVENT: 5, BINARY_ACK: 6 };

/** A packet is a type, then optionally a namespace with a comma, the number of an acknowledgement, and JSON. */
const PACKET = /^([0-4])(?:(\/[^,]*),?)?(\d*)(.*)$/s;

export class Encoder {
  encode({ type, nsp, id, data }) {
    return [`${type}${nsp === '/' ? '' : `${nsp},`}${id ?? ''}${data == null ? '' : JSON.stringify(data)}`];
  }
}

export class Decoder extends Emitter {
  /** A text that is not a packet throws, so the manager closes the connection and makes a new one. */
  add(text) {
    const [, type, nsp = '/', id, json] = PACKET.exec(text);
    const data = json ? JSON.parse(json) : undefined;
    if ((type === '2' || type === '3') && !Array.isArray(data)) throw new Error(text);
    super.emitReserved('decoded', { type: +type, nsp, id: id ? +id : undefined, data });
  }

  destroy() {}
}
