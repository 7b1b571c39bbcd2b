/** Defines `<slotcast-board>`, unless the page has it already. On a server, where there are no elements, it does nothing. */

import { SlotcastBoard } from './board.js';

export { SlotcastBoard, type BoardEventDetail } from './board.js';

if (typeof customElements !== 'undefined') {
  customElements.get('slotcast-board') ?? customElements.define('slotcast-board', SlotcastBoard);
}

declare global {
  interface HTMLElementTagNameMap {
    'slotcast-board': SlotcastBoard;
  }
}
