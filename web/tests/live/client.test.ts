// The client against the built node, through a proxy that misbehaves.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { connect, Refusal, type Client, type ConnectOptions, type Day, type Slot } from '../../src/index.js';
import { day, eventually, startNode, staffToken, userToken, type LiveNode } from './node.js';
import { generator, Proxy } from './proxy.js';

const DATES = [day(7), day(8)];

let node: LiveNode;
let lastSpace = 700;
const clients: Client[] = [];
const proxies: Proxy[] = [];

beforeAll(async () => {
  node = await startNode({ settings: { SLOTCAST_USER_RATE: '0', SLOT_MAX_HOLDS: '0', SLOT_MAX_HELD: '0' } });
}, 90_000);

afterAll(async () => {
  for (const client of clients) client.close();
  for (const proxy of proxies) proxy.close();
  await node?.stop();
}, 60_000);

function open(url: string, token: ConnectOptions['token'], options: ConnectOptions = {}): Client {
  const client = connect({ url, token, answerTimeout: 1_000, ...options });
  clients.push(client);
  return client;
}

async function proxyTo(seed = 1): Promise<Proxy> {
  const proxy = await Proxy.start(() => node.port, seed);
  proxies.push(proxy);
  return proxy;
}

const freshSpace = () => ({ sedeId: 1, spazioId: (lastSpace += 1) });
const looks = (slots: readonly Slot[] | undefined) => (slots ?? []).map((slot) => `${slot.number} ${slot.status}`);
const inSync = (one: Day) => eventually(() => one.state?.inSync, `${one.date} in sync`);
const slotOf = (one: Day, number: number) => one.state?.slots.find((slot) => slot.number === number);

describe('the client', () => {
  test.each([1, 2, 3])('is true or says that it is not, whatever the network does (seed %i)', async (seed) => {
    const space = freshSpace();
    const random = generator(seed);
    const proxy = await proxyTo(seed);
    const observer = open(proxy.url, userToken(5));
    const reference = open(node.url, userToken(6));
    const actors = [7, 8].map((user) => open(node.url, userToken(user)));
    const truths = new Map<string, string[]>();
    const claims: [string, string[]][] = [];
    const watch = (client: Client, note: (key: string, statuses: string[]) => void) => {
      const days = DATES.map((date) => client.space(space).day(date));
      for (const one of days) {
        one.subscribe(() => {
          const { position } = one.space.state;
          if (one.state?.inSync && position) note(`${position.epoch} ${position.version} ${one.date}`, looks(one.state.slots));
        });
      }
      return days;
    };
    const referenceDays = watch(reference, (key, statuses) => truths.set(key, statuses));
    const observed = watch(observer, (key, statuses) => claims.push([key, statuses]));
    for (const one of [...referenceDays, ...observed]) await inSync(one);

    proxy.weather = { drop: 0.1, repeat: 0.1, delay: 0.2, cut: 0.01 };
    const acting = actors.map((actor) => DATES.map((date) => actor.space(space).day(date)));
    const isTried = () => Math.min(proxy.counts.dropped, proxy.counts.repeated, proxy.counts.delayed) > 0;
    for (let step = 0; step < 100 || (!isTried() && step < 1_000); step += 1) {
      // The observer is to miss as much as possible: it has to be connected.
      await eventually(() => observer.state.link === 'online', 'the observer is back');
      const one = acting[Math.floor(random() * 2)]?.[Math.floor(random() * 2)] as Day;
      const slots = [1 + Math.floor(random() * 8)];
      const act = (['hold', 'hold', 'release', 'book'] as const)[Math.floor(random() * 4)] ?? 'hold';
      await one[act](slots).catch((error: unknown) => expect(error).toBeInstanceOf(Refusal));
    }
    proxy.calm();
    await eventually(() => observer.state.link === 'online', 'the observer is back');
    // The last word is heard, so that whatever was lost before it shows.
    await Promise.all(acting.flat().slice(0, 2).map((one) => one.hold([9]).catch(() => undefined)));
    for (const [index, one] of observed.entries()) {
      const truth = referenceDays[index] as Day;
      await eventually(() => one.state?.inSync && `${looks(one.state.slots)}` === `${looks(truth.state?.slots)}`, one.date);
    }
    const known = claims.filter(([key]) => truths.has(key));
    expect(known.length).toBeGreaterThan(10);
    for (const [key, statuses] of known) expect(statuses, key).toEqual(truths.get(key));
    expect(isTried()).toBe(true);
  }, 90_000);

  test('does an act once, though its answer is lost again and again', async () => {
    const space = freshSpace();
    const proxy = await proxyTo(9);
    const client = open(proxy.url, userToken(11));
    const one = client.space(space).day(DATES[0] as string);
    await inSync(one);
    proxy.weather = { drop: 0.4, repeat: 0.2, delay: 0.2, cut: 0.02 };
    const answer = await one.hold([2, 3]);
    expect(answer.holdToken).toBeTypeOf('string');
    proxy.calm();
    await eventually(() => slotOf(one, 2)?.mine && slotOf(one, 3)?.mine, 'the hold is shown as own');
    expect(one.space.state.pending).toEqual([]);
    proxy.weather = { drop: 0.4, repeat: 0, delay: 0, cut: 0.02 };
    await one.release([2, 3]);
    proxy.calm();
    await eventually(() => one.state?.inSync && slotOf(one, 2)?.status === 'available', 'the release is shown');
  }, 60_000);

  test('never shows as held what is only asked for', async () => {
    const one = open(node.url, userToken(12)).space(freshSpace()).day(DATES[0] as string);
    await inSync(one);
    const seen: string[] = [];
    one.subscribe(() => {
      const isAsked = one.space.state.pending.some(({ slots }) => slots.includes(4));
      seen.push(`${slotOf(one, 4)?.status} ${isAsked}`);
    });
    const { version } = await one.hold([4]);
    await eventually(() => one.space.state.pending.length === 0, 'its effect is shown');
    expect(seen[0]).toBe('available true');
    expect(one.space.state.position?.version).toBeGreaterThanOrEqual(version);
    expect(seen.at(-1)).toBe('occupied false');
  });

  test('says within five seconds that an answer is in doubt, and goes on by itself', async () => {
    const proxy = await proxyTo();
    const one = open(proxy.url, userToken(13)).space(freshSpace()).day(DATES[0] as string);
    await inSync(one);
    proxy.isBlackHole = true;
    const asked = Date.now();
    const act = one.hold([5]);
    await eventually(() => one.space.state.pending[0]?.isDoubtful, 'doubt');
    expect(Date.now() - asked).toBeGreaterThanOrEqual(4_900);
    proxy.isBlackHole = false;
    await act;
    await eventually(() => slotOf(one, 5)?.mine && one.space.state.pending.length === 0, 'the hold');
  }, 60_000);

  test('asks for a token at the first connection, at each later one, and before it ends', async () => {
    const proxy = await proxyTo();
    const reasons: string[] = [];
    const source = ({ reason }: { reason: string }) => {
      reasons.push(reason);
      const exp = Math.floor(Date.now() / 1_000) + (reason === 'reconnect' ? 50 : 3_600);
      return userToken(14, { exp });
    };
    const client = open(proxy.url, source);
    const one = client.space(freshSpace()).day(DATES[0] as string);
    await inSync(one);
    expect(reasons).toEqual(['connect']);
    proxy.cut();
    await eventually(() => reasons.includes('expiring'), 'asked before the end');
    expect(reasons).toEqual(['connect', 'reconnect', 'expiring']);
    await eventually(() => (client.state.expiresAt ?? 0) > Date.now() + 600_000, 'the new token is in force');
    expect(client.state.link).toBe('online');
  }, 30_000);

  test('gives up on a token that is refused, after asking once more, and goes on with another', async () => {
    const reasons: string[] = [];
    const client = open(node.url, ({ reason }) => {
      reasons.push(reason);
      return 'no.token.this';
    });
    const one = client.space(freshSpace()).day(DATES[0] as string);
    await eventually(() => client.state.link === 'refused' && reasons.includes('refused'), 'refused');
    await expect(one.hold([1])).rejects.toMatchObject({ code: 'unauthorized' });
    await client.setToken(userToken(15));
    await inSync(one);
    await one.hold([1]);
  });

  test.each(['rejects', 'throws', 'hangs'])('asks again where the token function %s, and goes on as the user', async (how) => {
    const space = freshSpace();
    const reasons: string[] = [];
    let isThere = false;
    const source = ({ reason }: { reason: string }): string | Promise<string> => {
      reasons.push(reason);
      if (isThere) return userToken(22);
      if (how === 'throws') throw new Error('no network');
      return how === 'rejects' ? Promise.reject(new Error('no network')) : new Promise(() => {});
    };
    const client = open(node.url, source);
    const one = client.space(space).day(DATES[0] as string);
    await eventually(() => reasons.length > 1, 'asked again');
    // What is free is shown meanwhile.
    await eventually(() => one.state?.isKnown, 'a first picture');
    expect(client.state.link).not.toBe('refused');
    expect(client.state.userId).toBeUndefined();
    isThere = true;
    await eventually(() => client.state.userId === '22' && one.state?.inSync, 'the user');
    await one.hold([1]);
  }, 90_000);

  test('comes back by itself after its token has ended', async () => {
    const reasons: string[] = [];
    const source = ({ reason }: { reason: string }) => {
      reasons.push(reason);
      if (reason === 'expiring') throw new Error('no network');
      // The token's end is within the leeway, so the server takes it, and it ends at once.
      return userToken(23, { exp: Math.floor(Date.now() / 1_000) + (reasons.length === 1 ? 1 : 3_600) });
    };
    const client = open(node.url, source);
    const one = client.space(freshSpace()).day(DATES[0] as string);
    await inSync(one);
    await eventually(() => reasons.includes('reconnect'), 'asked after the end');
    await eventually(() => client.state.link === 'online' && (client.state.expiresAt ?? 0) > Date.now() + 600_000, 'back');
    await inSync(one);
    expect(reasons.filter((reason) => reason === 'expiring').length).toBeGreaterThan(1);
  }, 60_000);

  test('asks to sign in where a token without a function has ended', async () => {
    const client = open(node.url, userToken(24, { exp: Math.floor(Date.now() / 1_000) + 1 }));
    await inSync(client.space(freshSpace()).day(DATES[0] as string));
    await eventually(() => client.state.link === 'refused', 'refused');
  }, 60_000);

  test('never does for the next user what the one before asked for', async () => {
    const space = freshSpace();
    const proxy = await proxyTo();
    const client = open(proxy.url, userToken(25));
    const one = client.space(space).day(DATES[0] as string);
    await inSync(one);
    proxy.isBlackHole = true;
    const act = one.hold([4]).then(() => 'held', (error: unknown) => (error as Refusal).code);
    // Whether it was sent or not, no node hears of it.
    proxy.cut();
    proxy.isBlackHole = false;
    await client.setToken(userToken(26));
    await eventually(() => client.state.userId === '26' && one.state?.inSync, 'the next user');
    expect(await act).toBe('closed');
    expect(slotOf(one, 4)?.mine).toBe(false);
  }, 60_000);

  test('ends an act that is under way when it is closed', async () => {
    const proxy = await proxyTo();
    const client = open(proxy.url, userToken(27));
    const one = client.space(freshSpace()).day(DATES[0] as string);
    await inSync(one);
    proxy.isBlackHole = true;
    const act = one.hold([4]);
    client.close();
    await expect(act).rejects.toMatchObject({ code: 'closed' });
    await expect(one.book([4])).rejects.toMatchObject({ code: 'closed' });
  });

  test('forgets days that nobody looks at any more, however many were leafed through', async () => {
    const space = open(node.url, userToken(28)).space(freshSpace());
    const days = Array.from({ length: 6 }, (_, index) => day(10 + index));
    for (const date of days) {
      const one = space.day(date);
      await inSync(one);
      one.close();
      expect(one.state).toBeUndefined();
    }
    const last = space.day(DATES[0] as string);
    await inSync(last);
    await eventually(() => space.state.days.size === 1, 'one day is left');
    expect(last.state?.inSync).toBe(true);
  });

  test('shows nothing of one user to the next', async () => {
    const space = freshSpace();
    const client = open(node.url, userToken(16));
    const one = client.space(space).day(DATES[0] as string);
    await inSync(one);
    await one.hold([1]);
    await eventually(() => slotOf(one, 1)?.mine, 'own');
    const seen: boolean[] = [];
    one.subscribe(() => seen.push(one.state?.slots.some(({ mine }) => mine) ?? false));
    await client.setToken(userToken(17));
    await eventually(() => client.state.userId === '17' && one.state?.inSync, 'the next user');
    expect(slotOf(one, 1)?.status).toBe('occupied');
    expect(seen.at(-1)).toBe(false);
  });

  test('follows several days and spaces over one join each, and leaves when nobody looks', async () => {
    const client = open(node.url, userToken(18));
    const joins: number[] = [];
    client.on('joined_space', ({ spazioId }: { spazioId: number }) => joins.push(spazioId));
    const left = new Promise((resolve) => client.on('left_space', resolve));
    const [first, second] = [freshSpace(), freshSpace()];
    const days = [first, second].flatMap((space) => DATES.map((date) => client.space(space).day(date)));
    for (const one of days) await inSync(one);
    expect(joins.sort()).toEqual([first.spazioId, second.spazioId]);
    // Asking for a space that is followed is no reason to join again.
    client.space(first);
    expect(days[0]?.state?.inSync).toBe(true);
    for (const one of days.slice(0, 2)) one.close();
    await left;
    const again = client.space(first).day(DATES[0] as string);
    await inSync(again);
    expect(joins.length).toBe(3);
  });

  test('keeps its values the same objects while nothing changes', async () => {
    const one = open(node.url, userToken(19)).space(freshSpace()).day(DATES[0] as string);
    await inSync(one);
    const before = one.state;
    await one.hold([3]);
    await eventually(() => slotOf(one, 3)?.mine, 'held');
    const after = one.state;
    expect(after).not.toBe(before);
    expect(after?.slots[0]).toBe(before?.slots[0]);
    expect(one.state).toBe(after);
  });

  test('tells staff whose a slot is, and lets staff change slots', async () => {
    const space = freshSpace();
    const user = open(node.url, userToken(20)).space(space).day(DATES[0] as string);
    const staff = open(node.url, staffToken());
    const seen = staff.space(space).day(DATES[0] as string);
    await inSync(user);
    await inSync(seen);
    await user.hold([2]);
    await eventually(() => slotOf(seen, 2)?.user === '20', 'whose it is');
    await staff.calls.change({ ...space, date: seen.date, slots: [7, 8], status: 'blocked', data: { note: 'chiuso' } });
    await eventually(() => slotOf(user, 8)?.status === 'blocked', 'closed');
    expect(slotOf(user, 7)?.data).toEqual({ note: 'chiuso' });
    await staff.calls.change({ ...space, date: seen.date, slots: [7, 8], status: 'available' });
    await eventually(() => slotOf(user, 7)?.status === 'available', 'open');
    expect(slotOf(user, 7)?.data).toEqual({});
  });

  test('tells local times as instants', async () => {
    const one = open(node.url, userToken(21)).space(freshSpace()).day(DATES[0] as string);
    await inSync(one);
    const [first] = (await eventually(() => one.state?.slots[0]?.startsAt && one.state.slots, 'instants')) as Slot[];
    const clock = new Intl.DateTimeFormat('it', { timeZone: 'Europe/Rome', hour: '2-digit', minute: '2-digit' });
    expect(clock.format(first?.startsAt ?? 0)).toBe('09:00');
    expect((first?.endsAt ?? 0) - (first?.startsAt ?? 0)).toBe(3_600_000);
  });
});
