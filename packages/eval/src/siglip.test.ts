import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Tensor } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { numbers } from '../../../tests/numbers-by-formula';
import { siglipFolder } from '../../../tests/siglip-folder';
import { collectFeatures } from './feature-set';
import { openExtractor } from './run/open-extractor';
import { openSiglip, readSiglip } from './run/open-siglip';

// That the features are those of the official code is checked with its values in tests/golden-options-training.test.ts; here is what
// is read from folders as google/siglip2-* are laid out.

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'siglip-'));
});
afterAll(() => rm(home, { recursive: true }));

const folder = (name: string, options?: Parameters<typeof siglipFolder>[1]) =>
  siglipFolder(path.join(home, name), options);

const images = (side: number) =>
  new Tensor('float32', numbers('images', 6 * side * side), [2, 3, side, side]);

describe('SigLIP2', () => {
  test('folders with patches as a matrix or as a convolution give the same features, at every size', async () => {
    const backend = createReferenceBackend();
    const [matrix, convolution] = await Promise.all(
      [await folder('matrix'), await folder('conv', { isConvolution: true })].map((place) =>
        openSiglip(place, backend),
      ),
    );
    for (const side of [4, 8, 20]) {
      const [a, b] = [await matrix.features(images(side)), await convolution.features(images(side))];
      expect(a.dims).toEqual([2, (side / 4) ** 2, 8]);
      expect(a.data).toEqual(b.data);
      expect(new Set(a.data).size).toBeGreaterThan(8);
      const mean = await matrix.means(images(side));
      const patches = a.data.length / 16;
      const first = a.data.filter((_, i) => i < patches * 8 && i % 8 === 3);
      expect(mean.data[3]).toBeCloseTo(first.reduce((x, y) => x + y, 0) / patches, 5);
    }
    await expect(matrix.features(images(6))).rejects.toMatchObject({ code: 'shape' });
    await matrix.dispose();
  });

  test('as an extractor it has no classes, and no inception score', async () => {
    const extractor = await openExtractor(await folder('extractor'), createReferenceBackend());
    const source = {
      name: 'noise',
      labels: new Int32Array(4),
      read: async (first: number, count: number) => ({
        ...{ count, height: 8, width: 8 },
        data: Uint8Array.from({ length: count * 192 }, (_, i) => (37 * (i + 191 * first)) % 256),
      }),
    };
    const found = await collectFeatures(source, { extractor });
    expect(found.count).toBe(4);
    expect(found.inceptionScore).toBeUndefined();
    expect(found.pool.every(Number.isFinite)).toBe(true);
    await extractor.dispose();
  });

  test('the first layers; what does not fit is named', async () => {
    const place = await folder('layers');
    expect((await readSiglip(place, { layers: 2 })).config.layers).toBe(2);
    await expect(readSiglip(place, { layers: 4 })).rejects.toThrow(/has 3 layers, 4 are asked for/);
    const wrong = await folder('wrong', { config: { hidden_size: 16 } });
    await expect(readSiglip(wrong)).rejects.toMatchObject({ code: 'config', entry: 'hidden_size' });
    const heads = await folder('heads', { config: { num_attention_heads: 3 } });
    await expect(readSiglip(heads)).rejects.toMatchObject({ code: 'config' });
  });
});
