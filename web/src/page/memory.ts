/** What the page remembers. The browser may refuse to, and what it has may be anything: the page goes on without. */

/** Kept with the tab, or longer. */
export interface Memory {
  readonly store: 'tab' | 'browser';
  readonly key: string;
}

export const TAB_TOKEN: Memory = { store: 'tab', key: 'slotcast.token' };
export const LAST_PLACE: Memory = { store: 'browser', key: 'slotcast.place' };
export const LANGUAGE: Memory = { store: 'browser', key: 'slotcast.language' };

export function remember(what: Memory, text: string): void {
  try {
    storageOf(what).setItem(what.key, text);
  } catch {
    // The next visit begins as the first one.
  }
}

export function recall(what: Memory): string | undefined {
  try {
    return storageOf(what).getItem(what.key) || undefined;
  } catch {
    return undefined;
  }
}

function storageOf({ store }: Memory): Storage {
  return store === 'tab' ? sessionStorage : localStorage;
}
