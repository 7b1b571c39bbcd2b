// So many stock clients in one process, which tells when all of them are in their rooms, and is killed then.

import { io } from 'socket.io-client';

import { userToken } from './tokens.mjs';

const [url, transport] = process.argv.slice(2);
const [first, count, spaces] = process.argv.slice(4).map(Number);
let joined = 0;

for (let index = 0; index < count; index += 1) {
  const auth = { token: userToken(first + index) };
  const socket = io(url, { auth, forceNew: true, transports: [transport], reconnection: true, timeout: 60_000 });
  socket.on('connect', () => socket.emit('join_space', { spazioId: 1 + (index % spaces), sedeId: 1 }));
  socket.on('joined_space', () => {
    joined += 1;
    if (joined === count) process.send('joined');
  });
}
