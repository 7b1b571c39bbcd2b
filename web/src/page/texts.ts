/** What the page around the board says. */

/** One language. */
export interface PageTexts {
  readonly title: string;
  readonly space: string;
  readonly site: string;
  readonly day: string;
  readonly today: string;
  readonly language: string;
  readonly otherLanguage: string;
  readonly guest: string;
  readonly user: (user: string) => string;
  readonly staff: string;
  readonly signIn: string;
  readonly changeUser: string;
  readonly endsSoon: string;
  readonly beUser: string;
  readonly holds: string;
  readonly noHolds: string;
  readonly bookings: string;
  readonly connected: string;
  readonly users: string;
  readonly sockets: string;
  readonly rooms: string;
  readonly tokenTitle: string;
  readonly tokenHelp: string;
  readonly tokenLabel: string;
  readonly enter: string;
  readonly cancel: string;
  readonly invalid: string;
  readonly closed: string;
  readonly linkTitle: string;
  readonly linkHelp: string;
  readonly switchTitle: string;
  readonly switchText: (to: string, from: string) => string;
  readonly stay: string;
  readonly goOn: (user: string) => string;
  readonly aside: string;
}

export const pageItalian: PageTexts = {
  title: 'slotcast · disponibilità in diretta',
  space: 'Spazio',
  site: 'Sede',
  day: 'Giorno',
  today: 'Oggi',
  language: 'Lingua',
  otherLanguage: 'English',
  guest: 'ospite',
  user: (user) => `utente ${user}`,
  staff: 'staff',
  signIn: 'Accedi',
  changeUser: 'Cambia utente',
  endsSoon: 'l’accesso sta per scadere',
  beUser: 'Prova come',
  holds: 'I tuoi blocchi',
  noHolds: 'Nessuno slot bloccato da te.',
  bookings: 'Le tue prossime prenotazioni',
  connected: 'Connessi ora',
  users: 'utenti',
  sockets: 'connessioni',
  rooms: 'stanze',
  tokenTitle: 'Entra con un token',
  tokenHelp: 'Il token JWT del tuo utente. In sviluppo il nodo ne stampa di pronti all’avvio, e «slotcast token --user 7» ne fa altri.',
  tokenLabel: 'Token',
  enter: 'Entra',
  cancel: 'Annulla',
  invalid: 'Token non valido: provane un altro.',
  closed: 'Il server ha chiuso la connessione. Per continuare serve un token.',
  linkTitle: 'Serve il tuo link personale',
  linkHelp: 'Per bloccare e prenotare apri questa pagina dal sito delle prenotazioni, dopo avere fatto l’accesso.',
  switchTitle: 'Cambiare utente?',
  switchText: (to, from) => `Il link che hai aperto è per l’utente ${to}. Qui sei l’utente ${from}.`,
  stay: 'Resta come sei',
  goOn: (user) => `Continua come ${user}`,
  aside: 'Il tuo riepilogo',
};

export const pageEnglish: PageTexts = {
  title: 'slotcast · live availability',
  space: 'Space',
  site: 'Site',
  day: 'Day',
  today: 'Today',
  language: 'Language',
  otherLanguage: 'Italiano',
  guest: 'guest',
  user: (user) => `user ${user}`,
  staff: 'staff',
  signIn: 'Sign in',
  changeUser: 'Change user',
  endsSoon: 'the sign-in is about to end',
  beUser: 'Try it as',
  holds: 'Your holds',
  noHolds: 'You hold nothing.',
  bookings: 'Your next bookings',
  connected: 'Connected now',
  users: 'users',
  sockets: 'connections',
  rooms: 'rooms',
  tokenTitle: 'Enter with a token',
  tokenHelp: 'The JWT of your user. In development the node prints some at its start, and “slotcast token --user 7” makes more.',
  tokenLabel: 'Token',
  enter: 'Enter',
  cancel: 'Cancel',
  invalid: 'The token is not valid: try another one.',
  closed: 'The server ended the connection. A token is needed to go on.',
  linkTitle: 'Your personal link is needed',
  linkHelp: 'To hold and to book, open this page from the booking site after you have signed in there.',
  switchTitle: 'Change user?',
  switchText: (to, from) => `The link that you opened is for user ${to}. Here you are user ${from}.`,
  stay: 'Stay as you are',
  goOn: (user) => `Go on as ${user}`,
  aside: 'Your overview',
};
