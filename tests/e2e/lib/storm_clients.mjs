// One process of the join storm: so many stock clients, each of a user of its own.

import { io } from 'socket.io-client';

import { userToken } from './tokens.mjs';

const [url, first, count, spaces] = [process.argv[2], ...process.argv.slice(3).map(Number)];

const tokens = Array.from({ length: count }, (_, index) => userToken(first + index + 1));
const troubles = [];
let joined = 0;
let updates = 0;

function connect(token, index) {
  const socket = io(url, {
    auth: { token },
    forceNew: true,
    reconnection: false,
    timeout: 300_000,
    transports: ['websocket'],
  });
  socket.on('connect', () => socket.emit('join_space', { spazioId: 1 + ((first + index) % spaces), sedeId: 1 }));
  socket.on('joined_space', () => {
    joined += 1;
    if (joined === count) tell('joined');
  });
  socket.on('slot_update', () => {
    updates += 1;
    if (updates === count) tell('heard');
  });
  socket.on('connect_error', (error) => trouble(`connect_error: ${error.message}`));
  socket.on('disconnect', (reason) => trouble(`disconnect: ${reason}`));
  socket.on('space_error', (error) => trouble(`space_error: ${error.code}`));
}

/** The first trouble ends the waiting: the test reports it. */
function trouble(what) {
  troubles.push(what);
  tell('joined');
  tell('heard');
}

const tell = (kind) => process.send({ kind, joined, updates, troubles: troubles.slice(0, 3) });

process.on('message', () => tokens.forEach(connect));
tell('prepared');
