// Builds the package: three entries with their types for bundlers, and `slotcast.js`, the element with everything in it.

import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';

import { build } from 'esbuild';

rmSync('dist', { recursive: true, force: true });

const shared = { bundle: true, format: 'esm', target: 'es2022', minify: true, sourcemap: false, legalComments: 'none' };

await Promise.all([
  build({
    ...shared,
    minify: false,
    splitting: true,
    packages: 'external',
    outdir: 'dist',
    entryPoints: { index: 'src/index.ts', element: 'src/element/index.ts' },
  }),
  build({ ...shared, outfile: 'dist/slotcast.js', entryPoints: ['src/element/index.ts'] }),
]);

execFileSync('npx', ['tsc', '--noEmit', 'false', '--emitDeclarationOnly', '--declaration', '--outDir', 'dist/types', '--rootDir', 'src'], {
  stdio: 'inherit',
});
