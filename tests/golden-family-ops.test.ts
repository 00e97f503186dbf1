import { parameterAccess } from '@detailflow/blocks';
import {
  type Backend,
  gelu,
  l2Normalise,
  matmul,
  resizeImages,
  resizeMatrix,
  silu,
  trace,
  type Value,
  weightFromArray,
} from '@detailflow/core';
import { parseScales, scaleTransformer, scaleTransformerParameters } from '@detailflow/var';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { devices, openDevice } from './devices';
import { expectClose, floats, golden } from './golden';
import { floatTensor } from './golden-family';
import { runOnce } from './run-once';

const ops = golden('family/var/ops.safetensors');

type Operation = (x: Value, to: readonly number[]) => Value;

/** As the maps of scales are resized: one matrix for each axis. */
const resized =
  (kind: 'area' | 'bicubic'): Operation =>
  (x, [, , height, width]) => {
    const matrix = (from: number, to: number) => x.graph.constant(resizeMatrix(kind, from, to), [to, from]);
    const [, , h, w] = x.shape as number[];
    return matmul(matrix(h, height), matmul(x, matrix(w, width), { transposeB: true }));
  };

const operations: Readonly<Record<string, Operation>> = {
  area: resized('area'),
  bicubic: resized('bicubic'),
  silu: (x) => silu(x),
  gelu_tanh: (x) => gelu(x),
  normalize: (x) => l2Normalise(x, 1e-12),
};

/** Every array that one of the operations makes of `NAME.in`; SiLU has the input of GELU. */
const cases = Object.keys(ops).flatMap((name) => {
  const kind = /^(?:area|bicubic|silu|gelu_tanh|normalize)\b/.exec(name)?.[0];
  if (!kind || name.endsWith('.in')) return [];
  return [{ name, kind, from: name === 'silu' ? 'gelu_tanh.in' : `${name}.in` }];
});

test('all sizes are there', () => {
  const of = (kind: string) => cases.filter((one) => one.kind === kind).length;
  expect([of('area'), of('bicubic'), cases.length]).toEqual([8, 9, 20]);
});

test.each(cases.filter(({ kind }) => kind === 'area' || kind === 'bicubic'))('$name of images', (one) => {
  const { data, shape } = ops[one.from];
  const [, , height, width] = ops[one.name].shape;
  const to = { height, width };
  const found = resizeImages(data as Float32Array, shape, to, one.kind as 'area' | 'bicubic');
  expectClose(found, floats(ops[one.name]), 1e-5);
});

describe.each(devices)('operations of VAR and FlexVAR on the %s backend', (device) => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await openDevice(device);
  });
  afterAll(() => backend.close());

  test('each one', async () => {
    const graph = trace((g) =>
      Object.fromEntries(
        cases.map(({ name, kind, from }) => {
          const x = g.constant(floats(ops[from]), ops[from].shape);
          return [name, operations[kind](x, ops[name].shape)];
        }),
      ),
    );
    const found = await runOnce(backend, graph, new Map(), {});
    for (const { name } of cases) {
      expect(found[name].dims, name).toEqual(ops[name].shape);
      expectClose(found[name].data as Float32Array, floats(ops[name]), 1e-5);
    }
  });

  test('the modulation before the head: a transformer without blocks, whose other layers change nothing', async () => {
    const [rows, length, dim] = ops['adaln.in'].shape;
    const sizes = { depth: 0, dim, heads: 1, hiddenDim: dim, vocabularySize: dim, codeDim: dim };
    const config = {
      ...{ ...sizes, scales: parseScales([2]), classes: rows - 1, normEpsilon: 1e-6 },
      ...{ isShared: false, isNormalised: true, positions: 'table' as const },
    };
    const identity = Float32Array.from({ length: dim * dim }, (_, i) => Number(i % (dim + 1) === 0));
    const known: Record<string, Float32Array> = {
      'word_embed.weight': identity,
      'head.weight': identity,
      'class_emb.weight': floats(ops['adaln.cond']),
      'head_nm.ada_lin.1.weight': floats(ops['adaln.weight']),
      'head_nm.ada_lin.1.bias': floats(ops['adaln.bias']),
    };
    const specs = scaleTransformerParameters(config);
    const weights = new Map(
      specs.map(({ name, shape }) => {
        const zeros = new Float32Array(shape.reduce((a, b) => a * b, 1));
        return [name, weightFromArray(name, shape, known[name] ?? zeros)];
      }),
    );
    const graph = trace((g) => {
      const row = (n: number) =>
        g.constant(
          Int32Array.from({ length: n }, (_, i) => i),
          [n],
          'i32',
        );
      const none = g.constant(new Int32Array(length), [length], 'i32');
      const inputs = {
        labels: row(rows),
        maps: g.input('maps', 'f32', [rows, length, dim]),
        isFirst: g.constant(new Uint8Array(length), [length], 'bool'),
        ...{ firstPlaces: none, positions: { places: row(length), levels: none } },
      };
      const p = parameterAccess(g, specs);
      return { logits: scaleTransformer(p, config, inputs, (_block, _q, _k, v) => v) };
    });
    const { logits } = await runOnce(backend, graph, weights, { maps: floatTensor(ops['adaln.in']) });
    expectClose(logits.data as Float32Array, floats(ops['adaln.out']));
  });
});
