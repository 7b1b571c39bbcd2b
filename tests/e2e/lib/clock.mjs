// Processes whose clocks are wrong.

import { existsSync } from 'node:fs';

/** The path of the library that gives a process another time; undefined where it is not installed. */
export const LIBFAKETIME = ['x86_64', 'aarch64']
  .map((machine) => `/usr/lib/${machine}-linux-gnu/faketime/libfaketime.so.1`)
  .find((path) => existsSync(path));

/** The environment of a process whose clock is wrong by `seconds`. */
export const wrongClock = (seconds) => ({
  LD_PRELOAD: LIBFAKETIME,
  FAKETIME: `${seconds >= 0 ? '+' : ''}${seconds}s`,
  FAKETIME_DONT_FAKE_MONOTONIC: '1',
});
