/** The server's clock, as the timestamps of its events tell it. */
export class ServerClock {
  #skew: number | null = null;

  /** The server's time now, in ms since 1970 UTC; this device's until the first event. */
  now(): number {
    return Date.now() + (this.#skew ?? 0);
  }

  /** An event arrives after its timestamp. The event that took the least time tells the clock best. */
  learn(timestamp: unknown): void {
    const skew = typeof timestamp === 'string' ? Date.parse(timestamp) - Date.now() : Number.NaN;
    if (!Number.isNaN(skew)) this.#skew = Math.max(this.#skew ?? -Infinity, skew);
  }

  /** A device that slept may have another clock now. */
  forget(): void {
    this.#skew = null;
  }
}
