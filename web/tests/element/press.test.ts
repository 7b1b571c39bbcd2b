import { describe, expect, test } from 'vitest';

import { GUARD_MS, PressGuard, type Box } from '../../src/element/press.js';

const box = (left: number, top: number): Box => ({ left, top, right: left + 100, bottom: top + 44 });
const at = (what: string, x: number, y: number, time: number) => ({ what, x, y, at: time });

describe('the guard of presses', () => {
  const before = new Map([['hold', box(0, 100)], ['next row', box(0, 56)]]);
  const after = new Map([['release', box(0, 100)], ['hold', box(0, 160)]]);

  test('lets nothing be pressed for a second that has come to stand where a press was', () => {
    const guard = new PressGuard();
    expect(guard.admits(at('hold', 50, 120, 0), () => before)).toBe(true);
    for (const pause of [50, 400, GUARD_MS - 1]) {
      expect(guard.admits(at('release', 50, 121, pause), () => after), `${pause} ms`).toBe(false);
    }
    expect(guard.admits(at('release', 50, 121, GUARD_MS), () => after)).toBe(true);
  });

  test('answers at once what was there before, and what is elsewhere', () => {
    const guard = new PressGuard();
    guard.admits(at('hold', 50, 105, 0), () => before);
    expect(guard.admits(at('hold', 50, 105, 50), () => before)).toBe(true);
    expect(guard.admits(at('next row', 50, 95, 100), () => before)).toBe(true);
    expect(guard.admits(at('new', 400, 95, 150), () => after)).toBe(true);
  });

  test('knows that who scrolls moves everything knowingly', () => {
    const guard = new PressGuard();
    guard.admits(at('hold', 50, 120, 0), () => before);
    guard.forget();
    expect(guard.admits(at('release', 50, 120, 100), () => after)).toBe(true);
  });
});
