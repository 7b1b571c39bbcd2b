import { defineConfig } from 'vitest/config';

export default defineConfig({ test: { include: ['tests/{core,element,live}/**/*.test.ts'] } });
