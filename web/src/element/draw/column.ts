/** The day as one column of time: a row a slot, neighbours of one kind as one block. */

import { html, noChange, nothing, type TemplateResult } from 'lit';
import { guard } from 'lit/directives/guard.js';
import { repeat } from 'lit/directives/repeat.js';

import type { Slot } from '../../core/state.js';
import { sayRefusal, type Texts } from '../../texts/index.js';
import { blocksOf, noteOf, placesOf, type Place } from '../blocks.js';
import { isIn } from '../choice.js';
import type { Model } from '../model.js';
import { countdown, type Times } from '../times.js';

/** More slots than these share the height of a day. */
const MANY_SLOTS = 16;

/** The actions of the rows. */
export interface ColumnActions {
  readonly clicked: (slot: Slot, event: MouseEvent) => void;
  readonly pointerDown: (slot: Slot, event: PointerEvent) => void;
  readonly keyPressed: (event: KeyboardEvent) => void;
  readonly handleDown: (end: 'from' | 'to', event: PointerEvent) => void;
}

/** The column with its first `most` rows, or a sentence in its place. */
export function column(model: Model, actions: ColumnActions, most: number): TemplateResult {
  const { slots, texts, day } = model;
  const isKnown = day?.state?.isKnown === true;
  if (slots.length === 0) return html`<p class="empty">${emptyText(model, isKnown)}</p>`;
  const places = placesOf(blocksOf(slots));
  const known = whatIsKnown(model);
  // One listener serves all rows. A day may have 100 rows, and each would need three listeners.
  const onSlot = <E extends Event>(act: (slot: Slot, event: E) => void) => (event: E) => {
    const row = (event.target as HTMLElement).closest<HTMLElement>('.slot');
    const slot = slots.find(({ number }) => String(number) === row?.dataset['slot']);
    if (slot) act(slot, event);
  };
  return html`
    <div
      class="slots"
      part="slots"
      role="listbox"
      aria-multiselectable="true"
      aria-labelledby="title"
      ?data-many=${slots.length > MANY_SLOTS}
      @keydown=${actions.keyPressed}
      @pointerdown=${onSlot(actions.pointerDown)}
      @click=${onSlot(actions.clicked)}
    >
      ${repeat(
        slots,
        ({ number }) => number,
        (slot, index) => {
          // A row that is out of sight is drawn later, so it stays as it was.
          if (index >= most) return noChange;
          const view = viewOf(known, slot, places.get(slot.number) ?? 'only', index === model.focused);
          return guard([slot, texts, known.times, ...Object.values(view)], () => row(slot, view, known));
        },
      )}
    </div>
    <div class="now" aria-hidden="true"></div>
    ${model.choice ? html`${handle('from', actions)}${handle('to', actions)}` : nothing}
  `;
}

function emptyText({ texts, space, client }: Model, isKnown: boolean): string {
  if (space?.refusal) return sayRefusal(texts, { conflicts: '', rest: '', code: space.refusal.code });
  if (isKnown) return texts.closedDay;
  return client.state.link === 'refused' ? texts.signInHint : texts.connecting;
}

/** Everything that a row shows besides the slot. */
interface RowView {
  readonly place: Place;
  readonly isFocused: boolean;
  readonly isChosen: boolean;
  readonly mayChoose: boolean;
  readonly isAsked: boolean;
  readonly isChanged: boolean;
  readonly name: string;
  readonly left: string;
}

/** The values that all rows share. They are read once a drawing, because a day has many rows. */
function whatIsKnown(model: Model) {
  const { texts, times, choice, changed } = model;
  const asked = new Set(model.pending.flatMap(({ slots }) => slots));
  return { texts, times, choice, changed, asked, now: model.client.now(), mayChoose: (slot: Slot) => model.mayChoose(slot) };
}

type Known = ReturnType<typeof whatIsKnown>;

function viewOf(known: Known, slot: Slot, place: Place, isFocused: boolean): RowView {
  const { texts, times, choice } = known;
  const mayChoose = known.mayChoose(slot);
  const name = times.names.get(slot) ?? nameOf(slot, times, texts);
  times.names.set(slot, name);
  return {
    place,
    isFocused,
    isChosen: mayChoose && choice !== null && isIn(choice, slot),
    mayChoose: mayChoose || slot.mine,
    isAsked: known.asked.has(slot.number),
    isChanged: (known.changed.get(slot.number) ?? 0) > known.now,
    name,
    left: leftOf(slot, place, texts, known.now),
  };
}

function row(slot: Slot, view: RowView, { texts, times }: Known): TemplateResult {
  return html`
    <div
      class="slot"
      part="slot"
      role="option"
      tabindex=${view.isFocused ? 0 : -1}
      aria-selected=${view.isChosen}
      aria-disabled=${!view.mayChoose}
      aria-label=${view.name}
      data-slot=${slot.number}
      data-status=${slot.status}
      data-place=${view.place}
      ?data-hour=${slot.orario.endsWith(':00')}
      ?data-mine=${slot.mine}
      ?data-ending=${slot.isEnding}
      ?data-pending=${view.isAsked}
      ?data-changed=${view.isChanged}
    >
      <span class="time" aria-hidden="true">${times.start(slot)}</span>
      <span class="what" part="block" aria-hidden="true"
        ><span class="word">${wordOf(slot, view.place, texts)}</span><span class="left" data-left=${view.left}></span></span
      >
    </div>
  `;
}

/** The accessible name: the local start, then the text of the row, then the facts that the row shows without text. */
function nameOf(slot: Slot, times: Times, texts: Texts): string {
  const own = times.ownSpan(slot);
  const end = times.end(slot);
  const more = [end === null ? '' : texts.until(end), own === null ? '' : texts.alsoForYou(own)];
  return [times.start(slot), ...wordsOf(slot, texts), ...more].filter(Boolean).join(', ');
}

/** The state of a slot, whose it is, and what staff wrote. */
function wordsOf(slot: Slot, texts: Texts): string[] {
  const user = slot.user !== null && !slot.mine ? texts.userIs(slot.user) : '';
  return [slot.mine ? texts.yours : '', statusOf(slot, texts), user, noteOf(slot)].filter(Boolean);
}

function statusOf({ status, mine }: Slot, texts: Texts): string {
  return mine && status === 'occupied' ? texts.ownHold : texts.status[status];
}

/** A block is named once, at its top. */
function wordOf(slot: Slot, place: Place, texts: Texts): string {
  if (slot.status === 'available' || place === 'middle' || place === 'last') return '';
  if (slot.status === 'past') return '';
  return wordsOf(slot, texts).join(', ');
}

function leftOf(slot: Slot, place: Place, texts: Texts, now: number): string {
  if (slot.heldUntil === null || place === 'middle' || place === 'last') return '';
  const left = slot.heldUntil - now;
  return slot.mine ? countdown(left) : texts.heldByOther(texts.minutes(Math.max(1, Math.ceil(left / 60_000))));
}

/** A finger drags these; the rows themselves are for scrolling. The keyboard has its own ways. */
function handle(end: 'from' | 'to', actions: ColumnActions): TemplateResult {
  return html`
    <div class="handle" part="handle" data-end=${end} aria-hidden="true" @pointerdown=${(event: PointerEvent) => actions.handleDown(end, event)}>
      <i></i>
    </div>
  `;
}
