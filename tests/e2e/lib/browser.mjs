// The browser that tests drive.

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The path of a Chromium: that in CHROMIUM, or the first in PATH; `undefined` where there is none. */
export function findBrowser() {
  return process.env.CHROMIUM ?? inPath(['chromium', 'chromium-browser', 'google-chrome']);
}

/** The path of a Firefox: that in FIREFOX, or the first in PATH; `undefined` where there is none. */
export function findFirefox() {
  return process.env.FIREFOX ?? inPath(['firefox-esr', 'firefox']);
}

function inPath(names) {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable);
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
