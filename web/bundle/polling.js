// In place of engine.io-client's polling by XMLHttpRequest: the same with `fetch`, cookies included, since a balancer may
// need them to find the node.

import { Polling } from './polling.js';

export class XHR extends Polling {
  doPoll() {
    this.#send('GET').then((text) => this.onData(text), (error) => this.onError('poll error', error));
  }

  doWrite(body, done) {
    this.#send('POST', body).then(done, (error) => this.onError('post error', error));
  }

  async #send(method, body) {
    const response = await fetch(this.uri(), { method, body, credentials: this.opts.withCredentials ? 'include' : 'same-origin' });
    if (!response.ok) throw response.status;
    return response.text();
  }
}
