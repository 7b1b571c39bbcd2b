import { defineConfig } from 'vitest/config';

// A busy machine takes many times as long for a test as an idle one.
export default defineConfig({ test: { include: ['tests/{core,element,live}/**/*.test.ts'], testTimeout: 240_000 } });
