import { readFileSync } from 'node:fs';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Backend, div, sub, Tensor, trace } from '@detailflow/core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { numbers, weightsByFormula } from '../../../tests/numbers-by-formula';
import { inception, inceptionParameters, resizeForInception, tensorflowBilinear } from './inception';
import { networkWeights } from './parameters';
import { lpips, lpipsParameters, vggFeatures, vggLevels, vggParameters } from './vgg';

interface Summary {
  readonly shape: number;
  readonly mean: number;
  readonly norm: number;
  readonly some: readonly number[];
}

/** By torch and torchvision: tools/reference/feature-networks.py. */
const reference = JSON.parse(
  readFileSync(new URL('../../../tests/fixtures/feature-networks.json', import.meta.url), 'utf8'),
);

function expectSummary(found: Tensor, { shape, mean, norm, some }: Summary): void {
  const data = found.data as Float32Array;
  expect(data.length).toBe(shape);
  const step = Math.max(1, Math.floor(data.length / 24));
  const size = norm / Math.sqrt(data.length);
  for (const [i, value] of some.entries()) expect(Math.abs(data[i * step] - value)).toBeLessThan(1e-4 * size);
  expect(Math.abs(norm2(data) - norm)).toBeLessThan(1e-4 * norm);
  expect(Math.abs(data.reduce((a, b) => a + b, 0) / data.length - mean)).toBeLessThan(1e-4 * size);
}

const norm2 = (data: Float32Array) => Math.sqrt(data.reduce((sum, x) => sum + x * x, 0));

let backend: Backend & { close?(): Promise<void> };
beforeAll(async () => {
  backend = await createNodeBackend();
});
afterAll(async () => backend.close?.());

test('Inception of FID: resized images, pooled and spatial features, logits', async () => {
  const specs = inceptionParameters();
  const graph = trace((g) => {
    const resized = div(sub(resizeForInception(g.input('images', 'f32', [2, 3, 40, 52])), 128), 128);
    return { resized, ...inception(networkWeights(g, specs), resized) };
  });
  const executable = await backend.compile(graph, weightsByFormula(specs));
  const images = numbers('inception/images', 2 * 3 * 40 * 52).map((x) => roundHalfEven(127.5 + 127.5 * x));
  const found = await executable.run({ images: new Tensor('float32', images, [2, 3, 40, 52]) });
  for (const name of ['resized', 'pool', 'spatial', 'logits']) expectSummary(found[name], reference[name]);
  await executable.dispose();
});

test('VGG16 and LPIPS', async () => {
  const specs = [...vggParameters(), ...lpipsParameters()];
  const shape = [2, 3, 32, 48];
  const graph = trace((g) => {
    const p = networkWeights(g, specs);
    const [a, b] = ['a', 'b'].map((name) => g.input(name, 'f32', shape));
    const channel = (values: number[]) => g.constant(Float32Array.from(values), [3, 1, 1]);
    const normal = div(sub(a, channel([-0.03, -0.088, -0.188])), channel([0.458, 0.448, 0.45]));
    const features = vggFeatures(p, normal);
    return { lpips: lpips(p, a, b), ...Object.fromEntries(features.map((f, i) => [`${i}`, f])) };
  });
  const executable = await backend.compile(graph, weightsByFormula(specs));
  const feed = (name: string) => new Tensor('float32', numbers(`lpips/${name}`, 2 * 3 * 32 * 48), shape);
  const found = await executable.run({ a: feed('a'), b: feed('b') });
  for (const [i, summary] of reference.vgg.entries()) expectSummary(found[`${i}`], summary);
  for (const [i, value] of reference.lpips.entries()) {
    expect(Math.abs((found.lpips.data[i] as number) - value)).toBeLessThan(1e-4 * value);
  }
  await executable.dispose();
});

test('LPIPS of an image on a larger canvas is that of the image alone', async () => {
  const specs = [...vggParameters(), ...lpipsParameters()];
  const weights = weightsByFormula(specs);
  const [size, canvas] = [20, 32];
  const small = ['a', 'b'].map((name) => numbers(`canvas/${name}`, 3 * size * size));
  const laid = small.map((values) => {
    const out = new Float32Array(3 * canvas * canvas).fill(0.7); // what lies outside must not matter
    for (let row = 0; row < 3 * size; row++) {
      const at = Math.floor(row / size) * canvas * canvas + (row % size) * canvas;
      out.set(values.subarray(row * size, (row + 1) * size), at);
    }
    return out;
  });
  const masks = Array.from({ length: vggLevels }, (_, level) => {
    const [inside, side] = [Math.floor(size / 2 ** level), canvas / 2 ** level];
    return Float32Array.from({ length: side * side }, (_, i) =>
      Number(i % side < inside && Math.floor(i / side) < inside),
    );
  });
  const distance = async (side: number, images: readonly Float32Array[], isMasked: boolean) => {
    const shape = [1, 3, side, side];
    const graph = trace((g) => ({
      y: lpips(
        networkWeights(g, specs),
        g.input('a', 'f32', shape),
        g.input('b', 'f32', shape),
        isMasked
          ? masks.map((mask) => g.constant(mask, [1, 1, Math.sqrt(mask.length), Math.sqrt(mask.length)]))
          : undefined,
      ),
    }));
    const executable = await backend.compile(graph, weights);
    const [a, b] = images.map((data) => new Tensor('float32', data, shape));
    const { y } = await executable.run({ a, b });
    await executable.dispose();
    return y.data[0] as number;
  };
  const alone = await distance(size, small, false);
  expect(Math.abs((await distance(canvas, laid, true)) - alone)).toBeLessThan(1e-5 * alone);
});

test('the resize of TensorFlow 1: by hand', () => {
  expect([...tensorflowBilinear(2, 4)]).toEqual([1, 0, 0.5, 0.5, 0, 1, 0, 1]);
});

/** As numpy and torch round. */
function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
