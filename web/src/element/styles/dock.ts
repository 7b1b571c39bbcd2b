import { css } from 'lit';

/** Everything below the column: cards of holds, notices, the bar of acts. */
export const dock = css`
  /* On a small screen the column shrinks first, then cards and notices. The bar stays. */
  .dock {
    flex: 0 1 auto;
    display: flex;
    flex-direction: column;
    min-height: 0;
    gap: 0.5rem;
    padding-block: 0.5rem;
  }

  .cards {
    display: grid;
    gap: 0.5rem;
    flex: 0 1 auto;
    min-height: 4rem;
    max-height: 14rem;
    overflow: auto;
  }

  .cards:empty,
  .notices:empty {
    display: none;
  }

  .notices {
    flex: none;
    display: grid;
    max-height: 7rem;
    overflow: auto;
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

  .acts button {
    padding: 0 min(0.9rem, 2.5vw);
  }

  .span {
    white-space: nowrap;
  }

  .hold-text {
    text-wrap: balance;
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
    /* In forced colours the bar would have the colour of its background. */
    forced-color-adjust: none;
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
    flex: none;
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    align-items: center;
    gap: 0.25rem 0.75rem;
  }

  .bar > p {
    display: grid;
    align-items: center;
    min-height: 48px;
    max-height: 4.05em;
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

  /* No gaps, so that the buttons of both ends and the one that clears the choice fit in one line at 320 px. */
  .steps:not([data-staff]) {
    gap: 0;
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
`;
