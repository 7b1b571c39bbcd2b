import { css } from 'lit';

/** The column of time: what scrolls, the line of the present, the handles of a choice. */
export const column = css`
  /* Only the column scrolls: the bar below it is always there, and never over a row. */
  .frame {
    flex: 1 1000000 auto;
    min-height: 5rem;
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

  /* A wall screen: nobody taps it, everybody reads it, and the day fills it. */
  @media (min-width: 110rem) and (min-height: 60rem) {
    .day {
      display: grid;
      min-height: 100%;
    }

    .slots {
      display: grid;
      grid-auto-rows: minmax(var(--_row), 1fr);
    }
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

    /* Half a handle stands above the first row, and below the last one. */
    .day {
      padding-block: 12px;
    }
  }

  .empty {
    padding: 2rem 1rem;
    color: var(--_quiet);
    text-align: center;
  }
`;
