// One process of the join storm: so many stock clients, each of a user of its own.

import { io } from 'socket.io-client';

import { userToken } from './tokens.mjs';

const [url, first, count, spaces] = [process.argv[2], ...process.argv.slice(3).map(Number)];

const tokens = Array.from({ length: count }, (_, index) => userToken(first + index + 1));
const troubles = [];
const counts = { connected: 0, joined: 0, updates: 0, retries: 0 };

/** One client with the stock settings: what fails before it is connected, it tries again by itself. */
function connect(token, index) {
  const socket = io(url, { auth: { token }, forceNew: true, transports: ['websocket'] });
  socket.on('connect', () => {
    counts.connected += 1;
    socket.emit('join_space', { spazioId: 1 + ((first + index) % spaces), sedeId: 1 });
  });
  socket.on('joined_space', () => {
    counts.joined += 1;
    if (counts.joined === count) tell('joined');
  });
  socket.on('slot_update', () => {
    counts.updates += 1;
    if (counts.updates === count) tell('heard');
  });
  socket.on('connect_error', (error) => {
    if (!socket.active) trouble(`refused: ${error.message}`);
    counts.retries += 1;
  });
  socket.on('disconnect', (reason) => trouble(`disconnect: ${reason}`));
  socket.on('space_error', (error) => trouble(`space_error: ${error.code}`));
}

/** The first trouble ends the waiting: the test reports it. */
function trouble(what) {
  troubles.push(what);
  tell('joined');
  tell('heard');
}

const tell = (kind) => process.send({ kind, ...counts, troubles: troubles.slice(0, 3) });

process.on('message', () => tokens.forEach(connect));
tell('prepared');
