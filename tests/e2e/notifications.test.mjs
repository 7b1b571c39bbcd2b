// Notifications to users whose clients are away, slow, cut off, or connected to a node that ends: each arrives, in order,
// perhaps more than once, whatever the transport and the store.

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';

import { Client, TRANSPORTS } from './lib/client.mjs';
import { freshNumber, range } from './lib/fixtures.mjs';
import { startHeldProxy } from './lib/held_proxy.mjs';
import { settled } from './lib/http.mjs';
import { startRedis } from './lib/redis_server.mjs';
import { startSlotcast } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually, within } from './lib/waiting.mjs';

/** How many notifications of a user are kept. */
const KEPT = 100;

/** The longest text that a notification may have, in bytes: the limit without the JSON around the text. */
const LARGEST = 16 * 1024 - 20;

/** How long a busy machine may take to send one megabyte to each of several clients, in ms. */
const DEADLINE_MS = Number(process.env.SLOTCAST_NOTIFICATIONS_MS ?? 120_000);

const redis = await startRedis();
after(() => redis.kill());

const STORES = { embedded: {}, Redis: { REDIS_URL: redis.url, SLOTCAST_REDIS_PREFIX: `notifications-${process.pid}` } };

/** A node behind a proxy, and two users for each transport, whose clients come back whenever they are cut off. */
class Scene {
  static async start(settings) {
    const scene = new Scene();
    scene.settings = { SLOTCAST_USER_RATE: '0', ...settings };
    scene.node = await startSlotcast({ settings: scene.settings });
    scene.proxy = await startHeldProxy(scene.node.port);
    scene.users = Object.entries(TRANSPORTS).flatMap(([name, transports]) =>
      range(1, 2).map(() => ({ id: freshNumber(), name, transports, sent: [], repeated: 0 })),
    );
    return scene;
  }

  async connect() {
    for (const user of this.users) {
      const options = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 250, transports: user.transports };
      user.client = new Client(this.proxy.url, { token: userToken(user.id), ...options });
    }
    await Promise.all(this.users.map(({ client }) => client.connected()));
  }

  /** Sends each user `count` notifications of a size in bytes, to all users at once. */
  async notify(count, bytes) {
    await Promise.all(this.users.map((user) => this.#notifyOne(user, count, bytes)));
  }

  async #notifyOne(user, count, bytes) {
    const text = 'x'.repeat(bytes);
    for (const _ of range(1, count)) {
      const data = { n: freshNumber(), text };
      let tries = 0;
      const post = () => {
        tries += 1;
        return this.node.staffCaller().post(`/api/users/${user.id}/notify`, { event: 'avviso', data });
      };
      const answer = await settled(post, 'a notification');
      assert.equal(answer.status, 200, answer.text);
      user.sent.push(data.n);
      user.repeated += tries - 1;
    }
  }

  /**
   * Waits until each user has got all that was sent, and checks that it came in order, however often. What a busy machine did not
   * answer was sent again: it may be kept twice, and then one of the first is kept no more.
   */
  async assertAllArrive() {
    for (const { client, name, sent, repeated } of this.users) {
      const heard = () => [...new Set(client.all('avviso').map(({ n }) => n))];
      const missing = () => {
        const arrived = new Set(heard());
        return sent.slice(repeated).filter((n) => !arrived.has(n)).length;
      };
      const lost = () => `${missing()} of ${sent.length} over ${name}, ${client.disconnects} ${client.refusals}`;
      await eventually(() => missing() === 0, lost, DEADLINE_MS);
      const arrived = heard();
      assert.deepEqual(arrived, sent.slice(sent.length - arrived.length), `in order over ${name}`);
    }
  }

  /** Starts a node at the address of the node that has ended. */
  async startAgain() {
    const { dataDir, port } = this.node;
    this.node = await startSlotcast({ settings: this.settings, dataDir, port });
  }

  async end() {
    for (const { client } of this.users) client?.close();
    this.proxy.close();
    await this.node.stop();
  }
}

/** Every disturbance that notifications on one store must survive. */
function describeStore(name, settings) {
  const scenario = (title, play) =>
    test(title, { timeout: 4 * DEADLINE_MS }, async (t) => {
      const scene = await Scene.start(settings);
      t.after(() => scene.end());
      await play(scene);
      await scene.assertAllArrive();
    });

  describe(`on the ${name} store`, () => {
    for (const bytes of [12_000, LARGEST]) {
      scenario(`all that is kept arrives, ${KEPT} of ${bytes} bytes`, async (scene) => {
        await scene.notify(KEPT, bytes);
        await scene.connect();
      });
    }

    scenario('a client that stops reading for a while gets all of it', async (scene) => {
      await scene.connect();
      scene.proxy.hold();
      await scene.notify(KEPT, LARGEST);
      scene.proxy.release();
    });

    scenario('a client that comes back while it is sent much gets what came meanwhile', async (scene) => {
      await scene.notify(KEPT / 2, LARGEST);
      scene.proxy.hold();
      const connected = scene.connect();
      await scene.notify(KEPT / 4, LARGEST);
      scene.proxy.release();
      await scene.notify(KEPT / 4, 10);
      await connected;
    });

    scenario('what was on its way when the network broke arrives over the next connection', async (scene) => {
      await scene.connect();
      await scene.notify(3, 10);
      scene.proxy.hold();
      await scene.notify(40, 12_000);
      scene.proxy.lose();
      await scene.notify(3, 10);
    });

    for (const signal of ['SIGTERM', 'SIGKILL']) {
      scenario(`what was on its way when the node got ${signal} arrives from the next one`, async (scene) => {
        await scene.connect();
        await scene.notify(3, 10);
        scene.proxy.hold();
        await scene.notify(40, 12_000);
        scene.node.child.kill(signal);
        await within(scene.node.exited, 'the end of the node');
        scene.proxy.lose();
        await scene.startAgain();
        await scene.notify(3, 10);
      });
    }

    test('what a client has shown to have is not sent to the next one', { timeout: 4 * DEADLINE_MS }, async (t) => {
      const scene = await Scene.start(settings);
      t.after(() => scene.end());
      await scene.notify(20, 12_000);
      await scene.connect();
      await scene.notify(20, 12_000);
      await scene.assertAllArrive();
      for (const user of scene.users) {
        // The node writes after the delivery that the notification was received.
        await eventually(async () => {
          const next = new Client(scene.node.url, { token: userToken(user.id), transports: user.transports });
          await next.connected();
          const post = () => scene.node.staffCaller().post(`/api/users/${user.id}/notify`, { event: 'avviso', data: { n: 'marker' } });
          assert.equal((await settled(post, 'a notification')).status, 200);
          await next.first('avviso', ({ n }) => n === 'marker');
          next.close();
          return !next.all('avviso').some(({ n }) => user.sent.includes(n));
        }, `nothing old over ${user.name}`);
      }
    });
  });
}

// These tests mostly wait, so they run at the same time.
describe('notifications', { concurrency: 2 }, () => {
  for (const [name, settings] of Object.entries(STORES)) describeStore(name, settings);
});
