import { css } from 'lit';

/** Above the column: the day, the connection. Below it: own bookings. */
export const heading = css`
  /* The arrows keep their place, however long the day's name is. */
  .heading {
    display: grid;
    grid-template-columns: 44px minmax(0, 1fr) 44px;
    align-items: center;
    gap: 0 0.25rem;
  }

  .heading h2 {
    font-size: 1.0625rem;
    text-align: center;
    text-wrap: balance;
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

  /* With a named zone the longest sentence takes two lines, so the room of two lines is always there. */
  .connection:has(.zone) {
    min-height: 2.75rem;
  }

  .connection span:first-child::before {
    content: '● ';
    color: light-dark(#15803d, #4ade80);
  }

  .connection[data-stale] span:first-child::before {
    content: '○ ';
    color: var(--_warning);
  }

  .heading,
  .connection {
    flex: none;
  }

  .bookings {
    flex: 0 1 auto;
    min-height: 4.5rem;
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
    display: grid;
    grid-template-columns: minmax(0, 1fr) auto;
    align-items: center;
    gap: 0 0.5rem;
    font-size: 0.875rem;
  }
`;
