// The limits of holds, acts, events, rooms, bodies and seconds.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, test } from 'node:test';

import { freshNumber, freshSpace, range } from './lib/fixtures.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually, sleep, within } from './lib/waiting.mjs';

const slotcast = await startSlotcast({ settings: { SLOT_HOLD_DURATION: '1', SLOT_HOLD_MAX: '1' } });
after(() => slotcast.stop());

const staff = slotcast.staffCaller();

/** The answers counted by status and code. */
function tally(answers) {
  const counts = {};
  for (const { status, body } of answers) {
    const name = body.code ?? status;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

test('a user has at most twelve live holds in one space', async () => {
  const space = freshSpace();
  await staff.put(space.path, { opens: '00:00', closes: '24:00', slotMinutes: 30 });
  const user = slotcast.userCaller(freshNumber());
  const hold = (slot) => user.post(`/api/slots/${slot}/hold`, space.body());
  const answers = [];
  for (const slot of range(1, 13)) answers.push(await hold(slot));
  assert.deepEqual(answers.map((answer) => answer.status), [...Array(12).fill(200), 429]);
  assert.equal(answers[12].body.code, 'too_many_holds');
  const elsewhere = freshSpace();
  assert.equal((await user.post('/api/slots/1/hold', elsewhere.body())).status, 200, 'another space is another count');
  assert.equal((await user.post('/api/slots/1/release', space.body())).status, 200);
  assert.equal((await hold(13)).status, 200, 'a released hold counts no more');
});

test('a user who acts too fast is rate_limited, and served again a moment later', async () => {
  const space = freshSpace();
  const user = slotcast.userCaller(freshNumber());
  const began = performance.now();
  const answers = await Promise.all(range(1, 400).map(() => user.post('/api/slots/1/release', space.body())));
  const seconds = (performance.now() - began) / 1_000;
  const { not_held: allowed, rate_limited: limited, unavailable = 0, ...others } = tally(answers);
  const told = JSON.stringify({ allowed, limited, unavailable, others, seconds });
  // An act that a busy machine does not do in time was allowed, too.
  assert.ok(allowed + unavailable >= 40, told);
  assert.ok(allowed + unavailable <= 40 + 20 * seconds + 1, told);
  assert.equal(allowed + unavailable + limited, 400, told);
  assert.equal(answers.find(({ body }) => body.code === 'rate_limited').status, 429);
  await eventually(async () => (await user.post('/api/slots/1/hold', space.body())).status === 200, 'served again');
});

test('another user is served while one is rate_limited, and staff always', async () => {
  const space = freshSpace();
  const fast = slotcast.userCaller(freshNumber());
  const flood = Promise.all(range(1, 100).map(() => fast.post('/api/slots/1/release', space.body())));
  assert.equal((await slotcast.userCaller(freshNumber()).post('/api/slots/2/hold', space.body())).status, 200);
  const updates = await Promise.all(range(1, 100).map(() => staff.settled.put('/api/slots/3', space.body({ status: 'blocked' }))));
  assert.deepEqual(tally(updates), { 200: 100 });
  await flood;
});

test('a hold lasts what SLOT_HOLD_DURATION says, and no longer', async () => {
  const space = freshSpace();
  const user = slotcast.userCaller(freshNumber());
  const before = Date.now();
  const held = await user.post('/api/slots/1/hold', space.body());
  const lasts = Date.parse(held.data.heldUntil) - before;
  assert.ok(lasts >= 59_999 && lasts < 90_000, `${lasts} ms`);
  assert.equal((await user.post('/api/slots/2/hold', space.body({ holdSeconds: 60 }))).status, 200);
  const refused = await user.post('/api/slots/3/hold', space.body({ holdSeconds: 61 }));
  assert.equal(refused.status, 422, refused.text);
  assert.equal(refused.body.code, 'bad_hold_seconds');
});

test('an extension past SLOT_HOLD_MAX is hold_limit, and a shorter one is not', async () => {
  const space = freshSpace();
  const user = slotcast.userCaller(freshNumber());
  const held = await user.post('/api/slots/1/hold', space.body({ holdSeconds: 60 }));
  await sleep(1_100);
  const refused = await user.post('/api/slots/1/extend', space.body({ holdSeconds: 60 }));
  assert.equal(refused.status, 409, refused.text);
  assert.equal(refused.body.code, 'hold_limit');
  assert.equal((await slotcast.entry(space, 1)).held_until, held.data.heldUntil, 'a refused act changes nothing');
  const shorter = await user.post('/api/slots/1/extend', space.body({ holdSeconds: 20 }));
  assert.equal(shorter.status, 200, shorter.text);
  assert.ok(shorter.data.heldUntil < held.data.heldUntil, 'extend sets the end, also to an earlier one');
});

test('ten thousand joins from one socket: 256 rooms, every other refused, all answered', async () => {
  const client = await slotcast.user(freshNumber());
  const first = freshNumber() * 100_000;
  const answers = await within(
    Promise.all(
      range(1, 10_000).map(
        (index) =>
          new Promise((resolve) => {
            client.socket.emit('join_space', { spazioId: first + index, sedeId: 1 }, resolve);
          }),
      ),
    ),
    'ten thousand acknowledgements',
    120_000,
  );
  const joined = answers.filter((answer) => answer.ok).length;
  assert.equal(joined, 256);
  const codes = new Set(answers.filter((answer) => !answer.ok).map((answer) => answer.error.code));
  assert.ok([...codes].every((code) => ['too_many_rooms', 'rate_limited', 'unavailable'].includes(code)), [...codes].join());
  assert.equal(client.disconnects.length, 0);
  assert.equal((await slotcast.user(freshNumber())).socket.connected, true);
});

test('a left room makes place for another', async () => {
  const own = await startSlotcast({ settings: { SLOTCAST_MAX_ROOMS: '2' } });
  try {
    const client = await own.user(7);
    const [a, b, c] = [freshSpace(), freshSpace(), freshSpace()];
    const join = (space) => client.callUntilSettled('join_space', { spazioId: space.number, sedeId: 1 });
    assert.equal((await join(a)).ok, true);
    assert.equal((await join(b)).ok, true);
    assert.equal((await join(c)).error.code, 'too_many_rooms');
    assert.equal((await join(a)).ok, true, 'a room that is joined already takes no place');
    client.emit('leave_space', { spazioId: a.number, sedeId: 1 });
    await client.first('left_space');
    assert.equal((await join(c)).ok, true);
  } finally {
    await own.stop();
  }
});

test('a body over 64 KiB is too_large', async () => {
  const space = freshSpace();
  const answer = await staff.put('/api/slots/1', space.body({ status: 'blocked', data: { a: 'x'.repeat(70_000) } }));
  assert.equal(answer.status, 413, answer.text);
  assert.equal(answer.body.success, false);
  assert.equal(answer.body.code, 'too_large');
  assert.equal((await slotcast.entry(space, 1)).status, 'available');
});

test('data over 16 KiB is too_large, and at most that is kept', async () => {
  const space = freshSpace();
  const put = (length) => staff.put('/api/slots/1', space.body({ status: 'blocked', data: { a: 'x'.repeat(length) } }));
  const refused = await put(17 * 1024);
  assert.equal(refused.status, 413, refused.text);
  assert.equal(refused.body.code, 'too_large');
  assert.equal((await put(15 * 1024)).status, 200);
  assert.equal((await slotcast.entry(space, 1)).a.length, 15 * 1024);
});

for (const framing of ['content-length', 'chunked']) {
  test(`a client that is still sending ${framing} can read the 413`, async () => {
    const length = 4 * 1024 * 1024;
    const isChunked = framing === 'chunked';
    const socket = connect(slotcast.port, '127.0.0.1');
    let answer = '';
    const answered = new Promise((resolve, reject) => {
      socket.on('data', (chunk) => {
        answer += chunk;
        if (/\r\n\r\n\{[^]*\}/.test(answer)) resolve();
      });
      socket.on('error', (error) => reject(new Error(`${error.message} before the answer was there: ${answer}`)));
      socket.on('close', () => resolve());
    });
    socket.write(
      'POST /api/slots/1/hold HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n' +
        `Authorization: Bearer ${userToken(freshNumber())}\r\n` +
        (isChunked ? 'Transfer-Encoding: chunked\r\n\r\n' : `Content-Length: ${length}\r\n\r\n`),
    );
    const piece = 'x'.repeat(8 * 1024);
    const chunk = isChunked ? `${piece.length.toString(16)}\r\n${piece}\r\n` : piece;
    let stillSending = true;
    const sending = (async () => {
      for (let sent = 0; sent < length && stillSending && !socket.destroyed; sent += piece.length) {
        if (!socket.write(chunk)) {
          await Promise.race([new Promise((resolve) => socket.once('drain', resolve)), answered, sleep(1_000)]);
        }
      }
    })();
    await within(answered, 'the 413');
    stillSending = false;
    await sending;
    socket.destroy();
    assert.match(answer, /^HTTP\/1\.1 413 /);
    assert.equal(JSON.parse(answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1)).code, 'too_large');
  });
}

test('an event over the limit ends its own socket at most', async () => {
  const [large, other] = [await slotcast.user(freshNumber()), await slotcast.user(freshNumber())];
  large.emit('join_space', { spazioId: 1, sedeId: 1, padding: 'x'.repeat(8 * 1024 * 1024) });
  await eventually(() => large.disconnects.length > 0 || large.all('space_error').length > 0, 'a refusal');
  assert.equal((await other.call('join_space', { spazioId: freshNumber(), sedeId: 1 })).ok, true);
});
