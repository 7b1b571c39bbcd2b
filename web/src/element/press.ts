/** For a second after a press, what has come to stand at its place cannot be pressed; everything else answers at once. */

/** How long a place is guarded after a press, in ms. */
export const GUARD_MS = 1_000;

/** How near counts as the same place, in CSS pixels: the size of a finger. */
const NEAR_PX = 44;

/** The place of a control. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** A press of the pointer. */
export interface Press {
  /** Names the control and the slots that it acts on, so that two buttons never have the same name. */
  readonly what: string;
  readonly x: number;
  readonly y: number;
  readonly at: number;
}

/** Remembers the last press with where everything was, and says which of the next ones count. */
export class PressGuard {
  #last: (Press & { readonly boxes: ReadonlyMap<string, Box> }) | undefined;

  /** Whether a press counts. `boxes` gives the place of each control; it is called only for a press that counts. */
  admits(press: Press, boxes: () => ReadonlyMap<string, Box>): boolean {
    const last = this.#last;
    const isRecent = last !== undefined && press.at - last.at < GUARD_MS;
    if (isRecent && isNear(last, press) && !isIn(last.boxes.get(press.what), press)) return false;
    this.#last = { ...press, boxes: boxes() };
    return true;
  }

  /** A person who scrolls moves everything knowingly. */
  forget(): void {
    this.#last = undefined;
  }
}

function isNear(a: Press, b: Press): boolean {
  return Math.hypot(a.x - b.x, a.y - b.y) < NEAR_PX;
}

function isIn(box: Box | undefined, { x, y }: Press): boolean {
  return box !== undefined && x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
}
