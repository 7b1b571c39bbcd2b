/** The looks of the board, by what they style. */

import { base } from './base.js';
import { column } from './column.js';
import { dock } from './dock.js';
import { heading } from './heading.js';
import { preferences } from './preferences.js';
import { slot } from './slot.js';

/** In this order: what a person has asked of the system comes last. */
export const styles = [base, heading, column, slot, dock, preferences];
