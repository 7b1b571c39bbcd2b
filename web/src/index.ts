/**
 * The browser client of slotcast.
 *
 *     import { connect } from 'slotcast';
 *
 *     const client = connect({ url: 'https://slots.example.org', token: () => fetchToken() });
 *     const day = client.space({ sedeId: 1, spazioId: 2 }).day('2027-03-01');
 *     day.subscribe(() => draw(day.state));
 *     await day.hold([3, 4]);
 */

export { Client, connect, type ClientState, type ConnectOptions, type TokenReason, type TokenSource } from './client.js';
export type { DayDate, Position, SlotTaken, SpaceId, Status, WireAnswer } from './core/protocol.js';
export type { Act, DayState, Ended, Link, Pending, Slot, SpaceState } from './core/state.js';
export { Calls, type Booking, type Input, type Method, type Output, type Path, type Schema, type SlotChange, type SpaceListing } from './http.js';
export { Refusal } from './refusal.js';
export { Day, Space, type ActOptions } from './space.js';
