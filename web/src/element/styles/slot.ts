import { css } from 'lit';

/** One slot: each state by a pattern and a word, never by colour alone. */
export const slot = css`
  .slot {
    position: relative;
    display: grid;
    grid-template-columns: 3.75rem minmax(0, 1fr);
    min-height: var(--_row);
    cursor: pointer;
  }

  /* A row out of sight costs no drawing, however many slots change. */
  .slots[data-many] .slot {
    content-visibility: auto;
    contain-intrinsic-height: auto var(--_row);
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

  /* A block has no lines inside, because a line would cut the mark at its side. */
  .slot:is([data-place='middle'], [data-place='last']) .what {
    border-top-width: 0;
  }

  @media (hover: hover) {
    .slot[data-status='available']:not([aria-selected='true']):hover .what {
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
    border-top-width: 0;
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

  /* The countdown is no text for screen readers, because it changes each second and the card tells it in words. */
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
`;
