/** Everything below the column: the card of each own hold, the notices, and the bar of acts. */

import { html, nothing, type TemplateResult } from 'lit';
import { repeat } from 'lit/directives/repeat.js';

import type { Act, Ended, Slot } from '../../core/state.js';
import { isIn } from '../choice.js';
import type { Model, Notice } from '../model.js';
import { holdsOf, mayExtend, type OwnGroup } from '../own.js';
import { countdown, duration } from '../times.js';

/** After how long without an answer the board says that it is still asking, in ms. */
const STILL_ASKING_MS = 2_000;

/** Makes a listener that counts a press only where the button stood before; `what` names it with what it acts on. */
export type Press = (what: string, run: () => void) => (event: MouseEvent) => void;

/** A button that says by `data-press` what it is to the guard of presses. */
export function button(
  press: Press,
  what: string,
  name: string,
  run: () => void,
  { kind = '', isOff = false, label }: { kind?: string; isOff?: boolean; label?: string } = {},
): TemplateResult {
  return html`
    <button
      type="button"
      class=${kind}
      data-press=${what}
      aria-disabled=${isOff}
      aria-label=${label ?? nothing}
      @click=${press(what, run)}
    >
      ${name}
    </button>
  `;
}

const SPAN = /(\d+:\d+(?: \(.*?\))?[^\d.,:;]{1,4}\d+:\d+(?: \(.*?\))?)/;

/** A text whose spans of time each stay in one line: a browser would break them after the dash. */
export function unbroken(text: string): (string | TemplateResult)[] {
  return text.split(SPAN).map((part, index) => (index % 2 ? html`<span class="span">${part}</span>` : part));
}

/** All of it. */
export function dock(model: Model, press: Press): TemplateResult {
  return html`
    <div class="dock" part="dock">
      <div class="cards">${repeat(holdsOf(model.slots), ({ key }) => key, (hold) => card(model, hold, press))}</div>
      <div class="notices">${repeat(notices(model), ({ key }) => key, (notice) => draw(notice, press))}</div>
      ${bar(model, press)}
    </div>
  `;
}

/** The card of an own hold: its time left and its acts. The button that releases is on the other side. */
function card(model: Model, { key, slots }: OwnGroup, press: Press): TemplateResult {
  const { texts } = model;
  const first = slots[0] as Slot;
  const span = model.times.spans(slots);
  const isOff = slots.some((slot) => model.isAsked(slot));
  const left = (first.heldUntil ?? 0) - model.client.now();
  const whole = (first.heldUntil ?? 0) - (first.heldAt ?? (first.heldUntil ?? 0) - 900_000);
  const act = (name: string, what: Act, kind: string) =>
    button(press, `${what} ${key}`, name, () => void model.act(what, slots), { kind, isOff });
  return html`
    <section class="card" part="card" data-card=${key} data-slots=${slots.map(({ number }) => number).join(' ')} aria-label=${texts.actsOnHold(span)}>
      <p class="hold-text">
        <strong>${unbroken(first.isEnding ? texts.ending(span, countdown(left)) : texts.heldByYou(span, countdown(left)))}</strong>
      </p>
      <progress aria-hidden="true" max=${whole} .value=${Math.max(0, Math.min(left, whole))} ?data-ending=${first.isEnding}></progress>
      <div class="acts">
        ${act(texts.release, 'release', 'plain')}
        <span class="gap"></span>
        ${mayExtend(first) ? act(texts.extend, 'extend', '') : nothing} ${act(texts.book, 'book', 'primary')}
      </div>
    </section>
  `;
}

function notices(model: Model): Notice[] {
  const { space, day, notice } = model;
  const ended = (space?.ended ?? []).filter(({ date }) => date === day?.date);
  return [...doubts(model), ...ended.map((end) => endNotice(model, end)), ...(notice ? [notice] : [])];
}

function doubts({ texts, pending, client, reconnect }: Model): Notice[] {
  const waiting = pending.filter(({ at, since }) => at === null && client.now() - since >= STILL_ASKING_MS);
  const again = { name: texts.tryAgain, run: reconnect };
  return waiting.map(({ id, isDoubtful }) =>
    isDoubtful ? { key: `doubt ${id}`, text: texts.doubt, action: again } : { key: `asking ${id}`, text: texts.stillAsking },
  );
}

function endNotice(model: Model, { slots, at }: Ended): Notice {
  const gone = model.slots.filter(({ number }) => slots.includes(number));
  const text = model.texts.ended(model.times.spans(gone));
  const isFree = gone.length > 0 && gone.every(({ status }) => status === 'available');
  const again = { name: model.texts.holdAgain, run: () => void model.act('hold', gone) };
  return { key: `ended ${at} ${slots[0]}`, text, ...(isFree && { action: again }) };
}

function draw({ key, text, action }: Notice, press: Press): TemplateResult {
  return html`
    <p class="notice" part="notice" data-notice=${key.split(' ')[0] ?? ''}>
      <span>${unbroken(text)}</span>
      ${action ? button(press, `notice ${key}`, action.name, action.run) : nothing}
    </p>
  `;
}

/** The bar is always there, so nothing moves when a slot is chosen. */
function bar(model: Model, press: Press): TemplateResult {
  const { texts, choice } = model;
  const isLost = choice !== null && model.looked.lost.length > 0;
  const main = model.isGuest
    ? button(press, 'signin', texts.signIn, model.signIn, { kind: 'primary' })
    : button(press, 'hold', texts.hold, () => void model.hold(), { kind: 'primary', isOff: !model.mayHold });
  return html`
    <div class="bar" part="bar" role="group" aria-labelledby="chosen">
      <p id="chosen" ?data-lost=${isLost}>${barText(model)}</p>
      ${main} ${isLost ? restOffer(model, press) : steppers(model, press)}
      ${model.isStaff ? staffActs(model, press) : nothing}
    </div>
  `;
}

function barText(model: Model): string {
  const { texts, choice, times, stopped } = model;
  if (!choice) {
    if (model.isGuest) return texts.signInHint;
    return model.isStaff ? texts.staffHint : texts.chooseHint;
  }
  const { free, lost } = model.looked;
  if (lost.length > 0) return free.length > 0 ? texts.lost(times.spans(lost)) : texts.nothingLeft(times.spans(lost));
  const slots = free.length > 0 ? free : model.slots.filter((slot) => isIn(choice, slot));
  const chosen = texts.chosen(times.spans(slots), duration(texts, choice.to - choice.from));
  return stopped ? `${chosen}. ${stopped}` : chosen;
}

function restOffer(model: Model, press: Press): TemplateResult {
  const { rest, texts } = model;
  const slots = rest ? model.slots.filter((slot) => isIn(rest, slot)) : [];
  const span = model.times.spans(slots);
  return html`
    <div class="steps">
      ${rest ? button(press, `rest ${span}`, texts.offerRest(span), () => model.takeRest()) : nothing}
      <span class="gap"></span>
      ${button(press, 'clear', '✕', () => model.clear(), { kind: 'plain', label: texts.clear })}
    </div>
  `;
}

/** Buttons that move each end of the choice earlier or later. */
function steppers(model: Model, press: Press): TemplateResult {
  const { texts } = model;
  const isOff = model.choice === null;
  const stepper = (end: 'from' | 'to', by: 1 | -1) => {
    const label = `${end === 'from' ? texts.startOfChoice : texts.endOfChoice}: ${by < 0 ? texts.earlier : texts.later}`;
    return button(press, `${end} ${by}`, by < 0 ? '−' : '+', () => model.step(end, by), { kind: 'plain', isOff, label });
  };
  return html`
    <div class="steps">
      <span class="end" aria-hidden="true">${texts.startOfChoice}</span>${stepper('from', -1)}${stepper('from', 1)}
      <span class="end" aria-hidden="true">${texts.endOfChoice}</span>${stepper('to', -1)}${stepper('to', 1)}
      <span class="gap"></span>
      ${button(press, 'clear', '✕', () => model.clear(), { kind: 'plain', isOff, label: texts.clear })}
    </div>
  `;
}

function staffActs(model: Model, press: Press): TemplateResult {
  const { texts } = model;
  const isOff = model.looked.free.length === 0;
  return html`
    <div class="steps" data-staff>
      ${button(press, 'free', texts.free, () => void model.change('available'), { isOff })}
      ${button(press, 'mark', texts.markBooked, () => void model.change('booked'), { isOff })}
      ${button(press, 'close', texts.closeSlots, () => void model.change('blocked'), { isOff })}
    </div>
  `;
}
