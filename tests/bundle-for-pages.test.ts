import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { inRepository } from './cli';

/** What of esbuild is used here; it comes with tsup. */
interface Esbuild {
  build(options: {
    readonly stdin: { readonly contents: string; readonly resolveDir: string };
    readonly bundle: true;
    readonly format: 'esm';
    readonly write: false;
    readonly logLevel: 'silent';
  }): Promise<{ readonly outputFiles: readonly { readonly text: string }[] }>;
}

const { resolve } = createRequire(import.meta.url);
const esbuild: Esbuild = createRequire(resolve('tsup'))('esbuild');

test('a bundle for pages leaves the package webgpu, which is for Node, out where it is installed, too', async () => {
  expect(resolve('webgpu')).toMatch(/index\.js$/);
  const contents = `export * from '@detailflow/backend-webgpu';`;
  const { outputFiles } = await esbuild.build({
    stdin: { contents, resolveDir: inRepository('') },
    ...{ bundle: true, format: 'esm', write: false, logLevel: 'silent' },
  });
  const code = outputFiles.map(({ text }) => text).join('\n');
  expect(code).toContain('requestAdapter');
  expect(code).not.toContain('dawn.node');
});
