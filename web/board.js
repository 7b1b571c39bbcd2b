/**
 * The live board: one space on one day, as a page. What it knows comes from `slotcast-client.js`; here it is drawn and
 * the acts are sent. Texts are Italian, as the site's.
 */

import { io } from '/vendor/socket.io.esm.min.js';
import { Refusal, SlotcastClient } from '/slotcast-client.js';

const MAX_CHOSEN = 32;
const MAX_LOG_LINES = 200;
const TOAST_MS = 6_000;
const DEFAULT_ZONE = 'Europe/Rome';
/** What is remembered, and where: with the tab, or longer. */
const TAB_TOKEN = { store: 'tab', key: 'slotcast.token' };
const LAST_PLACE = { store: 'browser', key: 'slotcast.place' };
const STAFF_ROLES = new Set(['responsabile', 'gestore', 'amministratore', 'admin', 'servizio']);

/** Each status by a sign and a word, never by its colour alone. */
const STATUS_LABELS = {
  available: ['○', 'Disponibile'],
  occupied: ['◔', 'Occupato'],
  booked: ['●', 'Prenotato'],
  blocked: ['⊘', 'Chiuso'],
  past: ['–', 'Passato'],
};

const COUNT_LABELS = {
  available: ['disponibile', 'disponibili'],
  occupied: ['occupato', 'occupati'],
  booked: ['prenotato', 'prenotati'],
  blocked: ['chiuso', 'chiusi'],
  past: ['passato', 'passati'],
};

const ACT_LABELS = { hold: 'Bloccato', book: 'Prenotato', release: 'Rilasciato', extend: 'Prolungato' };

const element = (id) => document.getElementById(id);

/** The page's state: who is here, where, and what is chosen. */
const page = {
  token: undefined,
  claims: {},
  socket: undefined,
  client: undefined,
  board: undefined,
  zone: DEFAULT_ZONE,
  place: { sedeId: 1, spazioId: 1, date: undefined },
  /** Read by {@link choice} alone, which makes it anew for another space or day. */
  lastChoice: undefined,
  /** Slot number to its card. */
  cards: new Map(),
  /** `number until` to how long that hold had left when it was first seen here: the full length of its bar. */
  holdLengths: new Map(),
  holds: [],
  tokenEndsSoon: false,
  isActing: false,
};

start();

function start() {
  const hash = readHash();
  takePlace(hash);
  takeFirstToken(hash);
  addListeners();
  setInterval(tick, 1_000);
  if (page.token) {
    connect(page.token);
    return;
  }
  element('connection').textContent = 'senza token';
  askForToken();
}

// Place and token

/** What the address says: `#token=…&sede=…&spazio=…&giorno=…`. */
function readHash() {
  return new URLSearchParams(location.hash.slice(1));
}

function takePlace(hash) {
  const remembered = recallPlace();
  page.place.sedeId = idFrom(hash.get('sede')) ?? idFrom(remembered.sedeId) ?? 1;
  page.place.spazioId = idFrom(hash.get('spazio')) ?? idFrom(remembered.spazioId) ?? 1;
  const date = hash.get('giorno');
  page.place.date = isDate(date) ? date : todayIn(DEFAULT_ZONE);
  showPlace();
}

/** The tab's token, else that of the link. A link for another user than the tab's has to be confirmed. */
function takeFirstToken(hash) {
  const own = recall(TAB_TOKEN);
  const linked = hash.get('token') || undefined;
  page.token = own ?? linked;
  if (linked) offerToken(linked);
}

/** Takes the token of a link: at once for nobody or the same user, else when the person says so. */
function offerToken(linked) {
  const { id_utente: user } = readClaims(linked);
  const { id_utente: present } = readClaims(page.token ?? '');
  if (!page.token || String(user) === String(present)) {
    useToken(linked);
    return;
  }
  setText(element('switch-from'), String(present ?? '?'));
  for (const id of ['switch-to', 'switch-button']) setText(element(id), String(user ?? '?'));
  element('switch-accept').onclick = () => {
    element('switch-dialog').close();
    useToken(linked);
    connect(linked);
  };
  if (!element('switch-dialog').open) element('switch-dialog').showModal();
}

function useToken(token) {
  page.token = token;
  remember(TAB_TOKEN, token);
}

// The browser may refuse to remember anything, and what it remembers may be anything: the page goes on without.

function storageOf({ store }) {
  return store === 'tab' ? sessionStorage : localStorage;
}

function remember(what, text) {
  try {
    storageOf(what).setItem(what.key, text);
  } catch {
    // The next visit begins as the first one.
  }
}

function recall(what) {
  try {
    return storageOf(what).getItem(what.key) || undefined;
  } catch {
    return undefined;
  }
}

function recallPlace() {
  try {
    return Object(JSON.parse(recall(LAST_PLACE) ?? '{}'));
  } catch {
    return {};
  }
}

function idFrom(text) {
  return /^[1-9][0-9]{0,15}$/.test(text ?? '') ? Number(text) : undefined;
}

function isDate(text) {
  return /^\d{4}-\d{2}-\d{2}$/.test(text ?? '') && !Number.isNaN(Date.parse(text));
}

function showPlace() {
  const { sedeId, spazioId, date } = page.place;
  element('site').value = sedeId;
  element('space').value = spazioId;
  element('date').value = date;
  const day = new Date(`${date}T12:00:00Z`);
  const name = day.toLocaleDateString('it-IT', { dateStyle: 'full', timeZone: 'UTC' });
  element('day-name').textContent = `${name} · ora locale di ${page.zone}`;
  history.replaceState(null, '', `#sede=${sedeId}&spazio=${spazioId}&giorno=${date}`);
  remember(LAST_PLACE, JSON.stringify({ sedeId, spazioId }));
}

function todayIn(timeZone) {
  const now = page.client?.now() ?? Date.now();
  return new Intl.DateTimeFormat('en-CA', { timeZone, dateStyle: 'short' }).format(now);
}

function placeName({ sedeId, spazioId }) {
  return `Spazio ${spazioId}, sede ${sedeId}`;
}

function shortDay(date) {
  const format = { weekday: 'short', day: 'numeric', month: 'short', timeZone: 'UTC' };
  return new Date(`${date}T12:00:00Z`).toLocaleDateString('it-IT', format);
}

function shiftDay(date, days) {
  const day = new Date(`${date}T12:00:00Z`);
  day.setUTCDate(day.getUTCDate() + days);
  return day.toISOString().slice(0, 10);
}

async function goTo(place) {
  const before = page.place;
  page.place = { ...before, ...place };
  const sameSpace = page.place.sedeId === before.sedeId && page.place.spazioId === before.spazioId;
  showPlace();
  showEmpty('');
  if (!page.client) return;
  if (sameSpace && page.board) page.board.show(page.place.date);
  else await openSpace();
}

async function openSpace() {
  page.board?.close();
  const { sedeId, spazioId } = page.place;
  const board = page.client.open(page.place);
  page.board = board;
  board.addEventListener('change', drawSlots);
  board.addEventListener('refused', ({ detail }) => showEmpty(detail.message));
  element('log').replaceChildren();
  showEmpty('');
  drawSlots();
  await describeSpace(sedeId, spazioId);
}

async function describeSpace(sedeId, spazioId) {
  const space = await call('GET', `/api/spaces/${sedeId}/${spazioId}`).catch(() => ({}));
  if (page.place.sedeId !== sedeId || page.place.spazioId !== spazioId) return;
  page.zone = space.timezone ?? DEFAULT_ZONE;
  element('space-name').textContent = space.name ?? placeName({ sedeId, spazioId });
  showPlace();
}

// Connection

function connect(token) {
  const before = page.client;
  page.client = undefined;
  before?.close();
  page.token = token;
  page.claims = readClaims(token);
  // Nothing of another user is shown, not even until the first answer.
  page.lastChoice = undefined;
  page.holdLengths.clear();
  page.holds = [];
  drawHolds();
  page.tokenEndsSoon = false;
  page.socket = io({ auth: { token }, forceNew: true });
  page.client = new SlotcastClient(page.socket, { fetchBoard });
  page.board = undefined;
  page.client.addEventListener('state', drawConnection);
  page.client.addEventListener('tokenexpiring', warnOfTokenEnd);
  page.client.addEventListener('refused', ({ detail }) => showRefusal(detail));
  followEvents(page.socket);
  const { id_utente: user, ruolo: role } = page.claims;
  element('who').textContent = [user === undefined ? '' : `utente ${user}`, role].filter(Boolean).join(' · ');
  element('stats-panel').hidden = true;
  drawConnection();
  openSpace();
}

/** What the token says, for showing only: the server is the one that checks it. */
function readClaims(token) {
  try {
    const payload = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return {};
  }
}

function isStaff() {
  return STAFF_ROLES.has(page.claims.ruolo);
}

function followEvents(socket) {
  socket.on('connection_confirmed', () => {
    refreshHolds();
    if (isStaff()) socket.emit('watch_stats', {});
  });
  socket.on('joined_space', (event) => {
    logLine(event, event.recovered ? 'entrato, recuperato da dove eri' : 'entrato nello spazio');
  });
  socket.on('slot_update', (event) => {
    logUpdate(event);
    noticeUpdate(event);
  });
  socket.on('slots_status_update', (event) => {
    logLine(event, `stato completo${event.date === page.place.date ? '' : ` del ${event.date}`}`);
  });
  socket.on('slots_freed', (event) => {
    logLine(event, `${event.count === 1 ? 'liberato 1 slot scaduto' : `liberati ${event.count} slot scaduti`}`);
    refreshHolds();
  });
  socket.on('stats', drawStats);
}

function drawConnection() {
  if (!page.client) return;
  const { state, reason } = page.client;
  const expired = typeof page.claims.exp === 'number' && page.claims.exp * 1_000 <= page.client.now();
  const texts = {
    connecting: 'in connessione…',
    online: page.tokenEndsSoon ? 'connesso · token in scadenza' : 'connesso',
    reconnecting: 'riconnessione…',
    refused: expired ? 'token scaduto' : 'token rifiutato',
    closed: expired ? 'token scaduto' : 'disconnesso dal server',
  };
  element('connection').textContent = texts[state];
  element('connection').dataset.state = state;
  document.body.classList.toggle('offline', state !== 'online');
  if (state === 'refused') askForToken(`${texts.refused}: ${reason}`);
  if (state === 'closed') askForToken(`${texts.closed}. Per continuare serve un token.`);
  drawSlots();
}

function warnOfTokenEnd({ detail }) {
  page.tokenEndsSoon = true;
  drawConnection();
  const end = new Date(detail.expiresAt).toLocaleTimeString('it-IT');
  toast(`Il token scade alle ${end}: con “Cambia token” continui senza interruzioni.`, 'notice');
}

function askForToken(reason) {
  const dialog = element('token-dialog');
  element('token-error').hidden = !reason;
  element('token-error').textContent = reason ?? '';
  element('token-cancel').hidden = !page.token || page.client?.state !== 'online';
  if (!dialog.open) dialog.showModal();
}

async function takeToken(event) {
  event.preventDefault();
  const token = element('token').value.trim();
  if (!token) return;
  remember(TAB_TOKEN, token);
  element('token').value = '';
  element('token-dialog').close();
  const sameUser = String(readClaims(token).id_utente) === String(page.claims.id_utente);
  if (page.client?.state !== 'online' || !sameUser) {
    connect(token);
    return;
  }
  try {
    await page.client.useToken(token);
    page.token = token;
    page.claims = readClaims(token);
    page.tokenEndsSoon = false;
    drawConnection();
    toast('Token rinnovato.', 'notice');
  } catch (refusal) {
    showRefusal(refusal);
  }
}

/** One HTTP call; gives the answer's `data`. @throws {Refusal} */
async function call(method, path, body) {
  const headers = { authorization: `Bearer ${page.token}` };
  if (body) headers['content-type'] = 'application/json';
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) }).catch(() => undefined);
  if (!response) throw new Refusal('offline', 'Connessione assente, riprovare');
  const answer = await response.json().catch(() => undefined);
  if (answer?.success) return answer.data;
  throw new Refusal(answer?.code ?? `HTTP ${response.status}`, answer?.error ?? 'Risposta non valida');
}

function fetchBoard({ sedeId, spazioId, date }) {
  return call('GET', `/api/slots/${spazioId}/${date}?sedeId=${sedeId}`);
}

// Slots

function drawSlots() {
  const board = page.board;
  if (!board) return;
  const slots = board.slots;
  // While an act is under way its slots are in between: held, and not yet known as own.
  if (!page.isActing) noticeLostSlots(slots);
  const numbers = new Set(slots.map((slot) => slot.number));
  for (const [number, card] of page.cards) {
    if (numbers.has(number)) continue;
    card.item.remove();
    page.cards.delete(number);
  }
  for (const [index, slot] of slots.entries()) {
    const card = page.cards.get(slot.number) ?? addCard(slot.number);
    const list = element('slots');
    if (list.children[index] !== card.item) list.insertBefore(card.item, list.children[index] ?? null);
    drawCard(card, slot);
  }
  if (slots.length > 0) showEmpty('');
  else if (board.isCurrent) showEmpty('In questo giorno lo spazio è chiuso.');
  drawCounts(slots);
  drawStale(board);
  drawActions(slots);
  const position = board.position;
  element('position').textContent = position ? `v${position.version}` : '';
}

function addCard(number) {
  const item = document.createElement('li');
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'slot';
  const parts = Object.fromEntries(['time', 'number', 'status', 'detail', 'bar'].map((name) => [name, part(name)]));
  for (const name of ['countdown', 'note', 'mine']) parts[name] = part(name);
  parts.detail.append(parts.countdown, parts.note, parts.mine);
  parts.mine.textContent = 'tuo';
  button.append(parts.time, parts.status, parts.detail, parts.number, parts.bar);
  button.addEventListener('click', () => toggleChosen(number));
  button.addEventListener('animationend', () => button.classList.remove('changed'));
  item.append(button);
  const card = { item, button, ...parts };
  page.cards.set(number, card);
  return card;
}

function drawCard(card, slot) {
  const { button } = card;
  const [sign, label] = STATUS_LABELS[slot.status] ?? ['?', slot.status];
  if (button.dataset.status && button.dataset.status !== slot.status) button.classList.add('changed');
  button.dataset.status = slot.status;
  button.dataset.slot = slot.number;
  button.dataset.mine = slot.mine;
  button.title = slot.title;
  button.setAttribute('aria-pressed', choice().slots.has(slot.number));
  button.setAttribute('aria-disabled', !mayChoose(slot));
  setText(card.time, slot.orario);
  setText(card.number, `slot ${slot.number}`);
  setText(card.status, `${sign} ${label}`);
  setText(card.countdown, slot.remainingMs === undefined ? '' : `ancora ${duration(slot.remainingMs)}`);
  setText(card.note, noteOf(slot));
  card.mine.hidden = !slot.mine;
  card.bar.hidden = slot.remainingMs === undefined;
  if (!card.bar.hidden) card.bar.style.transform = `scaleX(${remainingShare(slot)})`;
}

function part(name) {
  const span = document.createElement('span');
  span.className = name;
  return span;
}

/** Text that did not change is not touched, so that a screen reader is not disturbed. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function noteOf(slot) {
  if (slot.user !== undefined && !slot.mine) return `utente ${slot.user}`;
  return Object.values(slot.data)
    .filter((value) => typeof value === 'string')
    .join(' · ');
}

function remainingShare(slot) {
  const key = `${slot.number} ${slot.heldUntil}`;
  if (!page.holdLengths.has(key)) page.holdLengths.set(key, Math.max(slot.remainingMs, 1));
  return Math.min(1, Math.max(0, slot.remainingMs / page.holdLengths.get(key)));
}

function duration(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1_000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

function drawCounts(slots) {
  const counts = Object.entries(COUNT_LABELS).map(([status, [one, many]]) => {
    const count = slots.filter((slot) => slot.status === status).length;
    if (count === 0) return undefined;
    const span = document.createElement('span');
    span.dataset.status = status;
    span.textContent = `${count} ${count === 1 ? one : many}`;
    return span;
  });
  element('counts').replaceChildren(...counts.filter(Boolean));
}

function drawStale(board) {
  const stale = element('stale');
  const isStale = !board.isCurrent && board.slots.length > 0;
  stale.hidden = !isStale;
  setText(stale, isStale ? 'Quello che vedi può essere superato: in attesa degli aggiornamenti.' : '');
}

function showEmpty(text) {
  element('empty').textContent = text;
  element('empty').hidden = !text;
}

// Choosing and acting

function mayChoose(slot) {
  if (slot.status === 'past') return false;
  return isStaff() || slot.status === 'available' || (slot.status === 'occupied' && slot.mine);
}

/**
 * What is chosen of the space and day that are shown: `slots`, and in `lost` those that somebody else took since. Of
 * any other space or day nothing is chosen.
 */
function choice() {
  const { sedeId, spazioId, date } = page.place;
  const where = `${sedeId} ${spazioId} ${date}`;
  if (page.lastChoice?.where !== where) page.lastChoice = { where, slots: new Set(), lost: new Set() };
  return page.lastChoice;
}

function chooseNone() {
  choice().slots.clear();
  choice().lost.clear();
}

function toggleChosen(number) {
  const slot = page.board.slots.find((slot) => slot.number === number);
  if (!slot || !mayChoose(slot)) return;
  const { slots, lost } = choice();
  if (slots.has(number)) slots.delete(number);
  else if (slots.size < MAX_CHOSEN) slots.add(number);
  else toast(`Al massimo ${MAX_CHOSEN} slot alla volta.`, 'notice');
  if (slots.size === 0) lost.clear();
  drawSlots();
}

/** A choice that lost a slot says so, and nothing is sent until the person has seen it. */
function noticeLostSlots(slots) {
  const { slots: chosen, lost } = choice();
  const gone = slots.filter((slot) => chosen.has(slot.number) && !mayChoose(slot)).map((slot) => slot.number);
  if (gone.length === 0) return;
  for (const number of gone) {
    chosen.delete(number);
    lost.add(number);
  }
  if (chosen.size > 0) return;
  toast(`Non più disponibile: ${slotNames([...lost])}`, 'notice');
  lost.clear();
}

/** Each button has its place and keeps it: where one was pressed, no other appears. */
function drawActions(slots) {
  const { slots: numbers, lost } = choice();
  const chosen = slots.filter((slot) => numbers.has(slot.number));
  const all = (allows) => chosen.length > 0 && lost.size === 0 && chosen.every(allows);
  const isFree = (slot) => slot.status === 'available';
  const isOwnHold = (slot) => slot.status === 'occupied' && slot.mine;
  for (const button of document.querySelectorAll('[data-act]')) {
    setEnabled(button, all(button.dataset.act === 'hold' ? isFree : isOwnHold));
  }
  for (const button of document.querySelectorAll('[data-staff-status]')) setEnabled(button, all(() => true));
  element('actions').querySelector('[data-staff]').hidden = !isStaff();
  setEnabled(element('choose-none'), chosen.length > 0);
  element('choose-rest').hidden = lost.size === 0;
  if (lost.size > 0) setText(element('choose-rest'), `Continua con ${slotNames([...numbers])}`);
  setText(element('chosen'), describeChoice(chosen, lost, all(isFree) || all(isOwnHold)));
}

function describeChoice(chosen, lost, mayAct) {
  if (lost.size > 0) return `Non più disponibile: ${slotNames([...lost])}. Resta: ${slotNames([...choice().slots])}.`;
  if (chosen.length === 0) return 'Scegli uno o più slot';
  const count = chosen.length === 1 ? '1 slot scelto' : `${chosen.length} slot scelti`;
  return mayAct || isStaff() ? count : `${count} · scegli o liberi o tuoi, non insieme`;
}

/** Not `disabled`, which would take the focus away from who uses the keyboard. */
function setEnabled(button, isEnabled) {
  button.setAttribute('aria-disabled', !isEnabled || page.isActing);
}

function isEnabled(button) {
  return button.getAttribute('aria-disabled') !== 'true';
}

async function act(name) {
  const numbers = [...choice().slots].sort((a, b) => a - b);
  await guard(async (chosen) => {
    await page.board[name](numbers);
    toast(`${ACT_LABELS[name]}: ${slotNames(numbers)}`, 'done');
    if (name !== 'hold') chosen.slots.clear();
  });
}

async function updateAsStaff(status) {
  const { sedeId, spazioId: idSpazio, date } = page.place;
  await guard(async (chosen) => {
    for (const slot of [...chosen.slots].sort((a, b) => a - b)) {
      await call('PUT', `/api/slots/${slot}`, { idSpazio, sedeId, date, status });
      chosen.slots.delete(slot);
    }
  });
}

/** Runs an act on the present choice with the buttons off, shows its refusal, and draws what came of it. */
async function guard(run) {
  page.isActing = true;
  drawSlots();
  try {
    await run(choice());
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    showRefusal(error);
  } finally {
    page.isActing = false;
    drawSlots();
    refreshHolds();
  }
}

function slotNames(numbers) {
  const byNumber = new Map((page.board?.slots ?? []).map((slot) => [slot.number, slot.orario]));
  const inOrder = [...numbers].sort((a, b) => a - b);
  return inOrder.map((number) => byNumber.get(number) ?? `slot ${number}`).join(', ');
}

// Own holds

let holdsTimer;

/** Reads the own holds again, at most four times a second. */
function refreshHolds() {
  clearTimeout(holdsTimer);
  holdsTimer = setTimeout(async () => {
    const client = page.client;
    const answer = await call('GET', '/api/holds').catch(() => undefined);
    // The answer to another user's question is nobody's business here.
    if (!answer || client !== page.client) return;
    page.holds = answer.holds;
    drawHolds();
  }, 250);
}

function drawHolds() {
  const now = page.client?.now() ?? Date.now();
  const live = page.holds.filter((hold) => Date.parse(hold.heldUntil) > now);
  const rows = live.map((hold) => {
    const item = document.createElement('li');
    const button = document.createElement('button');
    const [what, where, countdown] = ['what', 'where', 'countdown'].map((name) => part(name));
    button.type = 'button';
    what.textContent = `${shortDay(hold.date)} · slot ${hold.slots.join(', ')}`;
    where.textContent = placeName(hold);
    countdown.textContent = duration(Date.parse(hold.heldUntil) - now);
    button.append(what, countdown, where);
    button.addEventListener('click', () => {
      goTo({ sedeId: hold.sedeId, spazioId: hold.spazioId, date: hold.date });
    });
    item.append(button);
    return item;
  });
  const list = element('holds');
  const isSame = list.children.length === rows.length;
  if (isSame) rows.forEach((row, index) => updateHold(list.children[index], row));
  else list.replaceChildren(...rows);
  element('no-holds').hidden = rows.length > 0;
}

/** Replaces a row only if it names another hold, so that it keeps the focus while it counts down. */
function updateHold(present, next) {
  const textOf = (row, name) => row.querySelector(`.${name}`).textContent;
  const isSame = ['what', 'where'].every((name) => textOf(present, name) === textOf(next, name));
  if (isSame) setText(present.querySelector('.countdown'), textOf(next, 'countdown'));
  else present.replaceWith(next);
}

let ownersTimer;

/** Follows what an update does not say: whose the slot is now (staff), and own slots that others changed. */
function noticeUpdate({ data }) {
  const isHere = data.sedeId === page.place.sedeId && data.spazioId === page.place.spazioId;
  if (isHere && data.date === page.place.date && isStaff()) {
    clearTimeout(ownersTimer);
    ownersTimer = setTimeout(() => page.board?.refreshOwners(), 300);
  }
  const concernsOwn = page.holds.some(
    (hold) =>
      hold.sedeId === data.sedeId &&
      hold.spazioId === data.spazioId &&
      hold.date === data.date &&
      hold.slots.includes(data.id_slot),
  );
  if (concernsOwn) refreshHolds();
}

// Side panels

function drawStats(stats) {
  const values = { utenti: stats.connectedUsers, connessioni: stats.totalSockets, room: stats.roomCount };
  const rows = Object.entries(values).map(([name, value]) => {
    const row = document.createElement('div');
    const term = document.createElement('dt');
    const description = document.createElement('dd');
    term.textContent = name;
    description.textContent = Number(value ?? 0).toLocaleString('it-IT');
    row.append(term, description);
    return row;
  });
  element('stats').replaceChildren(...rows);
  element('stats-panel').hidden = false;
}

function logUpdate(event) {
  const { date, orario } = event.data;
  const [, label] = STATUS_LABELS[event.status] ?? ['', event.status];
  const day = date === page.place.date ? '' : ` del ${date}`;
  logLine(event, `${orario}${day} → ${label.toLowerCase()}`, event.status);
}

function logLine({ timestamp, version }, text, status) {
  const line = document.createElement('li');
  const time = document.createElement('time');
  const what = document.createElement('span');
  const number = document.createElement('span');
  time.dateTime = timestamp;
  time.textContent = new Date(timestamp).toLocaleTimeString('it-IT');
  what.className = 'what';
  what.textContent = text;
  if (status) what.dataset.status = status;
  number.className = 'version';
  number.textContent = version === undefined ? '' : `v${version}`;
  line.append(time, what, number);
  const log = element('log');
  log.prepend(line);
  while (log.children.length > MAX_LOG_LINES) log.lastElementChild.remove();
  element('no-log').hidden = true;
}

function showRefusal(refusal) {
  const conflicts = refusal.conflicts?.length ? ` (${slotNames(refusal.conflicts)})` : '';
  toast(`${refusal.message}${conflicts}`, 'refusal', refusal.code);
}

function toast(text, kind, code) {
  const box = document.createElement('p');
  box.className = 'toast';
  box.dataset.kind = kind;
  box.textContent = text;
  if (code) {
    const small = document.createElement('small');
    small.textContent = code;
    box.append(small);
  }
  element('toasts').append(box);
  setTimeout(() => box.remove(), TOAST_MS);
}

/** Once a second: countdowns, and holds that ended by the clock. */
function tick() {
  if (!page.client) return;
  drawSlots();
  drawHolds();
}

function addListeners() {
  const onClick = (id, run) => element(id).addEventListener('click', run);
  const place = element('place');
  place.addEventListener('submit', (event) => event.preventDefault());
  place.addEventListener('change', () => {
    if (!place.reportValidity()) return;
    const [sedeId, spazioId] = [Number(element('site').value), Number(element('space').value)];
    goTo({ sedeId, spazioId, date: element('date').value });
  });
  onClick('previous-day', () => goTo({ date: shiftDay(page.place.date, -1) }));
  onClick('next-day', () => goTo({ date: shiftDay(page.place.date, 1) }));
  onClick('today', () => goTo({ date: todayIn(page.zone) }));
  onClick('change-token', () => askForToken());
  onClick('token-cancel', () => element('token-dialog').close());
  onClick('choose-none', () => {
    chooseNone();
    drawSlots();
    element('slots').focus();
  });
  onClick('choose-rest', () => {
    choice().lost.clear();
    drawSlots();
    element('slots').focus();
  });
  onClick('switch-cancel', () => element('switch-dialog').close());
  element('token-form').addEventListener('submit', takeToken);
  // Without a connection there is nothing behind the dialog.
  element('token-dialog').addEventListener('cancel', (event) => {
    if (page.client?.state !== 'online') event.preventDefault();
  });
  for (const button of document.querySelectorAll('[data-act]')) {
    button.addEventListener('click', () => isEnabled(button) && act(button.dataset.act));
  }
  for (const button of document.querySelectorAll('[data-staff-status]')) {
    button.addEventListener('click', () => isEnabled(button) && updateAsStaff(button.dataset.staffStatus));
  }
  document.addEventListener('visibilitychange', () => {
    if (document.hidden || page.client?.state !== 'online') return;
    page.board?.refreshOwners();
    refreshHolds();
  });
  window.addEventListener('hashchange', followLink);
}

/** A link that is opened in this tab: to another space or day, or with a token. */
function followLink() {
  const hash = readHash();
  const before = { ...page.place };
  const linked = hash.get('token');
  takePlace(hash);
  const after = page.place;
  page.place = before;
  goTo(after);
  if (!linked) return;
  const token = page.token;
  offerToken(linked);
  if (page.token !== token) connect(page.token);
}
