/** Above the column: which space and day, and how the connection is. Beside it: own bookings of the day. */

import { html, nothing, type TemplateResult } from 'lit';
import { repeat } from 'lit/directives/repeat.js';

import type { Slot } from '../../core/state.js';
import { sayRefusal } from '../../texts/index.js';
import type { Model } from '../model.js';
import { bookingsOf, mayCancel, type OwnGroup } from '../own.js';
import { dayName } from '../times.js';
import { button, unbroken, type Press } from './dock.js';

/** The day, with buttons for the days before and after it. `go` shows the day that is so many days later. */
export function heading(model: Model, name: string | undefined, press: Press, go: (days: number) => void): TemplateResult {
  const { texts } = model;
  const zone = model.times.foreignZone(model.slots);
  const isStale = model.client.state.link !== 'online' || model.day?.state?.inSync === false;
  return html`
    <div class="heading" part="toolbar">
      ${button(press, 'day before', '‹', () => go(-1), { kind: 'plain arrow', label: texts.previousDay })}
      <h2 id="title">${title(model, name)}</h2>
      ${button(press, 'day after', '›', () => go(1), { kind: 'plain arrow', label: texts.nextDay })}
      <slot name="header"></slot>
    </div>
    <p class="connection" data-link=${model.client.state.link} ?data-stale=${isStale}>
      <span>${connectionText(model)}</span>${zone ? html`<span class="zone">${texts.zone(zone)}</span>` : nothing}
    </p>
  `;
}

function title({ place, space, texts }: Model, name: string | undefined): string {
  if (!place) return '';
  const known = name ?? space?.name ?? texts.spaceName(place.spazioId, place.sedeId);
  return texts.slotsOf(known, dayName(place.date, texts.language));
}

function connectionText({ texts, client, space, day, times }: Model): string {
  const { link } = client.state;
  // The slots that are shown are from before the refusal, and no event follows.
  if (link === 'online' && space?.refusal) return sayRefusal(texts, { conflicts: '', rest: '', code: space.refusal.code });
  if (link === 'online') return day?.state?.inSync ? texts.live : texts.catchingUp;
  if (link === 'refused') return texts.refusedLink;
  if (link === 'closed') return texts.closedLink;
  if (link === 'offline' && space?.offlineSince) return texts.offlineSince(times.clock(space.offlineSince));
  return texts.connecting;
}

/** The own bookings of the day. Each has *Cancel*, or the reason why it cannot be cancelled. */
export function bookings(model: Model, press: Press): TemplateResult | typeof nothing {
  const own = bookingsOf(model.slots, model.client.now());
  if (own.length === 0) return nothing;
  return html`
    <section class="bookings" part="bookings" aria-labelledby="bookings">
      <h3 id="bookings">${model.texts.yourBookings}</h3>
      <ul>
        ${repeat(
          own,
          ({ key }) => key,
          (group) => booking(model, group, press),
        )}
      </ul>
    </section>
  `;
}

function booking(model: Model, { key, slots }: OwnGroup, press: Press): TemplateResult {
  const { texts, times } = model;
  // The deadline of the first slot comes first, and the act cancels all slots or none.
  const until = Math.min(...slots.map(({ cancelUntil }) => cancelUntil ?? 0));
  const isCancellable = mayCancel(slots[0] as Slot, model.client.now());
  const isOff = slots.some((slot) => model.isAsked(slot));
  const span = times.spans(slots);
  const label = `${texts.cancel}: ${span}`;
  return html`
    <li data-card=${key}>
      <span><strong>${unbroken(span)}</strong> · ${isCancellable ? texts.cancelUntil(times.clock(until)) : texts.notCancellable}</span>
      ${isCancellable ? button(press, `cancel ${key}`, texts.cancel, () => void model.act('release', slots), { isOff, label }) : nothing}
    </li>
  `;
}
