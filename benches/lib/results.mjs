// RESULTS.md: each run replaces rows in the generated part between two marks. The rest is written by hand and stays.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { REPOSITORY } from './processes.mjs';
import { formatTable } from './table.mjs';

const FILE = join(REPOSITORY, 'benches/RESULTS.md');
const BEGIN = (name) => `<!-- begin ${name}: written by scripts/bench -->`;
const END = (name) => `<!-- end ${name} -->`;

/** Writes a measured row in its place, with the time and the machine. */
export function writeSection(machine, section) {
  writeFileSync(FILE, replacePart(readFileSync(FILE, 'utf8'), section.name, formatSection(section, machine)));
}

/** The text with the part of that name replaced. A new part goes before the last mark. */
export function replacePart(text, name, content) {
  const [begin, end] = [text.indexOf(BEGIN(name)), text.indexOf(END(name))];
  const part = `${BEGIN(name)}\n\n${content}\n\n${END(name)}`;
  if (begin >= 0 && end > begin) return text.slice(0, begin) + part + text.slice(end + END(name).length);
  const last = '<!-- rows end here -->';
  if (!text.includes(last)) throw new Error(`benches/RESULTS.md has no line "${last}"`);
  return text.replace(last, () => `${part}\n\n${last}`);
}

function formatSection({ name, title, lines, busiest }, machine) {
  const { date, command, commit, machine: hardware, ...versions } = machine;
  const programs = Object.entries(versions).map(([program, version]) => `${program} ${version}`);
  const noise = busiest >= 0.3 ? `\n\nOther programs kept up to ${busiest.toFixed(1)} cores busy while this was measured.` : '';
  return `### ${name}: ${title}

${formatTable(lines)}

${date}, commit ${commit}, \`${command}\`. ${hardware}. ${programs.join(', ')}.${noise}`;
}
