import { css } from 'lit';

/** The looks of the board. Hosts set the custom properties; each has a default from the system. */
export const styles = css`
  :host {
    --_accent: var(--slotcast-accent, light-dark(#4338ca, #a5b4fc));
    --_accent-text: var(--slotcast-accent-text, light-dark(#fff, #14142b));
    --_paper: var(--slotcast-paper, Canvas);
    --_text: var(--slotcast-text, CanvasText);
    --_quiet: var(--slotcast-quiet, color-mix(in srgb, var(--_text) 70%, var(--_paper)));
    --_line: var(--slotcast-line, color-mix(in srgb, var(--_text) 16%, var(--_paper)));
    --_taken: var(--slotcast-booked, color-mix(in srgb, var(--_text) 15%, var(--_paper)));
    --_warning: var(--slotcast-warning, light-dark(#92400e, #fcd34d));
    --_radius: var(--slotcast-radius, 8px);
    --_row: var(--slotcast-row, max(44px, 2.75rem));

    color-scheme: light dark;
    display: flex;
    flex-direction: column;
    box-sizing: border-box;
    min-width: 0;
    /* Always the same: what comes and goes in the board moves neither its bar nor the page around it. */
    height: var(--slotcast-height, min(100dvh, 42rem));
    min-height: 18rem;
    background: var(--_paper);
    color: var(--_text);
    font: var(--slotcast-font, inherit);
    line-height: 1.35;
    container-type: inline-size;
  }

  :host([hidden]),
  [hidden] {
    display: none !important;
  }

  *,
  ::before {
    box-sizing: border-box;
  }

  p,
  h2,
  h3,
  ul {
    margin: 0;
    padding: 0;
  }

  button {
    min-height: 44px;
    min-width: 44px;
    padding: 0 0.9rem;
    border: 1px solid var(--_line);
    border-radius: var(--_radius);
    background: var(--_paper);
    color: inherit;
    font: inherit;
    cursor: pointer;
    touch-action: manipulation;
  }

  button.primary {
    border-color: var(--_accent);
    background: var(--_accent);
    color: var(--_accent-text);
    font-weight: 600;
  }

  button.plain {
    border-color: transparent;
    background: none;
    color: var(--_quiet);
  }

  button[aria-disabled='true'] {
    border-color: var(--_line);
    background: color-mix(in srgb, var(--_text) 6%, var(--_paper));
    color: var(--_quiet);
    cursor: default;
  }

  button.plain[aria-disabled='true'] {
    border-color: transparent;
    background: none;
  }

  :focus-visible {
    outline: 3px solid var(--_accent);
    outline-offset: -2px;
  }

  /* The arrows stand where they stand, however long the day's name is. */
  .heading {
    display: grid;
    grid-template-columns: 44px minmax(0, 1fr) 44px;
    align-items: center;
    gap: 0 0.25rem;
  }

  .heading h2 {
    font-size: 1.0625rem;
    text-align: center;
    overflow-wrap: anywhere;
  }

  .heading slot {
    grid-column: 1 / -1;
  }

  .arrow {
    padding: 0;
    font-size: 1.5rem;
  }

  .connection {
    display: flex;
    flex-wrap: wrap;
    justify-content: center;
    gap: 0 0.75rem;
    min-height: 1.5rem;
    padding-bottom: 0.25rem;
    color: var(--_quiet);
    font-size: 0.875rem;
    text-align: center;
  }

  .connection span:first-child::before {
    content: '● ';
    color: light-dark(#15803d, #4ade80);
  }

  .connection[data-stale] span:first-child::before {
    content: '○ ';
    color: var(--_warning);
  }

  /* Only the column scrolls: the bar below it is always there, and never over a row. */
  .frame {
    flex: 1 1 auto;
    min-height: 8rem;
    overflow: hidden auto;
    border-block: 1px solid var(--_line);
    overscroll-behavior: contain;
    scrollbar-width: thin;
  }

  .day {
    position: relative;
  }

  .slots {
    touch-action: pan-y;
    user-select: none;
    -webkit-user-select: none;
  }

  .slots[data-many] {
    --_row: var(--slotcast-row, max(26px, 1.625rem));
  }

  .slot {
    position: relative;
    display: grid;
    grid-template-columns: 3.75rem minmax(0, 1fr);
    min-height: var(--_row);
    cursor: pointer;
  }

  .slot .time {
    padding: 0.15rem 0.5rem 0 0.25rem;
    border-top: 1px solid transparent;
    font-variant-numeric: tabular-nums;
    font-size: 0.8125rem;
    text-align: end;
  }

  .slots[data-many] .slot:not([data-hour]) .time {
    color: transparent;
  }

  .slots[data-many] .slot:is(:hover, :focus-visible, [aria-selected='true']) .time {
    color: var(--_quiet);
  }

  .slot .what {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    justify-content: space-between;
    gap: 0 0.75rem;
    min-width: 0;
    padding: 0 0.75rem;
    border-top: 1px solid var(--_line);
    overflow-wrap: anywhere;
    font-size: 0.9375rem;
    transition: background-color 150ms;
  }

  .slots[data-many] .what {
    font-size: 0.8125rem;
  }

  .slots[data-many] .slot:not([data-hour]) .what {
    border-top-style: dotted;
    border-top-color: color-mix(in srgb, var(--_text) 9%, var(--_paper));
  }

  .slot:first-child .what {
    border-top-color: transparent;
  }

  .slot[data-place='first'] .what,
  .slot[data-place='only'] .what {
    border-start-start-radius: var(--_radius);
    border-start-end-radius: var(--_radius);
  }

  .slot[data-place='last'] .what,
  .slot[data-place='only'] .what {
    border-end-start-radius: var(--_radius);
    border-end-end-radius: var(--_radius);
  }

  .slot[data-status='available'] .what {
    border-radius: 0;
  }

  .slot:is([data-place='middle'], [data-place='last']) .what {
    border-top-color: transparent;
  }

  @media (hover: hover) {
    .slot[data-status='available']:hover .what {
      background: color-mix(in srgb, var(--_accent) 9%, var(--_paper));
    }
  }

  .slot[data-status='past'] {
    cursor: default;
  }

  .slot[data-status='past'] .time {
    color: var(--_quiet);
  }

  .slot[data-status='past'] .what {
    border-radius: 0;
    background: color-mix(in srgb, var(--_text) 4%, var(--_paper));
  }

  .slot[data-status='booked'] .what {
    background: var(--_taken);
  }

  .slot[data-status='occupied'] .what {
    background: repeating-linear-gradient(-45deg, transparent 0 6px, color-mix(in srgb, var(--_taken) 75%, transparent) 6px 12px);
    background-attachment: fixed;
  }

  .slot[data-status='blocked'] .what {
    background: color-mix(in srgb, var(--_text) 5%, var(--_paper));
    color: var(--_quiet);
    font-style: italic;
  }

  .slot[data-mine] .what {
    background: color-mix(in srgb, var(--_accent) 20%, var(--_paper));
    box-shadow: inset 4px 0 0 var(--_accent);
    font-weight: 600;
  }

  .slot[data-mine][data-status='booked'] .what {
    background: color-mix(in srgb, var(--_accent) 30%, var(--_paper));
  }

  .slot[data-ending] .left {
    color: var(--_warning);
  }

  .slot[aria-selected='true'] .what {
    border-top-color: transparent;
    border-radius: 0;
    background: color-mix(in srgb, var(--_accent) 16%, var(--_paper));
    box-shadow: inset 3px 0 0 var(--_accent), inset -3px 0 0 var(--_accent);
  }

  .slot[data-pending] .what {
    animation: asked 700ms ease-in-out infinite alternate;
  }

  .slot[data-changed] .what {
    animation: changed 900ms ease-out;
  }

  /* Not a text: it changes each second, and the card has it in words. */
  .slot .left::before {
    content: attr(data-left);
  }

  .slot .left {
    font-variant-numeric: tabular-nums;
    font-weight: 400;
    white-space: nowrap;
  }

  .slot[data-mine] .left {
    font-weight: 600;
  }

  .now {
    position: absolute;
    inset-inline: 3.25rem 0;
    height: 2px;
    background: light-dark(#dc2626, #f87171);
    pointer-events: none;
  }

  .now::before {
    content: '';
    position: absolute;
    inset-inline-start: 0;
    top: -3px;
    width: 8px;
    height: 8px;
    border-radius: 50%;
    background: inherit;
  }

  .handle {
    position: absolute;
    inset-inline-end: 0.5rem;
    display: none;
    place-items: center;
    width: 44px;
    height: 44px;
    margin-top: -22px;
    touch-action: none;
    cursor: ns-resize;
  }

  .handle[data-end='from'] {
    inset-inline-end: 4rem;
  }

  .handle i {
    width: 18px;
    height: 18px;
    border: 3px solid var(--_paper);
    border-radius: 50%;
    background: var(--_accent);
    box-shadow: 0 0 0 1px var(--_accent);
  }

  @media (any-pointer: coarse) {
    .handle {
      display: grid;
    }
  }

  .empty {
    padding: 2rem 1rem;
    color: var(--_quiet);
    text-align: center;
  }

  .bookings {
    flex: none;
    max-height: 8.5rem;
    overflow: auto;
    padding-block: 0.5rem;
    border-bottom: 1px solid var(--_line);
  }

  .bookings h3 {
    font-size: 0.875rem;
  }

  .bookings ul {
    list-style: none;
  }

  .bookings li {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    justify-content: space-between;
    gap: 0 0.5rem;
    font-size: 0.875rem;
  }

  .dock {
    flex: none;
    display: grid;
    gap: 0.5rem;
    padding-block: 0.5rem;
  }

  .cards {
    display: grid;
    gap: 0.5rem;
    max-height: 14rem;
    overflow: auto;
  }

  .cards:empty,
  .notices:empty {
    display: none;
  }

  .notices {
    display: grid;
    gap: 0.5rem;
  }

  .card {
    display: grid;
    gap: 0.4rem;
    padding: 0.5rem 0.5rem 0.5rem 0.75rem;
    border: 1px solid var(--_accent);
    border-radius: var(--_radius);
    background: color-mix(in srgb, var(--_accent) 8%, var(--_paper));
    font-variant-numeric: tabular-nums;
  }

  .acts,
  .steps {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    gap: 0.25rem;
  }

  .gap {
    flex: 1;
  }

  progress {
    appearance: none;
    -webkit-appearance: none;
    display: block;
    width: 100%;
    height: 5px;
    border: 0;
    border-radius: 3px;
    background: var(--_line);
    overflow: hidden;
  }

  progress::-webkit-progress-bar {
    background: var(--_line);
  }

  progress::-webkit-progress-value {
    background: var(--_accent);
  }

  progress::-moz-progress-bar {
    background: var(--_accent);
  }

  progress[data-ending]::-webkit-progress-value {
    background: var(--_warning);
  }

  .notice {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    justify-content: space-between;
    gap: 0.25rem 0.5rem;
    min-height: 44px;
    padding: 0.25rem 0.25rem 0.25rem 0.75rem;
    border: 1px solid var(--_warning);
    border-radius: var(--_radius);
    color: var(--_warning);
  }

  .notice span {
    flex: 1 1 12rem;
  }

  .bar {
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    align-items: center;
    gap: 0.25rem 0.75rem;
  }

  .bar > p {
    display: -webkit-box;
    min-height: 2.7em;
    max-height: 4.05em;
    align-content: center;
    overflow: auto;
  }

  .bar > p[data-lost] {
    color: var(--_warning);
    font-weight: 600;
  }

  .bar > button {
    min-width: 7.5rem;
    min-height: 48px;
  }

  .steps {
    grid-column: 1 / -1;
    color: var(--_quiet);
    font-size: 0.875rem;
  }

  .steps button.plain {
    padding: 0 0.5rem;
    font-size: 1rem;
  }

  .steps .end {
    padding-inline: 0.25rem 0;
  }

  .unseen {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }

  @keyframes asked {
    to {
      opacity: 0.45;
    }
  }

  @keyframes changed {
    from {
      background-color: color-mix(in srgb, var(--_accent) 35%, var(--_paper));
    }
  }

  @media (prefers-reduced-motion: reduce) {
    .slot .what {
      animation: none !important;
      transition: none !important;
    }
  }

  @media (forced-colors: active) {
    .slot:is([aria-selected='true'], [data-mine]) .what {
      outline: 2px solid Highlight;
      outline-offset: -2px;
    }

    .slot[data-status='booked'] .what {
      border-inline-start: 6px solid CanvasText;
    }

    .slot[data-status='occupied'] .what {
      border-inline-start: 6px dashed CanvasText;
    }
  }
`;
