import { defineConfig, type Options } from 'tsup';

/**
 * One build for every package: ESM, types beside the code, Node 20 and current browsers. No source maps: the output is
 * not minified and reads like the source, while maps would make a package three times as large.
 */
export function library(options: Options = {}) {
  return defineConfig({
    entry: ['src/index.ts'],
    format: ['esm'],
    target: 'es2022',
    dts: true,
    clean: true,
    treeshake: true,
    ...options,
  });
}
