import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { siglipVisionParameters } from '@detailflow/blocks';
import { Tensor } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { numbers } from '../../../tests/numbers-by-formula';
import { collectFeatures } from './feature-set';
import { openExtractor } from './run/open-extractor';
import { openSiglip, readSiglip } from './run/open-siglip';

// That the features are those of the official code is checked with its values in tests/golden-options-training.test.ts; here is what
// is read from folders as google/siglip2-* are laid out.

const sizes = { width: 8, heads: 2, layers: 3, mlpWidth: 12, patchSize: 4, positionGrid: 2 };
const vision = {
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  patch_size: 4,
};

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'siglip-'));
});
afterAll(() => rm(home, { recursive: true }));

/** A folder of a tower, with the text tower and the pooling head that nobody reads. */
async function folder(name: string, { isConvolution = false, config = {} } = {}): Promise<string> {
  const place = path.join(home, name);
  await mkdir(place);
  const specs = siglipVisionParameters('vision_model', sizes).map((spec) => ({
    ...spec,
    data: numbers(
      spec.name,
      spec.shape.reduce((a, b) => a * b, 1),
    ),
  }));
  const others = ['text_model.head.weight', 'vision_model.head.probe', 'logit_scale'];
  const entries = [
    ...specs.map((spec) =>
      isConvolution && spec.name.endsWith('patch_embedding.weight')
        ? { ...spec, shape: [8, 3, 4, 4], data: asConvolution(spec.data) }
        : spec,
    ),
    ...others.map((one) => ({ name: one, shape: [1], data: Float32Array.of(1) })),
  ];
  const plan = encodeSafetensors(
    entries.map((entry) => ({ ...entry, dtype: 'f32' as const })),
    {},
  );
  const parts = [plan.header, ...plan.tensors.map(({ entry }) => new Uint8Array(entry.data.buffer))];
  await writeFile(path.join(place, 'model.safetensors'), Buffer.concat(parts));
  const text = { model_type: 'siglip2', vision_config: { ...vision, ...config } };
  await writeFile(path.join(place, 'config.json'), JSON.stringify(text));
  return place;
}

/** [8, (row, column, channel)] as [8, channel, row, column]. */
const asConvolution = (data: Float32Array): Float32Array =>
  Float32Array.from(data, (_, at) => {
    const [out, inside] = [Math.floor(at / 48), at % 48];
    return data[out * 48 + (inside % 16) * 3 + Math.floor(inside / 16)];
  });

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
