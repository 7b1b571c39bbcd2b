/** The user of this tab: by the tab's token, a link's, or an example user's. It changes only when the person says so. */

import type { Client } from '../client.js';
import { element, make, setText } from './dom.js';
import { recall, remember, TAB_TOKEN } from './memory.js';
import type { PageTexts } from './texts.js';

/** An example user of a node in development. */
interface ExampleUser {
  readonly name: string;
  readonly isStaff: boolean;
  readonly token: string;
}

/** What a node says of itself to its own page. */
interface NodeFacts {
  readonly isDevelopment: boolean;
  readonly users: readonly ExampleUser[];
}

/** The session of this tab. */
export class Session {
  token = recall(TAB_TOKEN);
  readonly #client: () => Client;
  readonly #texts: () => PageTexts;
  #facts: NodeFacts = { isDevelopment: false, users: [] };
  #isAsked = false;
  #linked: string | undefined;

  constructor(client: () => Client, texts: () => PageTexts) {
    this.#client = client;
    this.#texts = texts;
    this.#listen();
  }

  /** Takes a link's token: at once where it is of the same user or there is no user, else when the person says so. */
  offer(linked: string): void {
    if (!this.token || userOf(linked) === userOf(this.token)) {
      this.use(linked);
      return;
    }
    this.#linked = linked;
    this.drawSwitch();
    const dialog = element<HTMLDialogElement>('switch-dialog');
    if (!dialog.open) dialog.showModal();
  }

  use(token: string): void {
    this.token = token;
    remember(TAB_TOKEN, token);
  }

  /** Asks the node whether it is one for development, with users to try it as. */
  async learn(): Promise<void> {
    const response = await fetch('/page.json').catch(() => undefined);
    if (response?.ok) this.#facts = (await response.json()) as NodeFacts;
    this.draw();
    this.look();
  }

  /** A connection that the server does not take, or has ended, needs somebody to sign in: it is asked for once. */
  look(): void {
    const { link } = this.#client().state;
    const needsToken = link === 'refused' || link === 'closed';
    if (!needsToken) {
      this.#isAsked = false;
      if (link === 'online') element<HTMLDialogElement>('token-dialog').close();
      return;
    }
    // A person without a token may look.
    if (this.#isAsked || !this.#facts.isDevelopment || !this.token) return;
    this.#isAsked = true;
    const { invalid, closed } = this.#texts();
    this.ask(link === 'closed' ? closed : invalid);
  }

  /** Lets the person sign in: with a token in development, else by a link of the booking site. */
  ask(reason = ''): void {
    element('token-error').hidden = !reason;
    setText(element('token-error'), reason);
    const dialog = element<HTMLDialogElement>(this.#facts.isDevelopment ? 'token-dialog' : 'link-dialog');
    if (!dialog.open) dialog.showModal();
  }

  draw(): void {
    const texts = this.#texts();
    const { userId, isStaff, expiresAt, link } = this.#client().state;
    const name = userId ? texts.user(userId) : userId === null ? texts.guest : '';
    const endsSoon = expiresAt !== null && expiresAt - this.#client().now() < 60_000 && link === 'online';
    setText(element('who'), [name, isStaff ? texts.staff : '', endsSoon ? texts.endsSoon : ''].filter(Boolean).join(' · '));
    setText(element('change-token'), userId ? texts.changeUser : texts.signIn);
    this.#drawExamples(texts);
  }

  drawSwitch(): void {
    const texts = this.#texts();
    const [to, from] = [userOf(this.#linked), userOf(this.token)];
    setText(element('switch-text'), texts.switchText(to, from));
    setText(element('switch-accept'), texts.goOn(to));
  }

  #drawExamples(texts: PageTexts): void {
    const bar = element('examples');
    bar.hidden = this.#facts.users.length === 0;
    if (bar.hidden) return;
    const { userId } = this.#client().state;
    const buttons = this.#facts.users.map(({ name, isStaff, token }) => {
      const button = make('button', '', isStaff ? `${texts.user(name)} · ${texts.staff}` : texts.user(name));
      button.type = 'button';
      button.setAttribute('aria-pressed', String(name === userId));
      button.addEventListener('click', () => this.#change(token));
      return button;
    });
    bar.setAttribute('aria-label', texts.beUser);
    const isSame = [...bar.querySelectorAll('button')].map(asText).join() === buttons.map(asText).join();
    if (!isSame) bar.replaceChildren(make('span', '', texts.beUser), ...buttons);
  }

  #change(token: string): void {
    this.use(token);
    void this.#client().setToken(token);
  }

  #listen(): void {
    element('change-token').addEventListener('click', () => this.ask());
    for (const [id, dialog] of [['token-cancel', 'token-dialog'], ['link-close', 'link-dialog'], ['switch-cancel', 'switch-dialog']] as const) {
      element(id).addEventListener('click', () => element<HTMLDialogElement>(dialog).close());
    }
    element('switch-accept').addEventListener('click', () => {
      element<HTMLDialogElement>('switch-dialog').close();
      if (this.#linked) this.#change(this.#linked);
    });
    element('token-form').addEventListener('submit', (event) => {
      event.preventDefault();
      const box = element<HTMLTextAreaElement>('token');
      const token = box.value.trim();
      box.value = '';
      this.#isAsked = false;
      element<HTMLDialogElement>('token-dialog').close();
      if (token) this.#change(token);
    });
  }
}

function asText(button: Element): string {
  return `${button.textContent} ${button.getAttribute('aria-pressed')}`;
}

/** The user that a token names. It is for showing only: the server checks the token. */
function userOf(token: string | undefined): string {
  try {
    const payload = (token ?? '').split('.')[1]?.replaceAll('-', '+').replaceAll('_', '/') ?? '';
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    return String((JSON.parse(new TextDecoder().decode(bytes)) as { id_utente?: unknown }).id_utente ?? '?');
  } catch {
    return '?';
  }
}
