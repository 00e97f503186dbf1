import { tokenModelParameters } from '@detailflow/ar-model';
import { type FileTree, fileTree } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { type ByteSource, checkRange } from '@detailflow/core';
import { expect, test } from 'vitest';
import { inRepository } from '../../../tests/cli';
import { openModel } from './model-source';

const tokenizer = inRepository('tests/fixtures/golden/A/tokenizer');

/** A file of zeros with a header that says what tensors they are. */
function zeros(shapes: ReadonlyMap<string, readonly number[]>): ByteSource {
  let at = 0;
  const entries = [...shapes].map(([name, shape]) => {
    const end = at + 4 * shape.reduce((a, b) => a * b, 1);
    const entry = [name, { dtype: 'F32', shape, data_offsets: [at, end] }];
    at = end;
    return entry;
  });
  const header = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const start = new Uint8Array(8 + header.length);
  new DataView(start.buffer).setBigUint64(0, BigInt(header.length), true);
  start.set(header, 8);
  const [name, size] = ['ema.safetensors', start.length + at];
  return {
    name,
    size,
    async read(offset, length) {
      checkRange(name, size, offset, length);
      const bytes = new Uint8Array(length);
      bytes.set(start.subarray(offset, offset + length));
      return bytes;
    },
  };
}

test('an AR folder without config.json is a GPT-L of the sizes of the tokenizer, or refused', async () => {
  const { config } = (await openModel({ tokenizer, ar: inRepository('tests/fixtures/golden/A/ar') })).ar!;
  const large = { ...config, dim: 1024, layers: 24, heads: 16, kvHeads: 16, hiddenDim: 2816, classes: 1000 };
  const shapes = new Map(tokenModelParameters(large).map(({ name, shape }) => [name, shape] as const));
  const folder = (found: ReadonlyMap<string, readonly number[]>): FileTree =>
    fileTree('gpt-l', new Map([['ema.safetensors', zeros(found)]]));
  const opened = await openModel({ tokenizer, ar: folder(shapes) });
  expect(opened.ar?.config).toEqual(large);
  shapes.delete([...shapes.keys()][3]);
  await expect(openModel({ tokenizer, ar: folder(shapes) })).rejects.toMatchObject({
    code: 'weights',
    message: expect.stringMatching(/^gpt-l: there is no config\.json, and as a GPT-L/),
  });
  await expect(
    openModel({ tokenizer, ar: await openFolder(tokenizer.replace(/tokenizer$/, '')) }),
  ).rejects.toMatchObject({
    message: expect.stringContaining('there is no config.json'),
  });
});
