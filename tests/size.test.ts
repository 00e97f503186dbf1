import { gzipSync } from 'node:zlib';
import { build } from 'vite';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

/** Bytes after gzip of all that a program loads which begins with everything these packages export. */
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
      modulePreload: false,
      rollupOptions: { input: entry, preserveEntrySignatures: 'strict' },
    },
  });
  const outputs = (Array.isArray(result) ? result : [result]).flatMap((one) =>
    'output' in one ? one.output : [],
  );
  const chunks = new Map(outputs.flatMap((one) => (one.type === 'chunk' ? [[one.fileName, one]] : [])));
  // What is imported later, when it is needed, is loaded later.
  const loaded = new Set(
    [...chunks.values()].filter(({ isEntry }) => isEntry).map(({ fileName }) => fileName),
  );
  for (const name of loaded) for (const more of chunks.get(name)?.imports ?? []) loaded.add(more);
  const code = [...loaded].map((name) => chunks.get(name)?.code).join('\n');
  expect(code).toContain('codebook');
  return gzipSync(code, { level: 9 }).length;
}

test('core, tokenizer, AR model and sampler together: at most 40 kB after gzip, all that they export', async () => {
  const size = await bundledSize(['core', 'tokenizer', 'ar-model', 'sampler']);
  expect(size).toBeGreaterThan(20_000);
  expect(size).toBeLessThan(40_000);
});
