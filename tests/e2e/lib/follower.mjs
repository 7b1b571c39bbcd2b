// A stock client that follows spaces as the contract tells clients to: it comes back by itself, asks each time for what it
// missed with `since`, and notes as a fault whatever the contract says cannot happen.

import { Client } from './client.mjs';
import { userToken } from './tokens.mjs';
import { eventually } from './waiting.mjs';

/** The missed changes that a space's log holds, and that a connection is sent at once for all its spaces together. */
const LOG_LENGTH = 1_024;

const RECONNECTING = { reconnection: true, reconnectionDelay: 100, reconnectionDelayMax: 500 };

/** What one follower knows of one space. */
class Followed {
  constructor(space) {
    this.space = space;
    /** `{epoch, version}`: everything up to it is known. */
    this.position = undefined;
    /** The status of each slot of the day, once a snapshot or an update told it. */
    this.statuses = new Map();
    this.updates = [];
    this.snapshots = [];
    /** Snapshots that came although the missed changes could have been sent. */
    this.needless = [];
    /** Why the next snapshot is expected; undefined without a reason. */
    this.reason = undefined;
  }
}

export class Follower {
  /** Connects to `url` at once, and joins the spaces each time that it is connected. */
  constructor(url, spaces, { user = 600, ...options } = {}) {
    this.faults = [];
    /** How many changes its present connection has missed, counted when each room was joined. */
    this.missed = 0;
    this.client = new Client(url, { token: userToken(user), ...RECONNECTING, timeout: 5_000, ...options });
    this.spaces = new Map(spaces.map((space) => [space.room, new Followed(space)]));
    const { socket } = this.client;
    socket.on('connect', () => {
      this.missed = 0;
      for (const followed of this.spaces.values()) this.#join(followed);
    });
    socket.on('joined_space', (payload) => this.#joined(this.#of(payload), payload));
    socket.on('slots_status_update', (payload) => this.#snapshot(this.#of(payload), payload));
    socket.on('slot_update', (payload) => this.#update(this.#of(payload.data), payload));
  }

  #of({ spazioId, sedeId }) {
    return this.spaces.get(`spazio_${spazioId}_sede_${sedeId}`);
  }

  /** Asks until the store answers. A client keeps asking after a refusal during an outage. */
  #join(followed) {
    const { socket } = this.client;
    const connection = socket.id;
    followed.since = followed.position;
    const since = followed.since && { since: followed.since };
    socket.emit('join_space', followed.space.event(since), ({ ok, error }) => {
      if (ok) return;
      if (error.code !== 'unavailable') this.faults.push(`join refused: ${JSON.stringify(error)}`);
      setTimeout(() => socket.id === connection && this.#join(followed), 200);
    });
  }

  #joined(followed, { epoch, version, recovered }) {
    const { since } = followed;
    followed.joined = true;
    followed.position ??= { epoch, version };
    if (since?.epoch === epoch) this.missed += version - since.version;
    followed.reason = recovered ? undefined : this.#whyNotRecovered(since, epoch);
  }

  /** Why a joined room may get a snapshot instead of the missed changes; undefined without a reason. */
  #whyNotRecovered(since, epoch) {
    if (since === undefined) return 'the first time';
    if (since.epoch !== epoch) return 'another epoch';
    return this.missed > LOG_LENGTH ? `${this.missed} changes missed` : undefined;
  }

  #snapshot(followed, snapshot) {
    const { position } = followed;
    const { epoch, version, date, slotsStatus } = snapshot;
    followed.snapshots.push(snapshot);
    const isBeyondLog = position && (epoch !== position.epoch || version - position.version > LOG_LENGTH);
    if (followed.reason === undefined && !isBeyondLog) followed.needless.push({ epoch, version, position });
    followed.reason = undefined;
    if (epoch === position?.epoch && version < position.version) this.#fault(followed, 'an old snapshot', snapshot);
    followed.position = { epoch, version };
    if (date !== followed.space.date) {
      this.#fault(followed, 'a snapshot of another day', snapshot);
      return;
    }
    followed.statuses = new Map(slotsStatus.map((entry) => [entry.id_slot, entry.status]));
  }

  #update(followed, update) {
    const { position } = followed;
    const { epoch, version, slotId, status, data } = update;
    followed.updates.push(update);
    if (epoch !== position?.epoch) this.#fault(followed, 'a new epoch without a snapshot', update);
    else if (version !== position.version + 1) this.#fault(followed, 'not the next version', update);
    followed.position = { epoch, version };
    if (data.date === followed.space.date) followed.statuses.set(slotId, status);
  }

  #fault(followed, what, { epoch, version, status }) {
    const at = JSON.stringify({ epoch, version, status });
    this.faults.push(`${followed.space.room}: ${what}: ${at} after ${JSON.stringify(followed.position)}`);
  }

  /** Breaks its connection again and again without a farewell, until `rest`. */
  breakOften() {
    const { socket } = this.client;
    this.breaking = setInterval(() => socket.connected && socket.io.engine.close(), 300 + Math.random() * 900);
  }

  rest() {
    clearInterval(this.breaking);
  }

  /** The knowledge about a space. */
  of(space) {
    return this.spaces.get(space.room);
  }

  /** Waits until it is in all its rooms and has seen their boards. */
  async ready() {
    const isIn = ({ joined, statuses }) => joined && statuses.size > 0;
    await eventually(() => [...this.spaces.values()].every(isIn), 'a follower in its rooms');
  }

  /** Whether it shows a space as the store's board does: position and every slot. */
  shows(space, { epoch, version, slots }) {
    const { position, statuses } = this.of(space);
    const isThere = position?.epoch === epoch && position.version === version;
    return isThere && slots.every((entry) => statuses.get(entry.id_slot) === entry.status);
  }

  close() {
    this.rest();
    this.client.close();
  }
}

/** Waits until each follower shows each space as the node's board does, and gives the boards by room. */
export async function allShowTheStore(followers, node, spaces) {
  const boards = new Map();
  for (const space of spaces) {
    const different = async () => {
      const board = await node.board(space);
      boards.set(space.room, board);
      return followers.filter((follower) => !follower.shows(space, board));
    };
    let last = [];
    await eventually(async () => {
      last = await different();
      return last.length === 0;
    }, 'every client shows what is stored').catch((error) => {
      const { slots: _, ...board } = boards.get(space.room);
      const positions = last.map((follower) => [follower.of(space).position, follower.faults.length]);
      throw new Error(`${error.message}: ${space.room} is ${JSON.stringify(board)}, seen ${JSON.stringify(positions)}`);
    });
  }
  return boards;
}
