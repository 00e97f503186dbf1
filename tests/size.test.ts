import { gzipSync } from 'node:zlib';
import { build } from 'vite';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

/** Bytes after gzip of packages in one file, with what they need. */
async function bundledSize(names: readonly string[]): Promise<number> {
  const entry = inRepository('tests/entry-of-this-test.js'); // never written: its text is below
  const result = await build({
    root: inRepository(''),
    configFile: false,
    logLevel: 'error',
    plugins: [
      {
        name: 'entry',
        enforce: 'pre',
        resolveId: (id) => (id === entry ? id : undefined),
        load: (id) =>
          id === entry ? names.map((name) => `export * from '@detailflow/${name}';`).join('\n') : undefined,
      },
    ],
    build: {
      write: false,
      minify: true,
      // An ES library would keep its white space; a program does not.
      lib: { entry, formats: ['iife'], name: 'bundle', fileName: 'bundle' },
    },
  });
  const outputs = (Array.isArray(result) ? result : [result]).flatMap((one) =>
    'output' in one ? one.output : [],
  );
  const code = outputs.map((one) => (one.type === 'chunk' ? one.code : '')).join('\n');
  expect(code).toContain('codebook');
  return gzipSync(code, { level: 9 }).length;
}

test('core, tokenizer, AR model and sampler together: at most 45 kB after gzip, all that they export', async () => {
  const size = await bundledSize(['core', 'tokenizer', 'ar-model', 'sampler']);
  expect(size).toBeGreaterThan(20_000);
  expect(size).toBeLessThan(45_000);
});
