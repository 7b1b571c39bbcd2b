import { expect, test } from 'vitest';

import type { WireBoard } from '../../src/core/protocol.js';
import { Space, type Wire } from '../../src/space.js';

const DATE = '2027-03-01';
const ID = { sedeId: 1, spazioId: 1 };

/** A client without a connection, whose boards come when the test says so. */
function wireOf(board: Wire['board']): Wire {
  const nothing = () => undefined;
  return {
    now: () => Date.parse('2027-02-01T00:00:00Z'),
    isOnline: () => false,
    request: () => new Promise(nothing),
    online: () => new Promise(nothing),
    board,
    describe: () => new Promise(nothing),
    asksForOwners: () => false,
    keep: nothing,
    forget: nothing,
    schedule: nothing,
  };
}

test('a board that the user before asked for is not shown to the next one', async () => {
  const answers: ((board: WireBoard) => void)[] = [];
  const space = new Space(ID, wireOf(() => new Promise((resolve) => answers.push(resolve))));
  const board: WireBoard = { idSpazio: 1, sedeId: 1, date: DATE, epoch: 'e', version: 4, slots: [{ id_slot: 1, orario: '09:00', status: 'booked', mine: true }] };
  const first = space.day(DATE);
  space.dispatch({ kind: 'user_changed' });
  answers[0]?.(board);
  await new Promise((resolve) => setImmediate(resolve));
  expect(first.state).toMatchObject({ isKnown: false, slots: [] });
  const second = space.day(DATE);
  answers[1]?.(board);
  await new Promise((resolve) => setImmediate(resolve));
  expect(second.state?.slots).toMatchObject([{ number: 1, mine: true }]);
  first.close();
  second.close();
});
