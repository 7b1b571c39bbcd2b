/** The languages that there are, by the code of `lang`. */

import { english } from './en.js';
import { italian } from './it.js';
import type { Texts } from './texts.js';

export { english } from './en.js';
export { italian } from './it.js';
export { sayRefusal, type RefusalCode, type RefusalDetail, type Texts } from './texts.js';

/** The texts of a language, `it-CH` as `it`; Italian where there is none, as the server's own. */
export function textsOf(language: string | null | undefined): Texts {
  return (language ?? '').toLowerCase().split('-')[0] === 'en' ? english : italian;
}
