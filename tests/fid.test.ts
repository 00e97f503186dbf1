import { readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, Tensor } from '@detailflow/core';
import { shapesDataset } from '@detailflow/data';
import {
  type ByteImages,
  collectFeatures,
  datasetSource,
  type Extractor,
  type FeatureSet,
  frechetDistance,
  type ImageSource,
  inceptionExtractor,
  perceptualDistance,
} from '@detailflow/eval';
import { openExtractor } from '@detailflow/eval/node';
import { inceptionParameters, lpipsParameters, vggParameters } from '@detailflow/features';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { inRepository } from './cli';
import { numbers, weightsByFormula } from './numbers-by-formula';

/** By torch, torchvision and numpy: tools/reference/feature-networks.py. */
const reference = JSON.parse(readFileSync(inRepository('tests/fixtures/feature-networks.json'), 'utf8'));

const [count, side] = [24, 48];

/** Blocks of 8 x 8 pixels under noise; `coarse` quarters of the former. */
function syntheticSource(name: string, coarse: number): ImageSource {
  const bytes = (part: string, length: number) =>
    Uint8Array.from(numbers(`fid/${name}/${part}`, length), (x) => Math.min(255, Math.floor((x + 1) * 128)));
  const blocksAcross = side / 8;
  const blocks = bytes('blocks', count * 3 * blocksAcross ** 2);
  const noise = bytes('noise', count * 3 * side ** 2);
  return {
    name,
    labels: new Int32Array(count),
    async read(first, size) {
      const data = new Uint8Array(size * side * side * 3);
      for (let i = 0; i < size; i++) {
        for (let at = 0; at < side ** 2; at++) {
          const [y, x] = [Math.floor(at / side), at % side];
          for (let c = 0; c < 3; c++) {
            const plane = (first + i) * 3 + c;
            const block = blocks[plane * blocksAcross ** 2 + (y >> 3) * blocksAcross + (x >> 3)];
            data[(i * side ** 2 + at) * 3 + c] =
              (coarse * block + (4 - coarse) * noise[plane * side ** 2 + at]) >> 2;
          }
        }
      }
      return { data, count: size, height: side, width: side };
    },
  };
}

let backend: Backend & { close?(): Promise<void> };
let extractor: Extractor;
const sets = new Map<string, FeatureSet>();
beforeAll(async () => {
  backend = await createNodeBackend();
  extractor = inceptionExtractor({ weights: weightsByFormula(inceptionParameters()), backend });
  for (const [name, coarse] of Object.entries({ a: 3, b: 3, c: 1 })) {
    sets.set(name, await collectFeatures(syntheticSource(name, coarse), { extractor, batch: 10 }));
  }
});
afterAll(async () => {
  await extractor.dispose();
  await backend.close?.();
});

describe.each(Object.entries(reference.fid as Record<string, [number, number]>))(
  'sets %s',
  (pair, expected) => {
    const [x, y] = pair.split(' ');
    test('FID and sFID of the reference', () => {
      const [one, other] = [x, y].map((name) => (sets.get(name) as FeatureSet).statistics);
      expect(Math.abs(frechetDistance(one.pool, other.pool) - expected[0])).toBeLessThan(1e-3);
      const spatial = frechetDistance(one.spatial!, other.spatial!);
      expect(Math.abs(spatial - expected[1])).toBeLessThan(1e-3);
    });
  },
);

test('IS of the reference', () => {
  for (const [name, expected] of Object.entries(reference.inceptionScore as Record<string, number>)) {
    expect(
      Math.abs(((sets.get(name) as FeatureSet).inceptionScore?.mean ?? Number.NaN) - expected),
    ).toBeLessThan(1e-5);
  }
});

test('LPIPS of the reference; nothing between an image and itself', async () => {
  const [vgg, heads] = [weightsByFormula(vggParameters()), weightsByFormula(lpipsParameters())];
  const distance = perceptualDistance({ vgg, heads, backend });
  try {
    const [a, b] = ['a', 'b'].map(
      (name) => new Tensor('float32', numbers(`lpips/${name}`, 2 * 3 * 32 * 48), [2, 3, 32, 48]),
    );
    for (const [i, value] of [...(await distance.between(a, b))].entries()) {
      expect(Math.abs(value / reference.lpips[i] - 1)).toBeLessThan(1e-4);
    }
    expect(Math.max(...(await distance.between(a, a)))).toBe(0);
  } finally {
    await distance.dispose();
  }
  const lacking = new Map([...vgg].filter(([name]) => name !== 'features.5.bias'));
  expect(() => perceptualDistance({ vgg: lacking, heads, backend })).toThrow(/features\.5\.bias/);
});

/** Changes of images that grow with a strength. */
const changes: Record<string, (images: ByteImages, strength: number) => Uint8Array> = {
  noise: ({ data }, strength) => {
    const noise = numbers('noise', data.length);
    return data.map((byte, i) => Math.min(255, Math.max(0, Math.round(byte + 255 * strength * noise[i]))));
  },
  contrast: ({ data }, strength) => data.map((byte) => Math.round(127.5 + (byte - 127.5) * (1 - strength))),
  /** Every row over its neighbours, so many times. */
  blur: ({ data, width, height, count }, strength) => {
    let now = Float32Array.from(data);
    const at = (i: number, y: number, x: number, c: number) => ((i * height + y) * width + x) * 3 + c;
    for (let pass = 0; pass < Math.round(20 * strength); pass++) {
      const next = now.slice();
      for (let i = 0; i < count; i++)
        for (let y = 0; y < height; y++)
          for (let x = 1; x < width - 1; x++)
            for (let c = 0; c < 3; c++)
              next[at(i, y, x, c)] =
                (now[at(i, y, x - 1, c)] + now[at(i, y, x, c)] + now[at(i, y, x + 1, c)]) / 3;
      now = next;
    }
    return Uint8Array.from(now, Math.round);
  },
};

test.each(Object.keys(changes))('the distance grows with %s', async (kind) => {
  const classifier = await openExtractor(
    inRepository('packages/model-fashion-32/classifier.safetensors'),
    backend,
  );
  try {
    const shapes = datasetSource(shapesDataset({ images: 150, size: 32 }), { size: 32, fit: 'crop' });
    const statisticsOf = async (strength: number) => {
      const source: ImageSource = {
        ...shapes,
        async read(first, size) {
          const images = await shapes.read(first, size);
          return { ...images, data: changes[kind](images, strength) };
        },
      };
      return (await collectFeatures(source, { extractor: classifier })).statistics.pool;
    };
    const clean = await statisticsOf(0);
    const distances = [0];
    for (const strength of [0.1, 0.3, 0.9]) {
      const changed = await statisticsOf(strength);
      distances.push(frechetDistance(clean, changed));
      expect(frechetDistance(changed, clean)).toBeCloseTo(distances[distances.length - 1], 4);
    }
    expect(Math.abs(frechetDistance(clean, clean))).toBeLessThan(1e-6);
    for (const [i, distance] of distances.entries())
      if (i > 0) expect(distance).toBeGreaterThan(distances[i - 1]);
  } finally {
    await classifier.dispose();
  }
});
