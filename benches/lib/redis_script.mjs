// Measures the ceiling of acts: records an act's own script with its arguments on its way from a node to Redis, and then
// has `redis-benchmark` run it again and again.

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { promisify } from 'node:util';

import { startSlotcast } from '../../tests/e2e/lib/slotcast.mjs';
import { SETTINGS } from './systems.mjs';

const execute = promisify(execFile);

/** A deadline in the store's time that never comes. */
const NEVER = '99999999999999';

/**
 * The arguments of the EVALSHA that one call over HTTP causes: `act` is given the URL of a node of its own. The `marker` is
 * one of these arguments, by which the script is known among those that the node runs besides.
 */
export async function recordScript(redisPort, marker, act) {
  const recorder = await startRecorder(redisPort);
  const node = await startSlotcast({ settings: { ...SETTINGS, REDIS_URL: `redis://127.0.0.1:${recorder.port}` } });
  try {
    // One act runs first, because it reads and loads more than later ones.
    await act(node.url);
    recorder.forget();
    await act(node.url);
    return recordedScript(recorder.recordings(), marker);
  } finally {
    await node.kill();
    recorder.close();
  }
}

/** The act's EVALSHA among the commands of each connection, with a deadline that never comes. */
function recordedScript(recordings, marker) {
  const commands = recordings.flatMap(readCommands);
  const script = commands.find((command) => command[0] === 'EVALSHA' && command.includes(marker));
  if (!script) throw new Error('the node sent no EVALSHA for the act');
  // The name, the hash, the count of keys and the keys are followed by four arguments before the deadline.
  script[3 + Number(script[2]) + 4] = NEVER;
  return script;
}

/** The commands in the bytes of a client: arrays of bulk strings. */
function readCommands(bytes) {
  const commands = [];
  let at = 0;
  const readLine = () => {
    const end = bytes.indexOf('\r\n', at);
    const line = bytes.toString('utf8', at, end);
    at = end + 2;
    return line;
  };
  while (at < bytes.length && bytes[at] === 0x2a) {
    const count = Number(readLine().slice(1));
    commands.push(
      Array.from({ length: count }, () => {
        const length = Number(readLine().slice(1));
        const text = bytes.toString('utf8', at, at + length);
        at += length + 2;
        return text;
      }),
    );
  }
  return commands;
}

/** A proxy to Redis that keeps the bytes to Redis. */
async function startRecorder(redisPort) {
  const chunks = new Map();
  const sockets = new Set();
  const server = createServer((client) => {
    const upstream = connect(redisPort, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    client.on('data', (chunk) => chunks.set(client, [...(chunks.get(client) ?? []), chunk]));
    client.pipe(upstream);
    upstream.pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: server.address().port,
    /** The bytes of each connection since `forget`. */
    recordings: () => [...chunks.values()].map((parts) => Buffer.concat(parts)),
    forget: () => chunks.clear(),
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Runs of a script a second, by a number of clients with a number of commands under way each. */
export async function driveScript(redisPort, script, { clients, pipeline, runs }) {
  const options = ['-p', redisPort, '-c', clients, '-P', pipeline, '-n', runs, '--csv'].map(String);
  const { stdout } = await execute('redis-benchmark', [...options, ...script], { maxBuffer: 2 ** 24 });
  // The command comes first, perhaps with commas in it, then the rate and six latencies.
  const rate = Number(stdout.trim().split('\n').at(-1).split(',').at(-7).replaceAll('"', ''));
  if (!(rate > 0)) throw new Error(`no rate in what redis-benchmark said: ${stdout}`);
  return rate;
}
