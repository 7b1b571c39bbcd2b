// What strangers cost Redis, and what somebody who can write to Redis learns of others.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { freshNumber, range } from './lib/fixtures.mjs';
import { POLLING, beginPolling } from './lib/raw_client.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startRedisWire } from './lib/redis_wire.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const post = (node, sid, body, headers = {}) => fetch(`${node.url}${POLLING}&sid=${sid}`, { method: 'POST', body, headers });

// Attacks 1 and 5: handshakes and invented sessions.
test('a handshake and an invented session ask Redis nothing', async () => {
  const redis = await startRedis();
  const wire = await startRedisWire(redis.port);
  const node = await startSlotcast({ settings: { REDIS_URL: wire.url } });
  try {
    const before = wire.commands.length;
    const sids = await Promise.all(range(1, 50).map(() => beginPolling(node.url)));
    for (const number of range(1, 50)) {
      const invented = [`${'A'.repeat(13)}${number + 100}`, sids[0].replace(/.$/, (last) => (last === '0' ? '1' : '0')), 'nobody'];
      for (const sid of invented) assert.equal((await post(node, sid, '3')).status, 400);
    }
    // An idle node runs scripts, counts subscribers, and pings. It sends none of these commands.
    const asked = wire.commands.slice(before).filter(([name]) => ['GET', 'SET', 'HGETALL'].includes(name.toUpperCase()));
    assert.deepEqual(asked, []);
    assert.equal((await post(node, sids[1], `40{"token":"${userToken(7)}"}`)).status, 200);
  } finally {
    await node.stop();
    wire.close();
    await redis.kill();
  }
});

// Attack 6: false addresses of nodes.
test('who can write to Redis is not sent what clients send to another node', async () => {
  const cluster = await startCluster({ nodes: 2 });
  const heard = [];
  const thief = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      heard.push({ url: request.url, headers: request.headers, body });
      response.setHeader('set-cookie', 'stolen=1').end('ok');
    });
  });
  await new Promise((resolve) => thief.listen(0, '127.0.0.1', resolve));
  after(async () => {
    thief.close();
    await cluster.stop();
  });
  const [home, other] = cluster.nodes;
  const token = userToken(freshNumber());
  const honest = await beginPolling(home.url);
  const headers = { authorization: `Bearer ${token}`, cookie: 'session=secret' };
  assert.equal((await post(other, honest, '40{}', headers)).status, 200, 'it is sent on to its node');
  const keys = await cluster.redis.ask('KEYS', '*:node:*');
  const addresses = await Promise.all([keys].flat().map(async (key) => [key, await cluster.redis.ask('HGET', key, 'address')]));
  const [key] = addresses.find(([, address]) => String(address).endsWith(`:${home.port}`));
  await cluster.redis.ask('HSET', key, 'address', `127.0.0.1:${thief.address().port}`);
  // Known addresses stay known for two seconds.
  const answers = async () => {
    const answer = await post(other, await beginPolling(home.url), `40{"token":"${token}"}`, headers);
    return [answer.status, answer.headers.get('set-cookie')];
  };
  let last;
  // 503 is no answer about the session: on a busy machine Redis was not asked in time.
  const isOther = async () => ![200, 503].includes((last = await answers())[0]) || heard.length > 0;
  await eventually(isOther, 'another answer');
  assert.deepEqual(heard, [], 'nothing reaches the thief');
  assert.deepEqual(last, [400, null], 'the session is over');
});
