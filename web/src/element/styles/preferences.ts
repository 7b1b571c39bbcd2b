import { css } from 'lit';

/** The person's preferences in the system's settings: less motion, colours of their own. */
export const preferences = css`
  @media (prefers-reduced-motion: reduce) {
    .slot .what {
      animation: none !important;
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
