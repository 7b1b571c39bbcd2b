// Every answer of a load on three nodes, checked against the contract's rules: it must fit some order of the acts.
//
// SLOTCAST_CLUSTER_ACTS says how many acts (2,000).

import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { startCluster } from './lib/cluster.mjs';
import { day, freshNumber, freshSpace, range, versions } from './lib/fixtures.mjs';
import { Load } from './lib/load.mjs';
import { checkHistory, decide } from './lib/model.mjs';
import { userToken } from './lib/tokens.mjs';
import { DEADLINE_MS, eventually, sleep } from './lib/waiting.mjs';

const ACTS = Number(process.env.SLOTCAST_CLUSTER_ACTS ?? 2_000);

const settings = { SLOTCAST_USER_RATE: '0', SLOTCAST_EVENT_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0' };
const cluster = await startCluster({ settings });
after(() => cluster.stop());

/** The records of a load that runs during `meanwhile`, and until it has done at least `acts` acts. */
async function recordsWhile(load, acts, meanwhile) {
  load.start();
  try {
    await meanwhile(load);
    await eventually(() => load.records.length >= acts, () => `${acts} acts, not ${load.records.length}`, 4 * DEADLINE_MS);
  } finally {
    await load.stop();
  }
  return load.records;
}

/** Makes a load, with something that happens meanwhile, and gives the violations of all spaces. */
async function violationsOf(t, { acts, meanwhile, ...more }) {
  const spaces = range(1, 8).map(() => freshSpace());
  const witness = await cluster.nodes[0].user(601);
  for (const space of spaces) await witness.join(space);
  const load = new Load({ nodes: () => cluster.nodes, spaces, users: 64, shortHolds: 0.3, ...more });
  const records = meanwhile ? await recordsWhile(load, acts, meanwhile) : await load.run(acts);
  const refused = records.filter(({ ok, unknown }) => !ok && !unknown).length;
  const unknown = records.filter((record) => record.unknown).length;
  t.diagnostic(`${load.done} done, ${refused} refused, ${unknown} unknown`);

  const violations = [];
  for (const space of spaces) {
    // This act has a day of its own and a key. So it is one event, the last one, however often it is repeated.
    const last = await cluster.nodes[0].userCaller(freshNumber()).settled.post('/api/slots/9/hold', space.body({ date: day(8) }));
    assert.equal(last.status, 200, last.text);
    const updates = () => witness.all('slot_update').filter(({ data }) => data.spazioId === space.number);
    await eventually(() => (updates().at(-1)?.version ?? 0) >= last.data.version, 'the last event', 2 * DEADLINE_MS);
    const events = updates().slice(0, last.data.version - 1);
    assert.deepEqual(versions(events), range(1, last.data.version - 1));
    assert.equal(new Set(events.map(({ epoch }) => epoch)).size, 1);
    violations.push(...checkHistory(records.filter((record) => record.space === space), events));
  }
  witness.close();
  return { violations, load, unknown, refused };
}

test(`each of ${ACTS} answers fits some order of the acts`, async (t) => {
  const sockets = new Map();
  for (const id of range(2_000, 2_031)) {
    const client = cluster.next.connect({ token: userToken(id) });
    await client.connected();
    sockets.set(id, client);
  }
  // There is no outage, so an unknown outcome means that a busy machine took too long. It is settled by a repeat.
  const { violations, load, refused } = await violationsOf(t, { acts: ACTS, sockets, settle: true });
  assert.ok(load.done > ACTS / 4 && refused > ACTS / 10, 'there were both');
  assert.deepEqual(violations, []);
});

const FAILURES = {
  'Redis freezes': async (redis, round) => {
    const goOn = redis.freeze();
    await sleep([1_500, 900, 2_500][round % 3]);
    goOn();
  },
  'connections break': async (redis) => {
    for (const _ of range(1, 5)) {
      await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
      await sleep(50 * Math.random());
    }
  },
};

for (const [what, fail] of Object.entries(FAILURES)) {
  test(`where ${what} a 503 may be either, and a repeat of its call settles it`, async (t) => {
    const failures = async (load) => {
      for (const round of range(0, 2)) {
        const before = load.records.length;
        await eventually(() => load.records.length > before + 40, 'some acts');
        await fail(cluster.redis, round);
      }
    };
    const { violations, unknown } = await violationsOf(t, { acts: ACTS / 2, settle: true, pause: 60, meanwhile: failures });
    if (what === 'Redis freezes') assert.ok(unknown > 0, 'there were outages');
    assert.deepEqual(violations, []);
  });
}

test('the model itself finds a double holder, a wrong conflict and a lost act', () => {
  const event = (slotId, status, at, until) => ({
    slotId,
    status,
    timestamp: new Date(at).toISOString(),
    data: until ? { held_until: new Date(until).toISOString() } : {},
  });
  const answer = (user, sent, more) => ({
    act: 'hold',
    slots: [1],
    user,
    sent,
    received: sent + 1,
    sentAt: 1_000,
    receivedAt: 1_100,
    low: 0,
    becomes: 'occupied',
    holdSeconds: 60,
    ...more,
  });
  const held = (user, sent, version) => answer(user, sent, { ok: true, data: { version, holdToken: `t${user}` } });
  const [first, second] = [event(1, 'occupied', 1_050, 61_050), event(1, 'occupied', 1_060, 61_060)];
  assert.deepEqual(checkHistory([held(7, 1, 1)], [first]), []);
  assert.match(checkHistory([held(7, 1, 1), held(8, 2, 2)], [first, second])[0], /slot_unavailable/);
  const refused = answer(8, 3, { ok: false, code: 'slot_unavailable', conflicts: [2], low: 1 });
  assert.match(checkHistory([held(7, 1, 1), refused], [first])[0], /no order/);
  assert.match(checkHistory([], [first])[0], /written by no act/);

  const unknown = (act, user, sent, more) => answer(user, sent, { act, ok: false, unknown: true, status: 503, ...more });
  const extended = [event(1, 'occupied', 1_070, 61_070), event(1, 'occupied', 1_080, 61_080)];
  const again = { act: 'extend', ok: true, data: { version: 3, holdToken: 't7' }, holdToken: 't7' };
  const lost = unknown('extend', 7, 3, { holdToken: 't7', low: 1 });
  assert.deepEqual(checkHistory([held(7, 1, 1), lost, answer(7, 5, { ...again, first: lost, low: 1 })], [first, ...extended]), []);

  const blocks = [event(1, 'blocked', 1_050), event(2, 'booked', 3_000), event(1, 'blocked', 3_050)];
  const update = { act: 'update', becomes: 'blocked' };
  const [tooOld, other] = [unknown('update', 7, 3, update), unknown('update', 8, 9, { ...update, sentAt: 3_000, receivedAt: 3_100, low: 2 })];
  const done = (user, sent, version, more) => answer(user, sent, { ...update, ok: true, data: { version }, ...more });
  const between = done(7, 5, 2, { slots: [2], becomes: 'booked', sentAt: 2_900, receivedAt: 3_010, low: 1 });
  assert.deepEqual(checkHistory([done(7, 1, 1), tooOld, between, other], blocks), []);
  assert.match(checkHistory([done(7, 1, 1), tooOld, between], blocks)[0], /written by no act/);
  const free = [{ status: 'available' }, { status: 'available' }];
  assert.equal(decide(free, { act: 'hold', slots: [1], user: 7 }, 0), undefined);
});
