// What a user would run instead of slotcast: a Socket.IO server on Node.js with the same events, the same check of tokens
// and the same HTTP call to change a slot, written as the documentation of Socket.IO and of its adapters shows. It keeps no
// state: a change is broadcast as it comes.
//
//   ADAPTER=pubsub|sharded|streams PORT=3000 REDIS_URL=redis://... JWT_SECRET=... node server.mjs

import { createServer } from 'node:http';

import { createAdapter, createShardedAdapter } from '@socket.io/redis-adapter';
import { createAdapter as createStreamsAdapter } from '@socket.io/redis-streams-adapter';
import jwt from 'jsonwebtoken';
import { createClient } from 'redis';
import { Server } from 'socket.io';

const { ADAPTER = 'pubsub', PORT = '3000', REDIS_URL, JWT_SECRET } = process.env;
const HOURS = Array.from({ length: 9 }, (_, index) => `${String(9 + index).padStart(2, '0')}:00`);

const ADAPTERS = {
  pubsub: async (client) => createAdapter(client, await connected(client.duplicate())),
  sharded: async (client) => createShardedAdapter(client, await connected(client.duplicate())),
  streams: async (client) => createStreamsAdapter(client),
};

async function connected(client) {
  client.on('error', (error) => console.error('redis:', error.message));
  await client.connect();
  return client;
}

/** The claims of a token. Throws if the token is not valid. */
const verify = (token) => jwt.verify(token, JWT_SECRET, { algorithms: ['HS256'] });

const roomOf = (spazioId, sedeId) => `spazio_${spazioId}_sede_${sedeId}`;

function checkToken(socket, next) {
  const { token } = socket.handshake.auth;
  if (!token) return next(new Error('Token di autenticazione richiesto'));
  try {
    socket.data.claims = verify(token);
    return next();
  } catch {
    return next(new Error('Token non valido'));
  }
}

function serveSocket(socket) {
  const { id_utente: userId, exp } = socket.data.claims;
  socket.on('join_space', ({ spazioId, sedeId }) => {
    const room = roomOf(spazioId, sedeId);
    socket.join(room);
    socket.emit('joined_space', { room, spazioId, sedeId, timestamp: new Date().toISOString() });
  });
  socket.on('leave_space', ({ spazioId, sedeId }) => {
    const room = roomOf(spazioId, sedeId);
    socket.leave(room);
    socket.emit('left_space', { room, spazioId, sedeId, timestamp: new Date().toISOString() });
  });
  socket.emit('connection_confirmed', {
    message: 'Connesso al sistema real-time',
    userId,
    timestamp: new Date().toISOString(),
    expiresAt: new Date(exp * 1000).toISOString(),
  });
}

let version = 0;

/** The payload that slotcast sends for the same change. */
function slotUpdate(slotId, { idSpazio, sedeId, date, status, data }) {
  version += 1;
  const orario = HOURS[slotId - 1];
  return {
    type: 'slot_update',
    slotId,
    status,
    data: { id: slotId, id_slot: slotId, spazioId: idSpazio, sedeId, date, orario, status, ...data },
    timestamp: new Date().toISOString(),
    epoch: '3f1f86f5a6f14c6e9d0f2a7b6c5d4e3f',
    version,
  };
}

async function readJson(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

/** `PUT /api/slots/{id}`: broadcasts the change. */
async function updateSlot(request, response, slotId) {
  verify((request.headers.authorization ?? '').replace(/^Bearer /, ''));
  const body = await readJson(request);
  const update = slotUpdate(slotId, body);
  io.to(roomOf(body.idSpazio, body.sedeId)).emit('slot_update', update);
  answer(response, 200, { success: true, data: { slotId, status: body.status, version: update.version } });
}

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

const server = createServer((request, response) => {
  const slot = /^\/api\/slots\/(\d+)$/.exec(request.url);
  if (request.method === 'PUT' && slot) {
    updateSlot(request, response, Number(slot[1])).catch((error) => answer(response, 400, { error: error.message }));
  } else if (request.url === '/readyz') {
    answer(response, 200, { sockets: io.engine.clientsCount });
  } else {
    answer(response, 404, { error: 'not found' });
  }
});

const client = await connected(createClient({ url: REDIS_URL }));
const io = new Server(server, { adapter: await ADAPTERS[ADAPTER](client) });
io.use(checkToken);
io.on('connection', serveSocket);
server.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 4096 });
