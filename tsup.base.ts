import { defineConfig, type Options } from 'tsup';

/** One build for every package: ESM, types beside the code, Node 20 and current browsers. */
export function library(options: Options = {}) {
  return defineConfig({
    entry: ['src/index.ts'],
    format: ['esm'],
    target: 'es2022',
    dts: true,
    clean: true,
    sourcemap: true,
    treeshake: true,
    ...options,
  });
}
