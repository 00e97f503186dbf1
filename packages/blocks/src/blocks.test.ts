import { Tensor, type TypedData, trace, type Value, weightFromArray } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { describe, expect, test } from 'vitest';
import { convDecoder, convEncoder, convTowerConfig, convTowerParameters, strideOf } from './conv-autoencoder';
import { gridRotation } from './grid-rotation';
import { groupNorm, nearestTwice } from './image-layers';
import { parameterAccess } from './parameters';

const wave = (size: number, shift: number) =>
  Float32Array.from({ length: size }, (_, i) => Math.sin(1.7 * i + shift));

async function evaluate(
  shape: readonly number[],
  data: Float32Array,
  f: (x: Value) => Value,
  weights = new Map(),
): Promise<{ dims: readonly number[]; data: TypedData }> {
  const graph = trace((g) => ({ y: f(g.input('x', 'f32', shape)) }));
  const executable = await createReferenceBackend().compile(graph, weights);
  const { y } = await executable.run({ x: new Tensor('float32', data, [...shape]) });
  return { dims: y.dims, data: y.data as TypedData };
}

test('group norm against plain loops', async () => {
  const [batch, channels, height, width, groups, epsilon] = [2, 6, 3, 5, 3, 1e-2];
  const x = wave(batch * channels * height * width, 0);
  const [weight, bias] = [wave(channels, 1), wave(channels, 2)];
  const weights = new Map(
    Object.entries({ 'n.weight': weight, 'n.bias': bias }).map(([name, data]) => [
      name,
      weightFromArray(name, [channels], data),
    ]),
  );
  const { data } = await evaluate(
    [batch, channels, height, width],
    x,
    (value) => groupNorm((name) => value.graph.weight(name, [channels]), 'n', value, { groups, epsilon }),
    weights,
  );
  const plane = height * width;
  const size = (channels / groups) * plane;
  for (let at = 0; at < x.length; at++) {
    const group = x.slice(Math.floor(at / size) * size, (Math.floor(at / size) + 1) * size);
    const mean = group.reduce((a, b) => a + b, 0) / size;
    const variance = group.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
    const channel = Math.floor(at / plane) % channels;
    const expected = ((x[at] - mean) / Math.sqrt(variance + epsilon)) * weight[channel] + bias[channel];
    expect(data[at]).toBeCloseTo(expected, 5);
  }
});

test('every place twice in both directions', async () => {
  const { dims, data } = await evaluate([1, 2, 1, 2], Float32Array.of(1, 2, 3, 4), nearestTwice);
  expect(dims).toEqual([1, 2, 2, 4]);
  expect([...data].map(Number)).toEqual([1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4]);
});

describe('the convolutional autoencoder', () => {
  const config = { stem: 32, channels: [32, 64], blocks: 1, latentChannels: 3 };
  const random = (kind: 'encoder' | 'decoder', joint: boolean) => {
    const specs = convTowerParameters(kind, { ...config, jointAttention: joint });
    const weights = specs.map(({ name, shape }, i) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return [
        name,
        weightFromArray(
          name,
          shape,
          wave(size, i).map((v) => v / Math.sqrt(size)),
        ),
      ] as const;
    });
    return { specs, weights: new Map(weights) };
  };

  test.each([true, false])(
    'halves and doubles sides that need not be equal; joint attention: %s',
    async (joint) => {
      const tower = { ...config, jointAttention: joint };
      expect(strideOf(tower)).toBe(2);
      const encoder = random('encoder', joint);
      const latents = await evaluate(
        [1, 3, 4, 6],
        wave(72, 5),
        (x) => convEncoder(parameterAccess(x.graph, encoder.specs), tower, x),
        encoder.weights,
      );
      expect(latents.dims).toEqual([1, 3, 2, 3]);
      const decoder = random('decoder', joint);
      const images = await evaluate(
        latents.dims,
        Float32Array.from(latents.data, Number),
        (x) => convDecoder(parameterAccess(x.graph, decoder.specs), tower, x),
        decoder.weights,
      );
      expect(images.dims).toEqual([1, 3, 4, 6]);
      expect([...images.data].every((value) => Number.isFinite(Number(value)))).toBe(true);
    },
  );

  test.each(['encoder', 'decoder'] as const)('the sizes of an %s are read off its weights', (kind) => {
    const sizes = { channels: [32, 96, 64], blocks: 2, latentChannels: 5, jointAttention: true };
    const one = kind === 'encoder' ? { ...sizes, stem: 64 } : sizes;
    const shapes = new Map(convTowerParameters(kind, one).map((spec) => [spec.name, spec]));
    expect(convTowerConfig(kind, shapes)).toEqual(one);
    expect(() => convTowerConfig(kind, new Map(), { file: 'a.pt' })).toThrow(/a\.pt.*conv_blocks/);
  });

  test('a weight that is not listed is refused', () => {
    expect(() =>
      trace((g) => ({ y: convDecoder(parameterAccess(g, []), config, g.input('x', 'f32', [1, 3, 2, 2])) })),
    ).toThrow('no such weight');
  });
});

test('places without a cell are turned to nothing, others by row and column', () => {
  const { cos, sin } = gridRotation([undefined, { row: 2, column: 3 }], { headDim: 8, ropeBase: 100 });
  expect([...cos.slice(0, 4), ...sin.slice(0, 4)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  const step = 100 ** (-4 / 8);
  [2, 2 * step, 3, 3 * step].forEach((angle, pair) => {
    expect(cos[4 + pair]).toBeCloseTo(Math.cos(angle), 6);
    expect(sin[4 + pair]).toBeCloseTo(Math.sin(angle), 6);
  });
});
