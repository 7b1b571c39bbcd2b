/** The page that a node serves: the board, the spaces to choose from, and the user. It is a client like any other. */

import { connect } from '../client.js';
import type { SpaceId } from '../core/protocol.js';
import type { SpaceListing } from '../http.js';
import '../element/index.js';
import { today } from '../element/model.js';
import { readAddress, writeAddress, type Where } from './address.js';
import { element, make, setText } from './dom.js';
import { LANGUAGE, recall, remember } from './memory.js';
import { Overview } from './overview.js';
import { Session } from './session.js';
import { pageEnglish, pageItalian, type PageTexts } from './texts.js';

const board = element<HTMLElementTagNameMap['slotcast-board']>('board');
let texts: PageTexts = pageItalian;
let where: Where = readAddress().where;
let spaces: readonly SpaceListing[] = [];

const linked = readAddress().token;
const session: Session = new Session(
  () => client,
  () => texts,
);
if (linked) session.offer(linked);
const client = connect({ token: () => session.token });
const overview = new Overview(
  client,
  () => texts,
  nameOf,
  (to) => go(to, 'push'),
);

start();

function start(): void {
  speak(recall(LANGUAGE) ?? navigator.language);
  board.client = client;
  go(where, 'replace');
  client.subscribe(() => {
    session.draw();
    session.look();
  });
  for (const name of ['held', 'booked', 'released', 'ended']) board.addEventListener(name, () => overview.refresh());
  board.addEventListener('signin', () => session.ask());
  board.addEventListener('daychange', (event) => go({ ...where, date: (event as CustomEvent<Where>).detail.date }, 'push'));
  listen();
  void session.learn();
  void listSpaces();
  setInterval(() => {
    session.draw();
    overview.draw();
    // Not while somebody types another one.
    if (document.activeElement !== element('date')) drawDay();
  }, 1_000);
}

/** Shows a space and a day. */
function go(to: Where, how: 'push' | 'replace'): void {
  where = to;
  board.sede = to.sedeId;
  board.spazio = to.spazioId;
  board.date = to.date;
  writeAddress(to, how);
  draw();
}

/** A link that is opened in this tab, or Back and Forward: to another space or day, or with a token. */
function followAddress(): void {
  const { where: to, token } = readAddress();
  go(to, 'replace');
  if (!token) return;
  const before = session.token;
  session.offer(token);
  if (session.token !== before) void client.setToken(() => session.token);
}

function listen(): void {
  addEventListener('popstate', followAddress);
  addEventListener('hashchange', followAddress);
  element('place').addEventListener('submit', (event) => event.preventDefault());
  element<HTMLSelectElement>('choose').addEventListener('change', ({ target }) => {
    const [sedeId, spazioId] = (target as HTMLSelectElement).value.split('/').map(Number) as [number, number];
    go({ ...where, sedeId, spazioId }, 'push');
  });
  for (const id of ['site', 'space']) {
    element(id).addEventListener('change', () => {
      if (!element<HTMLFormElement>('place').reportValidity()) return;
      const [sedeId, spazioId] = ['site', 'space'].map((one) => Number(element<HTMLInputElement>(one).value)) as [number, number];
      go({ ...where, sedeId, spazioId }, 'push');
    });
  }
  element('date').addEventListener('change', ({ target }) => {
    const { value } = target as HTMLInputElement;
    if (value) go({ ...where, date: value }, 'push');
  });
  element('today').addEventListener('click', () => go({ ...where, date: undefined }, 'push'));
  element('language').addEventListener('click', () => {
    const other = texts === pageItalian ? 'en' : 'it';
    remember(LANGUAGE, other);
    speak(other);
    draw();
  });
}

/** The registered spaces, to choose from; where the node tells none, they are named by number. */
async function listSpaces(): Promise<void> {
  spaces = await client.calls.spaces().catch(() => []);
  draw();
}

function nameOf({ sedeId, spazioId }: SpaceId): string {
  const known = spaces.find((space) => space.sedeId === sedeId && space.spazioId === spazioId);
  return known?.name ?? `${texts.space} ${spazioId}, ${texts.site.toLowerCase()} ${sedeId}`;
}

function speak(language: string): void {
  texts = language.toLowerCase().startsWith('it') ? pageItalian : pageEnglish;
  document.documentElement.lang = texts === pageItalian ? 'it' : 'en';
  board.lang = document.documentElement.lang;
  document.title = texts.title;
  for (const node of document.querySelectorAll<HTMLElement>('[data-text]')) {
    const text = texts[node.dataset['text'] as keyof PageTexts];
    if (typeof text === 'string') setText(node, text);
  }
  element('aside').setAttribute('aria-label', texts.aside);
  session.draw();
  overview.draw();
}

function draw(): void {
  drawChooser();
  element<HTMLInputElement>('site').value = String(where.sedeId);
  element<HTMLInputElement>('space').value = String(where.spazioId);
  drawDay();
}

/** The day that the board shows: without one in the address it is today where the space is. */
function drawDay(): void {
  const date = element<HTMLInputElement>('date');
  const shown = where.date ?? today(client.space(where).state.timeZone, client.now());
  if (date.value !== shown) date.value = shown;
}

function drawChooser(): void {
  const isHere = ({ sedeId, spazioId }: SpaceId) => sedeId === where.sedeId && spazioId === where.spazioId;
  element('choose-label').hidden = spaces.length === 0;
  for (const id of ['site-label', 'space-label']) element(id).hidden = spaces.length > 0;
  const listed: readonly SpaceId[] = spaces.some(isHere) ? spaces : [...spaces, where];
  const options = listed.map((space) => {
    const option = make('option', '', nameOf(space));
    option.value = `${space.sedeId}/${space.spazioId}`;
    option.selected = isHere(space);
    return option;
  });
  element('choose').replaceChildren(...options);
}
