import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

export default defineConfig({
  publicDir: fileURLToPath(new URL('../../fixtures/golden', import.meta.url)),
  build: { target: 'es2022', modulePreload: false },
});
