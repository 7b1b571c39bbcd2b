/** The looks of the board, by what they style. */

import { base } from './base.js';
import { column } from './column.js';
import { dock } from './dock.js';
import { heading } from './heading.js';
import { preferences } from './preferences.js';
import { slot } from './slot.js';

/** The preferences of the person come last, so that they win. */
export const styles = [base, heading, column, slot, dock, preferences];
