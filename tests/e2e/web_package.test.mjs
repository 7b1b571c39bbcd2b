// The package for browsers as others install it, from its tarball: types, servers, bundlers, and the guide's samples as they
// are printed, on a page of another origin.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { hold, isLive, launch, newPage, skip, slotIs } from './lib/board_page.mjs';
import { day } from './lib/fixtures.mjs';
import { startSlotcast, temporaryFolder } from './lib/slotcast.mjs';
import { userToken } from './lib/tokens.mjs';
import { eventually } from './lib/waiting.mjs';

const REPOSITORY = resolve(fileURLToPath(import.meta.url), '../../..');
const WEB = join(REPOSITORY, 'web');
const DATE = day(7);
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

const run = (command, args, cwd, env = {}) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });

/** The samples of the guide in a language, as printed but for the node's address and the day. */
function samples(language, url) {
  const guide = readFileSync(join(REPOSITORY, 'docs/browser.md'), 'utf8');
  const blocks = [...guide.matchAll(new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 'gs'))];
  return blocks.map(([, text]) => text.replaceAll('http://127.0.0.1:3000', url).replaceAll('2027-03-01', DATE));
}

/** A project in which the tarball is installed with its dependencies. */
function installPacked() {
  const project = temporaryFolder();
  const tarball = run('npm', ['pack', '--silent', '--pack-destination', project], WEB).trim().split('\n').at(-1);
  const installed = join(project, 'node_modules/slotcast');
  mkdirSync(installed, { recursive: true });
  run('tar', ['-xzf', join(project, tarball), '-C', installed, '--strip-components=1'], project);
  mkdirSync(join(project, 'node_modules/@types'));
  for (const name of ['lit', 'socket.io-client', 'react', 'react-dom', '@types/react', '@types/react-dom']) {
    symlinkSync(join(WEB, 'node_modules', name), join(project, 'node_modules', name));
  }
  writeFileSync(join(project, 'package.json'), JSON.stringify({ type: 'module', private: true }));
  return project;
}

/** Serves a folder, or what `pages` names, on a port of its own: another origin than the node's. */
async function serve(folder, pages = {}) {
  const server = createServer(({ url }, response) => {
    const path = url === '/' ? '/index.html' : new URL(url, 'http://x').pathname;
    const page = pages[path];
    const headers = { 'content-type': TYPES[extname(path)] ?? 'text/plain', ...page?.headers };
    const file = join(folder, path);
    const content = page?.text ?? (existsSync(file) ? readFileSync(file) : undefined);
    if (content !== undefined) response.writeHead(200, headers).end(content);
    else response.writeHead(path === '/favicon.ico' ? 204 : 404).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => end(server), pages };
}

function end(server) {
  server.closeAllConnections();
  server.close();
}

describe('the package for browsers', () => {
  let project;
  let site;
  let slotcast;
  let browser;

  before(async () => {
    project = installPacked();
    site = await serve(join(project, 'dist'));
    slotcast = await startSlotcast({ settings: { CORS_ORIGIN: site.origin } });
    if (!skip) browser = await launch();
  });

  after(async () => {
    await browser?.close();
    site?.close();
    await slotcast?.stop();
  });

  test('has nothing of its tests, of the page or of this machine', () => {
    const files = readdirSync(join(project, 'node_modules/slotcast/dist'));
    assert.deepEqual(files.filter((name) => !/^(index|element|react|slotcast|chunk-\w+)\.js$/.test(name)), ['types']);
    const texts = files.filter((name) => name.endsWith('.js')).map((name) => readFileSync(join(project, 'node_modules/slotcast/dist', name), 'utf8'));
    for (const text of texts) assert.equal(text.includes(REPOSITORY), false);
    assert.match(readFileSync(join(project, 'node_modules/slotcast/dist/react.js'), 'utf8'), /^"use client";/);
  });

  test('the samples of the guide are right for a strict compiler', () => {
    const sources = join(project, 'strict');
    mkdirSync(sources);
    const declared = 'declare global { function fetchToken(): Promise<string>; }\n';
    for (const [index, text] of samples('tsx', slotcast.url).entries()) writeFileSync(join(sources, `react${index}.tsx`), declared + text);
    for (const [index, text] of samples('ts', slotcast.url).entries()) writeFileSync(join(sources, `plain${index}.ts`), declared + text);
    const element = "import 'slotcast/element';\nconst board = document.querySelector('slotcast-board');\nif (board) board.sede = 1;\n";
    writeFileSync(join(sources, 'element.ts'), element);
    const options = ['--noEmit', '--strict', '--jsx', 'react-jsx', '--target', 'es2022', '--module', 'nodenext', '--types', 'react'];
    const files = readdirSync(sources).map((name) => join(sources, name));
    run(process.execPath, [join(WEB, 'node_modules/typescript/bin/tsc'), ...options, '--skipLibCheck', 'false', ...files], project);
  });

  test('is safe to import on a server, and renders there', () => {
    const script = `
      import { renderToString } from 'react-dom/server';
      import { createElement } from 'react';
      await import('slotcast');
      await import('slotcast/element');
      const { SlotcastBoard, useBoard } = await import('slotcast/react');
      function Room() {
        const board = useBoard(null, { sedeId: 1, spazioId: 1, date: '2027-03-01' });
        return createElement('main', null, String(board.inSync), createElement(SlotcastBoard, { sede: 1, spazio: 1, lang: 'en' }));
      }
      console.log(renderToString(createElement(Room)));
    `;
    writeFileSync(join(project, 'server.mjs'), script);
    assert.match(run(process.execPath, ['server.mjs'], project), /<main>false<slotcast-board lang="en"><\/slotcast-board><\/main>/);
  });

  test('the sample without a framework holds and books', () => {
    const [sample] = samples('ts', slotcast.url);
    const given = `const fetchToken = async () => ${JSON.stringify(userToken(71))};\n`;
    writeFileSync(join(project, 'plain.mts'), given + sample);
    run(join(WEB, 'node_modules/esbuild/bin/esbuild'), ['plain.mts', '--outfile=plain.mjs', '--log-level=error'], project);
    const told = run(process.execPath, ['plain.mjs'], project);
    assert.match(told, /held until \d{4}-/);
  });

  test('the sample of HTML is a board on a page of another origin, with the policy of the guide', { skip }, async () => {
    const [html] = samples('html', slotcast.url);
    const guide = readFileSync(join(REPOSITORY, 'docs/browser.md'), 'utf8');
    const [, told] = /```text\n(script-src .*?)\n```/s.exec(guide);
    const policy = told
      .replace('wss://slots.example.org', slotcast.url.replace('http', 'ws'))
      .replaceAll('https://slots.example.org', slotcast.url)
      // The sample has an inline script, which the host page's policy must allow.
      .replace('script-src', "script-src 'unsafe-inline'");
    const given = `<script>const fetchToken = async () => ${JSON.stringify(userToken(72))}</script>`;
    site.pages['/three-lines.html'] = {
      text: html.replace('<!doctype html>', `<!doctype html>${given}`),
      headers: { 'content-security-policy': `${policy}; require-trusted-types-for 'script'; default-src 'none'` },
    };
    const page = await newPage(browser);
    await page.goto(`${site.origin}/three-lines.html`);
    await isLive(page);
    await page.locator('slotcast-board').evaluate((board, date) => (board.date = date), DATE);
    await slotIs(page, 9, 'available');
    await hold(page, 5, 6);
    await page.getByRole('button', { name: 'Release', exact: true }).waitFor();
    assert.deepEqual(page.complaints, []);
  });

  test('the sample of React works in StrictMode, bundled by Vite, and leaks no socket', { skip }, async () => {
    const [sample] = samples('tsx', slotcast.url);
    mkdirSync(join(project, 'src'));
    const given = `const fetchToken = async () => ${JSON.stringify(userToken(73))};\n`;
    writeFileSync(join(project, 'src/room.tsx'), sample.replace(/(import [^;]+;\n)(?!import)/, `$1${given}`));
    const main = `
      import { StrictMode, useState } from 'react';
      import { createRoot } from 'react-dom/client';
      import { Room } from './room.tsx';
      function App() {
        const [isShown, show] = useState(true);
        return <><button id="toggle" onClick={() => show(!isShown)}>toggle</button>{isShown && <Room date="${DATE}" />}</>;
      }
      createRoot(document.getElementById('root')).render(<StrictMode><App /></StrictMode>);
    `;
    writeFileSync(join(project, 'src/main.tsx'), main);
    writeFileSync(join(project, 'index.html'), '<!doctype html><div id="root"></div><script type="module" src="/src/main.tsx"></script>');
    writeFileSync(join(project, 'vite.config.mjs'), "export default { esbuild: { jsx: 'automatic' }, logLevel: 'error' };\n");
    run(process.execPath, [join(WEB, 'node_modules/vite/bin/vite.js'), 'build'], project, { NODE_ENV: 'production' });
    const page = await newPage(browser);
    const sockets = [];
    page.on('websocket', (socket) => sockets.push(socket));
    await page.goto(site.origin);
    await page.waitForSelector('p:has-text(" free, 0 held")');
    await isLive(page);
    await hold(page, 2);
    await page.waitForSelector('p:has-text(" free, 1 held")');
    await page.click('#toggle');
    await page.waitForSelector('slotcast-board', { state: 'detached' });
    await page.click('#toggle');
    await page.waitForSelector('p:has-text(" free, 1 held")');
    assert.equal(sockets.length, 1);
    assert.deepEqual(page.complaints, []);

    // An element with a connection of its own ends it when it leaves the page.
    await page.evaluate(([url, date]) => {
      const board = Object.assign(document.createElement('slotcast-board'), { url, sede: 1, spazio: 2, date });
      document.body.append(board);
    }, [slotcast.url, DATE]);
    await eventually(() => sockets.length === 2, 'a socket of its own');
    await page.evaluate(() => document.body.lastElementChild.remove());
    await eventually(() => sockets[1].isClosed(), 'its end');
  });
});
