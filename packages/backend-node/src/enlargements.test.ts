import { createNodeBackend } from '@detailflow/backend-node';
import {
  broadcastTo,
  type ConvOptions,
  conv2d,
  type GraphBuilder,
  reshape,
  symbol,
  Tensor,
  trace,
  type Value,
  weightFromArray,
} from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { toOnnx } from '@detailflow/onnx';
import { expect, test } from 'vitest';
import { numbers } from '../../../tests/numbers-by-formula';

const image = [symbol('batch'), 3, 4, 5] as const;
const input = (g: GraphBuilder) => g.input('x', 'f32', image);
const seen = (g: GraphBuilder, x: Value, options: ConvOptions = { padding: 1 }) =>
  conv2d(x, g.weight('kernel', [6, 3, 3, 3]), options);

/** Every place `rows` times downwards and `columns` times to the right. */
function enlarged(x: Value, rows: number, columns: number): Value {
  const [batch, channels, height, width] = x.shape as [Value['shape'][0], number, number, number];
  const cells = reshape(x, [batch, channels, height, 1, width, 1]);
  const repeated = broadcastTo(cells, [batch, channels, height, rows, width, columns]);
  return reshape(repeated, [batch, channels, rows * height, columns * width]);
}

const nearestTwice = (x: Value) => enlarged(x, 2, 2);

/** Operators of interest that a graph is written with. */
const cases: [string, (g: GraphBuilder) => Record<string, Value>, Record<string, number>][] = [
  ['by itself', (g) => ({ y: nearestTwice(input(g)) }), { Resize: 1 }],
  ['thrice and twice', (g) => ({ y: enlarged(input(g), 3, 2) }), { Resize: 1 }],
  ['seen by a convolution', (g) => ({ y: seen(g, nearestTwice(input(g))) }), { Conv: 4 }],
  [
    'seen by a convolution and read',
    (g) => {
      const twice = nearestTwice(input(g));
      return { y: seen(g, twice), twice };
    },
    { Conv: 4, Resize: 1 },
  ],
  [
    'seen by two',
    (g) => {
      const twice = nearestTwice(input(g));
      return { y: seen(g, twice), z: conv2d(twice, g.weight('other', [2, 3, 3, 3]), { padding: 1 }) };
    },
    { Conv: 8 },
  ],
  ['without margins', (g) => ({ y: seen(g, nearestTwice(input(g)), {}) }), { Conv: 1, Resize: 1 }],
  [
    'every second place',
    (g) => ({ y: seen(g, nearestTwice(input(g)), { padding: 1, stride: 2 }) }),
    { Conv: 1, Resize: 1 },
  ],
  ['thrice, seen', (g) => ({ y: seen(g, enlarged(input(g), 3, 3)) }), { Conv: 1, Resize: 1 }],
  [
    'its steps are read, too',
    (g) => {
      const x = input(g);
      const repeated = broadcastTo(reshape(x, [image[0], 3, 4, 1, 5, 1]), [image[0], 3, 4, 2, 5, 2]);
      return { y: reshape(repeated, [image[0], 3, 8, 10]), repeated };
    },
    { Resize: 1, Expand: 1 },
  ],
  [
    'along one axis, or of another order',
    (g) => {
      const cells = reshape(input(g), [image[0], 3, 4, 5, 1]);
      const repeated = broadcastTo(cells, [image[0], 3, 4, 5, 2]);
      return { y: reshape(repeated, [image[0], 3, 4, 10]), z: reshape(repeated, [image[0], 3, 8, 5]) };
    },
    { Expand: 1 },
  ],
];

test.each(cases)(
  'places that come again are what they are elsewhere: %s',
  async (_name, build, operators) => {
    const graph = trace(build);
    const weights = new Map([
      ['kernel', weightFromArray('kernel', [6, 3, 3, 3], numbers('kernel', 162))],
      ['other', weightFromArray('other', [2, 3, 3, 3], numbers('other', 54))],
    ]);
    await using backend = await createNodeBackend({ threads: 1, onNotice: () => {} });
    await using reference = createReferenceBackend();
    const [found, expected] = await Promise.all(
      [backend, reference].map((one) => one.compile(graph, weights)),
    );
    for (const batch of [1, 3]) {
      const x = new Tensor('float32', numbers('x', 60 * batch), [batch, 3, 4, 5]);
      const [values, exact] = [await found.run({ x }), await expected.run({ x })];
      for (const name of graph.outputs.keys()) {
        expect(values[name].dims).toEqual(exact[name].dims);
        for (const [i, value] of (values[name].data as Float32Array).entries()) {
          expect(Math.abs(value - (exact[name].data[i] as number))).toBeLessThan(1e-6);
        }
      }
    }
    const { bytes } = toOnnx(graph, {
      dialect: 'onnxruntime',
      placeWeight: (_weight, shape) => ({ inline: new Float32Array(shape.reduce((a, b) => a * b)) }),
    });
    const text = new TextDecoder('latin1').decode(bytes);
    for (const operator of ['Conv', 'Resize', 'Expand']) {
      // A node's fourth field, of so many letters.
      const nodes = text.split(`\x22${String.fromCharCode(operator.length)}${operator}`).length - 1;
      expect([operator, nodes]).toEqual([operator, operators[operator] ?? 0]);
    }
  },
);

test('a file for other programs keeps its convolutions', () => {
  const { bytes } = toOnnx(
    trace((g) => ({ y: seen(g, nearestTwice(input(g))) })),
    {
      placeWeight: () => ({ inline: new Float32Array(162) }),
    },
  );
  const text = new TextDecoder('latin1').decode(bytes);
  expect([text.split('\x22\x04Conv').length - 1, text.split('\x22\x06Resize').length - 1]).toEqual([1, 1]);
});
