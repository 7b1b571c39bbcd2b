// Builds the package: entries with their types for bundlers, `slotcast.js`, the element with everything in it, and in
// `dist/node` the files that a node serves. Cargo packs these (`build.rs`).

import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';

import { build, transform } from 'esbuild';

rmSync('dist', { recursive: true, force: true });

const shared = { bundle: true, format: 'esm', target: 'es2022', logLevel: 'warning', legalComments: 'none' };
const minified = { ...shared, minify: true, charset: 'utf8', write: false };

/** Modules that no page of a node needs, by the end of their path: binary packets, other transports, code for old browsers. */
const REPLACED = {
  'engine.io-client/build/esm/transports/webtransport.js': 'export class WT {}',
  'engine.io-client/build/esm/transports/websocket.js': readFileSync('bundle/websocket.js', 'utf8'),
  'engine.io-client/build/esm/contrib/parseuri.js': readFileSync('bundle/parseuri.js', 'utf8'),
  'engine.io-client/build/esm/contrib/parseqs.js': readFileSync('bundle/parseqs.js', 'utf8'),
  'engine.io-client/build/esm/transports/polling-xhr.js': readFileSync('bundle/polling.js', 'utf8'),
  'engine.io-parser/build/esm/contrib/base64-arraybuffer.js': 'export const encode = () => "", decode = () => new ArrayBuffer(0);',
  'socket.io-parser/build/esm/index.js': readFileSync('bundle/parser.js', 'utf8'),
};

/** Leaves out these modules, and the line breaks and indents of lit's templates and styles. */
const shorter = {
  name: 'shorter',
  setup({ onLoad }) {
    onLoad({ filter: /src[\\/]element[\\/].*\.ts$/ }, async ({ path }) => {
      const text = readFileSync(path, 'utf8');
      const [whole, styles] = /css`([^`]*)`/.exec(text) ?? [];
      if (styles === undefined) {
        return { contents: text.replace(/(html`)\s+/g, '$1').replace(/>\s*\n\s+</g, '> <'), loader: 'ts' };
      }
      const { code } = await transform(styles, { loader: 'css', minify: true, charset: 'utf8' });
      return { contents: text.replace(whole, () => `css\`${code.trim()}\``), loader: 'ts' };
    });
    onLoad({ filter: /[\\/](engine\.io-client|engine\.io-parser|socket\.io-parser)[\\/].*\.js$/ }, ({ path }) => {
      const contents = Object.entries(REPLACED).find(([end]) => path.replaceAll('\\', '/').endsWith(end))?.[1];
      return contents === undefined ? undefined : { contents };
    });
  },
};

async function bundled(entry) {
  const { outputFiles } = await build({ ...minified, entryPoints: [entry], plugins: [shorter] });
  return outputFiles[0].text;
}

await build({
  ...shared,
  splitting: true,
  packages: 'external',
  outdir: 'dist',
  entryPoints: { index: 'src/index.ts', element: 'src/element/index.ts', react: 'src/react/index.ts' },
});
// Bundlers drop it from shared chunks: each file that React's server components may import says where it runs.
writeFileSync('dist/react.js', `"use client";\n${readFileSync('dist/react.js', 'utf8').replace(/^["']use client["'];\n/, '')}`);
writeFileSync('dist/slotcast.js', await bundled('src/element/index.ts'));

const node = 'dist/node';
mkdirSync(`${node}/socket.io`, { recursive: true });
copyFileSync('dist/slotcast.js', `${node}/slotcast.js`);
for (const name of ['socket.io.js', 'socket.io.min.js', 'socket.io.esm.min.js']) {
  const text = readFileSync(`node_modules/socket.io-client/dist/${name}`, 'utf8');
  // Source maps are not served.
  writeFileSync(`${node}/socket.io/${name}`, text.replace(/\n\/\/# sourceMappingURL=.*\s*$/, '\n'));
}
const css = await transform(readFileSync('page/page.css', 'utf8'), { loader: 'css', minify: true });
const files = { 'page.js': await bundled('src/page/main.ts'), 'page.css': css.code };
let html = readFileSync('page/index.html', 'utf8');
for (const [name, text] of Object.entries(files)) {
  writeFileSync(`${node}/${name}`, text);
  // The node also serves each file under a name with its hash, and that file never changes.
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 16);
  html = html.replace(`/${name}`, `/${name.replace('.', `.${hash}.`)}`);
}
// A browser shows a line break with its indent as one space.
writeFileSync(`${node}/index.html`, html.replace(/\s*\n\s*/g, ' '));

execFileSync('npx', ['tsc', '-p', 'tsconfig.types.json'], { stdio: 'inherit' });

// Cargo watches this file while there is no page. A change of it makes Cargo look for the page again.
utimesSync('absent/index.html', new Date(), new Date());
