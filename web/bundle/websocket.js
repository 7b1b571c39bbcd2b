// In place of engine.io-client's websocket: the same for browsers alone, and with an error that is heard.

import { encodePacket } from 'engine.io-parser';

import { Transport } from '../transport.js';

export class WS extends Transport {
  get name() {
    return 'websocket';
  }

  doOpen() {
    try {
      this.ws = new WebSocket(this.uri());
    } catch (error) {
      // Safari 15 throws where `'self'` of a policy does not cover `wss:`. Nobody listens to a transport before the next turn,
      // and then polling is tried.
      queueMicrotask(() => this.emitReserved('error', error));
      return;
    }
    this.ws.onopen = () => this.onOpen();
    this.ws.onclose = (context) => this.onClose({ description: 'websocket connection closed', context });
    this.ws.onmessage = ({ data }) => this.onData(data);
    this.ws.onerror = (error) => this.onError('websocket error', error);
  }

  write(packets) {
    this.writable = false;
    for (const packet of packets) encodePacket(packet, true, (text) => this.ws.send(text));
    queueMicrotask(() => {
      this.writable = true;
      this.emitReserved('drain');
    });
  }

  doClose() {
    if (!this.ws) return;
    this.ws.onerror = null;
    this.ws.close();
    this.ws = null;
  }

  uri() {
    return this.createUri(this.opts.secure ? 'wss' : 'ws', this.query ?? {});
  }
}
