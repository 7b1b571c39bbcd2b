import { css } from 'lit';

/** What the whole board shares: its colours and sizes, which a host may set, and its buttons. */
export const base = css`
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

  .unseen {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }
`;
