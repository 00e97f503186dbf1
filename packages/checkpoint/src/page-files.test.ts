import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { bytesSource, readFloat32 } from '@detailflow/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readBundle } from './bundle';
import { blobSource, droppedTree, urlTree } from './page-files';

const model = fileURLToPath(new URL('../../model-fashion-32/model/', import.meta.url));
let server: Server;
let base: string;
let sent = 0;

beforeAll(async () => {
  server = createServer(async (request, response) => {
    const [, kind, ...path] = (request.url ?? '').split('/');
    const bytes = await readFile(model + decodeURIComponent(path.join('/'))).catch(() => undefined);
    if (!bytes) {
      // As the server of a single-page application does it.
      response.writeHead(kind === 'page' ? 200 : 404, { 'content-type': 'text/html' }).end('<p>no');
      return;
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    if (kind === 'whole' || !range) {
      sent += bytes.length;
      response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(bytes);
      return;
    }
    const [from, to] = [Number(range[1]), Number(range[2]) + (kind === 'liar' ? 5 : 0)];
    const part = bytes.subarray(from, to + 1);
    sent += part.length;
    response.writeHead(206, {
      'content-type': 'application/octet-stream',
      'content-range': `bytes ${from}-${to}/${bytes.length}`,
    });
    response.end(part);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => new Promise((resolve) => server.close(resolve)));

const NAME = 'quant_conv.bias';

async function firstWeight(tree: Parameters<typeof readBundle>[0]): Promise<number[]> {
  const bundle = await readBundle(tree);
  try {
    const weight = bundle.tokenizer.get(NAME);
    return weight ? [...(await readFloat32(weight))] : [];
  } finally {
    await bundle.close();
  }
}

test('a bundle is read by ranges, as a whole where there are none, and from dropped files', async () => {
  sent = 0;
  const ranged = await firstWeight(urlTree(`${base}/ranges/`));
  expect(ranged.length).toBeGreaterThan(1);
  const size = (await readFile(`${model}tokenizer.safetensors`)).length;
  expect(sent).toBeLessThan(size / 10);
  expect(await firstWeight(urlTree(`${base}/whole/`))).toEqual(ranged);
  expect(await firstWeight(urlTree(`${base}/ranges/`, { wholeBelow: 2 ** 25 }))).toEqual(ranged);

  const names = ['config.json', 'tokenizer.safetensors', 'ar.safetensors'];
  const files = await Promise.all(
    names.map(async (name) => {
      const file = new File([await readFile(model + name)], name);
      Object.defineProperty(file, 'webkitRelativePath', { value: `fashion/${name}` });
      return file;
    }),
  );
  const dropped = droppedTree(files);
  expect(dropped.name).toBe('fashion');
  expect(await firstWeight(dropped)).toEqual(ranged);
});

test('files that are not there, servers that answer otherwise, addresses outside', async () => {
  for (const kind of ['ranges', 'page']) {
    const tree = urlTree(`${base}/${kind}/`);
    expect(await tree.exists('none.json')).toBe(false);
    expect(await tree.exists('config.json')).toBe(true);
    await expect(tree.open('none.json')).rejects.toMatchObject({ code: 'io' });
    await expect(tree.open('../config.json')).rejects.toMatchObject({ code: 'invalid-argument' });
  }
  await expect(firstWeight(urlTree(`${base}/liar/`))).rejects.toMatchObject({ code: 'io' });
  const small = urlTree(`${base}/whole/`, { maxBytes: 1000 });
  await expect(small.open('tokenizer.safetensors')).rejects.toMatchObject({ code: 'limit' });
  await expect(urlTree('http://127.0.0.1:1/').open('config.json')).rejects.toMatchObject({ code: 'io' });
  const stopped = urlTree(`${base}/ranges/`, { signal: AbortSignal.abort(new Error('enough')) });
  await expect(stopped.open('config.json')).rejects.toThrow('enough');
});

test('parts of a blob', async () => {
  const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
  const source = blobSource(new Blob([bytes]));
  expect(await source.read(10, 5)).toEqual(await bytesSource(bytes).read(10, 5));
  await expect(source.read(98, 5)).rejects.toMatchObject({ code: 'io' });
});
