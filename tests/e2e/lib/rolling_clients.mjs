// One process of stock clients that follow spaces through whatever happens to their nodes: each joins again with what it
// has, and notes as a fault what the contract says cannot happen.
//
// Started with the proxy's URL, the number of the first user, how many, and the spaces' numbers and day as JSON.

import { io } from 'socket.io-client';

import { userToken } from './tokens.mjs';

const [url, first, count] = [process.argv[2], ...process.argv.slice(3, 5).map(Number)];
const { spaces, date } = JSON.parse(process.argv[5]);

/** One client in this many connects as the stock client does by default: by polling at first. */
const POLLING_SHARE = 10;

/** How many are on their way at once at the beginning: how they all arrive is not what is looked at here. */
const AT_ONCE = 50;

const clients = [];
const faults = [];
const told = { joins: 0, reconnections: 0, snapshots: 0, replays: 0, updates: 0, refusals: {} };

class RollingClient {
  constructor(index) {
    this.space = spaces[(first + index) % spaces.length];
    this.name = `user ${first + index}`;
    const transports = index % POLLING_SHARE === 0 ? ['polling', 'websocket'] : ['websocket'];
    const socket = io(url, { auth: { token: userToken(first + index) }, forceNew: true, transports });
    this.socket = socket;
    socket.on('connect', () => this.#join());
    socket.on('joined_space', ({ epoch, version }) => {
      told.joins += 1;
      if (this.position === undefined) {
        this.position = { epoch, version };
        connectNext();
      } else {
        told.reconnections += 1;
      }
      this.isIn = true;
    });
    socket.on('slots_status_update', ({ epoch, version }) => {
      told.snapshots += 1;
      if (epoch === this.position?.epoch && version < this.position.version) this.#fault('an old snapshot', { epoch, version });
      this.position = { epoch, version };
    });
    socket.on('slot_update', ({ epoch, version }) => {
      told.updates += 1;
      const follows = epoch === this.position?.epoch && version === this.position.version + 1;
      if (!follows) this.#fault('not the next version', { epoch, version });
      this.position = { epoch, version };
    });
    socket.on('connect_error', ({ message, description }) => {
      const what = `${message} ${description?.message ?? description ?? ''}`.trim();
      told.refusals[what] = (told.refusals[what] ?? 0) + 1;
      if (!socket.active) this.#fault(`gave up: ${message}`);
    });
    socket.on('disconnect', (reason) => {
      this.isIn = false;
      if (!socket.active) this.#fault(`will not come back: ${reason}`);
    });
  }

  #join() {
    const since = this.position && { since: this.position };
    const connection = this.socket.id;
    this.socket.emit('join_space', { spazioId: this.space, sedeId: 1, date, ...since }, ({ ok, error }) => {
      if (ok) return;
      if (error.code !== 'unavailable') this.#fault(`join refused: ${error.code}`);
      setTimeout(() => this.socket.id === connection && this.#join(), 200);
    });
  }

  #fault(what, at = {}) {
    if (faults.length < 20) faults.push(`${this.name}: ${what}: ${JSON.stringify(at)} after ${JSON.stringify(this.position)}`);
  }
}

function connectNext() {
  if (clients.length < count) clients.push(new RollingClient(clients.length));
}

for (let index = 0; index < AT_ONCE; index += 1) connectNext();

process.on('message', ({ positions }) => {
  const isAt = ({ space, position, isIn }) => {
    const wanted = positions?.[space];
    return isIn && position !== undefined && (!wanted || (wanted.epoch === position.epoch && wanted.version === position.version));
  };
  process.send({ ...told, faults, there: clients.filter(isAt).length });
});
