import { css } from 'lit';

/** The looks of the board. Hosts set the custom properties; each has a default from the system. */
export const styles = css`
  :host {
    --_accent: var(--slotcast-accent, light-dark(#4338ca, #a5b4fc));
    --_accent-text: var(--slotcast-accent-text, light-dark(#fff, #14142b));
    --_paper: var(--slotcast-paper, Canvas);
    --_text: var(--slotcast-text, CanvasText);
    --_quiet: var(--slotcast-quiet, color-mix(in srgb, var(--_text) 68%, var(--_paper)));
    --_line: var(--slotcast-line, color-mix(in srgb, var(--_text) 16%, var(--_paper)));
    --_booked: var(--slotcast-booked, color-mix(in srgb, var(--_text) 16%, var(--_paper)));
    --_warning: var(--slotcast-warning, light-dark(#92400e, #fcd34d));
    --_radius: var(--slotcast-radius, 10px);
    --_row: var(--slotcast-row, 44px);

    color-scheme: light dark;
    display: flex;
    flex-direction: column;
    gap: 0.5rem;
    min-width: 0;
    background: var(--_paper);
    color: var(--_text);
    font: var(--slotcast-font, inherit);
    line-height: 1.35;
  }

  :host([hidden]),
  [hidden] {
    display: none !important;
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
    opacity: 0.5;
    cursor: default;
  }

  :focus-visible {
    outline: 3px solid var(--_accent);
    outline-offset: 2px;
  }

  .heading {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    gap: 0.25rem 0.5rem;
  }

  .heading h2 {
    flex: 1 1 12rem;
    margin: 0;
    font-size: 1.125rem;
  }

  .connection {
    color: var(--_quiet);
    font-size: 0.875rem;
  }

  .connection[data-link='online']::before {
    content: '● ';
    color: light-dark(#15803d, #4ade80);
  }

  .zone {
    margin: 0;
    color: var(--_quiet);
    font-size: 0.875rem;
  }

  .slots {
    position: relative;
    display: grid;
    grid-auto-rows: minmax(var(--_row), auto);
    border-block: 1px solid var(--_line);
    touch-action: pan-y;
    user-select: none;
  }

  .slots[data-many] {
    --_row: 24px;
  }

  .slot {
    display: grid;
    grid-template-columns: 4.5rem 1fr auto;
    align-items: center;
    gap: 0.5rem;
    padding: 0 0.5rem 0 0;
    border-top: 1px solid var(--_line);
    cursor: pointer;
    transition: background-color 150ms;
  }

  .slots[data-many] .slot:not([data-hour]) {
    border-top-style: dotted;
  }

  .slots[data-many] .slot:not([data-hour]) .time {
    color: var(--_quiet);
    font-size: 0.75rem;
  }

  .slot:first-child {
    border-top: 0;
  }

  .slot .time {
    align-self: start;
    padding-top: 0.2rem;
    font-variant-numeric: tabular-nums;
    font-size: 0.875rem;
    white-space: nowrap;
  }

  .slot .what {
    align-self: stretch;
    display: flex;
    align-items: center;
    gap: 0.5rem;
    min-width: 0;
    padding: 0 0.6rem;
    overflow-wrap: anywhere;
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

  .slot[data-place='middle'],
  .slot[data-place='last'] {
    border-top-color: transparent;
  }

  .slot[data-status='past'] {
    color: var(--_quiet);
    cursor: default;
  }

  .slot[data-status='booked'] .what {
    background: var(--_booked);
  }

  .slot[data-status='occupied'] .what {
    background: repeating-linear-gradient(45deg, transparent 0 5px, var(--_booked) 5px 10px);
  }

  .slot[data-status='blocked'] .what {
    color: var(--_quiet);
    font-style: italic;
  }

  .slot[data-mine] .what {
    background: color-mix(in srgb, var(--_accent) 22%, var(--_paper));
    box-shadow: inset 4px 0 0 var(--_accent);
    font-weight: 600;
  }

  .slot[data-ending] .what {
    color: var(--_warning);
  }

  .slot[aria-selected='true'] {
    background: color-mix(in srgb, var(--_accent) 12%, var(--_paper));
  }

  .slot[aria-selected='true'] .what {
    box-shadow: inset 0 0 0 2px var(--_accent);
  }

  .slot[data-pending] .what {
    animation: asked 1s ease-in-out infinite alternate;
  }

  .slot[data-changed] .what {
    animation: changed 900ms ease-out;
  }

  .slot .left {
    font-variant-numeric: tabular-nums;
    white-space: nowrap;
  }

  .now {
    position: absolute;
    inset-inline: 0;
    height: 2px;
    background: light-dark(#dc2626, #f87171);
    pointer-events: none;
  }

  .cards,
  .notices {
    display: grid;
    gap: 0.5rem;
  }

  .card,
  .notice {
    display: flex;
    flex-wrap: wrap;
    align-items: center;
    gap: 0.5rem;
    margin: 0;
    padding: 0.6rem;
    border: 1px solid var(--_line);
    border-radius: var(--_radius);
  }

  .card p {
    flex: 1 1 10rem;
    margin: 0;
    font-variant-numeric: tabular-nums;
  }

  .notice {
    border-color: var(--_warning);
    color: var(--_warning);
  }

  .dock {
    position: sticky;
    bottom: 0;
    z-index: 1;
    display: grid;
    gap: 0.5rem;
    padding-block: 0.5rem;
    border-top: 1px solid var(--_line);
    background: var(--_paper);
  }

  .bar {
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    align-items: center;
    gap: 0.5rem;
    min-height: 56px;
  }

  .bar p {
    margin: 0;
    max-height: 3.6em;
    overflow: auto;
  }

  .steps {
    display: flex;
    flex-wrap: wrap;
    gap: 0.25rem;
    grid-column: 1 / -1;
    align-items: center;
    color: var(--_quiet);
    font-size: 0.875rem;
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
    *,
    .slot .what {
      animation: none !important;
      transition: none !important;
    }
  }

  @media (forced-colors: active) {
    .slot[aria-selected='true'] .what,
    .slot[data-mine] .what {
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
