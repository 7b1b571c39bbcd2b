'use client';

/** Hooks and the element for React 18 and newer. */

import {
  createElement,
  useCallback,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactElement,
  type ReactNode,
} from 'react';

import type { Client, TokenSource } from '../client.js';
import type { DayDate, SpaceId, WireAnswer } from '../core/protocol.js';
import type { DayState, Pending, Slot, SpaceState } from '../core/state.js';
import type { BoardEventDetail, SlotcastBoard as SlotcastBoardElement } from '../element/board.js';
import type { ActOptions, Day } from '../space.js';
import type { Texts } from '../texts/index.js';

const NO_SLOTS: readonly Slot[] = [];
const NO_PENDING: readonly Pending[] = [];
const noSpace = (): undefined => undefined;

/** What {@link useBoard} gives: the day as it is, and its acts. */
export interface Board {
  readonly slots: readonly Slot[];
  /** Whether `slots` is what the server has. */
  readonly inSync: boolean;
  readonly day: DayState | undefined;
  readonly space: SpaceState | undefined;
  /** What was asked for and is not seen yet. */
  readonly pending: readonly Pending[];
  /** The acts, all or none. They reject with a `Refusal`. */
  readonly hold: (slots: readonly number[], options?: ActOptions) => Promise<WireAnswer>;
  readonly book: (slots: readonly number[], options?: ActOptions) => Promise<WireAnswer>;
  readonly release: (slots: readonly number[], options?: ActOptions) => Promise<WireAnswer>;
  readonly extend: (slots: readonly number[], options?: ActOptions) => Promise<WireAnswer>;
}

/** Follows a day of a space for as long as the component is there. Without a client, as on a server, nothing is known. */
export function useBoard(client: Client | null | undefined, { sedeId, spazioId, date }: SpaceId & { readonly date: DayDate }): Board {
  const [day, setDay] = useState<Day>();
  useEffect(() => {
    if (!client) return undefined;
    const opened = client.space({ sedeId, spazioId }).day(date);
    setDay(opened);
    return () => {
      opened.close();
      setDay(undefined);
    };
  }, [client, sedeId, spazioId, date]);
  const subscribe = useCallback((listener: () => void) => day?.subscribe(listener) ?? noSpace, [day]);
  const space = useSyncExternalStore<SpaceState | undefined>(subscribe, () => day?.space.state, noSpace);
  return useMemo(() => boardOf(day, space), [day, space]);
}

function boardOf(day: Day | undefined, space: SpaceState | undefined): Board {
  const state = day && space?.days.get(day.date);
  const closed = () => Promise.reject(new Error('The day is not open yet'));
  return {
    slots: state?.slots ?? NO_SLOTS,
    inSync: state?.inSync ?? false,
    day: state,
    space,
    pending: space?.pending ?? NO_PENDING,
    hold: (slots, options) => day?.hold(slots, options) ?? closed(),
    book: (slots, options) => day?.book(slots, options) ?? closed(),
    release: (slots, options) => day?.release(slots, options) ?? closed(),
    extend: (slots, options) => day?.extend(slots, options) ?? closed(),
  };
}

/** The own live holds of a board, slots of one hold together. */
export function useHolds({ slots }: Pick<Board, 'slots'>): readonly (readonly Slot[])[] {
  return useMemo(() => {
    const byHold = new Map<string, Slot[]>();
    for (const slot of slots) {
      if (!slot.mine || slot.status !== 'occupied') continue;
      const key = slot.holdToken ?? String(slot.heldUntil);
      byHold.set(key, [...(byHold.get(key) ?? []), slot]);
    }
    return [...byHold.values()];
  }, [slots]);
}

/** What {@link SlotcastBoard} takes. */
export interface SlotcastBoardProps {
  readonly url?: string;
  readonly sede: number;
  readonly spazio: number;
  readonly date?: DayDate;
  readonly lang?: string;
  readonly name?: string;
  readonly token?: TokenSource;
  /** A client of yours; the element then neither makes nor closes one. */
  readonly client?: Client;
  readonly texts?: Partial<Texts>;
  readonly className?: string;
  readonly onHeld?: (event: CustomEvent<BoardEventDetail>) => void;
  readonly onBooked?: (event: CustomEvent<BoardEventDetail>) => void;
  readonly onReleased?: (event: CustomEvent<BoardEventDetail>) => void;
  readonly onRefused?: (event: CustomEvent<BoardEventDetail>) => void;
  readonly onEnded?: (event: CustomEvent<BoardEventDetail>) => void;
  readonly onSignin?: (event: CustomEvent<BoardEventDetail>) => void;
  readonly onDayChange?: (event: CustomEvent<{ readonly date: DayDate }>) => void;
  readonly children?: ReactNode;
}

const EVENTS = {
  held: 'onHeld',
  booked: 'onBooked',
  released: 'onReleased',
  refused: 'onRefused',
  ended: 'onEnded',
  signin: 'onSignin',
  daychange: 'onDayChange',
} as const;

const SETTINGS = ['url', 'sede', 'spazio', 'date', 'name', 'token', 'client', 'texts'] as const;

/** `<slotcast-board>`. React 18 gives an element neither properties nor listeners: they are set in effects. */
export function SlotcastBoard(props: SlotcastBoardProps): ReactElement {
  const ref = useRef<SlotcastBoardElement>(null);
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });
  useEffect(() => {
    // Here, so that nothing of it runs on a server.
    void import('../element/index.js');
    const element = ref.current;
    const ending = new AbortController();
    for (const [event, name] of Object.entries(EVENTS)) {
      const listener = (fired: Event) => latest.current[name]?.(fired as never);
      element?.addEventListener(event, listener, { signal: ending.signal });
    }
    return () => ending.abort();
  }, []);
  useEffect(() => {
    const element = ref.current;
    if (element) for (const name of SETTINGS) assign(element, name, props[name]);
  }, SETTINGS.map((name) => props[name]));
  const { className, lang, children } = props;
  return createElement('slotcast-board', { ref, class: className, lang }, children);
}

function assign<K extends (typeof SETTINGS)[number]>(element: SlotcastBoardElement, name: K, value: SlotcastBoardProps[K]): void {
  (element as unknown as Record<K, SlotcastBoardProps[K]>)[name] = value;
}
