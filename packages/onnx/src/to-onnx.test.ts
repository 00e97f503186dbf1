import {
  broadcastTo,
  type GraphBuilder,
  matmul,
  mul,
  multiplyDims,
  reshape,
  slice,
  symbol,
  trace,
  type Value,
  writeRows,
} from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { type OnnxOptions, toOnnx } from './to-onnx';

const noWeights: OnnxOptions['placeWeight'] = (name) => {
  throw new Error(`${name} was asked for`);
};

describe('a state is updated by its rows only where nothing else reads the new value', () => {
  const rows = (g: GraphBuilder) => g.input('x', 'f32', [2, 3]);
  const at = (g: GraphBuilder) => g.input('at', 'i32', [1]);
  const build = (rest: (g: GraphBuilder, before: Value, after: Value) => Record<string, Value>) =>
    trace((g) => {
      const before = g.state('cache', [5, 3]);
      const after = writeRows(before, rows(g), at(g), 0);
      g.update('cache', after);
      return rest(g, before, after);
    });

  const written = { axis: 0, offset: 'offset.cache' };

  test.each<[string, Parameters<typeof build>[0], typeof written | undefined]>([
    ['the old value is read', (_, before) => ({ y: mul(before, 2) }), written],
    ['nothing is read', () => ({}), written],
    ['the new value is an output', (_, __, after) => ({ y: after }), undefined],
    ['a node reads the new value', (_, __, after) => ({ y: mul(after, 2) }), undefined],
    [
      'another state takes the new value',
      (g, before, after) => {
        g.state('copy', [5, 3]);
        g.update('copy', after);
        return { y: mul(before, 2) };
      },
      undefined,
    ],
  ])('%s', (_, rest, expected) => {
    const { states } = toOnnx(build(rest), { placeWeight: noWeights, rowUpdates: true });
    expect(states[0]).toEqual({
      name: 'cache',
      shape: [5, 3],
      dtype: 'f32',
      input: 'state.cache',
      output: 'next.cache',
      ...(expected && { rows: expected }),
    });
  });

  test('rows written into another state replace this one as a whole', () => {
    const graph = trace((g) => {
      const other = g.state('other', [5, 3]);
      const mine = g.state('mine', [5, 3]);
      g.update('mine', writeRows(other, rows(g), at(g), 0));
      g.update('other', mine);
      return {};
    });
    const { states } = toOnnx(graph, { placeWeight: noWeights, rowUpdates: true });
    expect(states.map(({ name, rows }) => [name, rows])).toEqual([
      ['other', undefined],
      ['mine', undefined],
    ]);
  });

  test('or where it was not asked for', () => {
    const { states } = toOnnx(
      build(() => ({})),
      { placeWeight: noWeights },
    );
    expect(states[0].rows).toBeUndefined();
  });
});

describe('what a model gives out', () => {
  const has = (bytes: Uint8Array, word: string) => Buffer.from(bytes).includes(word);

  test('is made under its name, and states written at one place share that', () => {
    const graph = trace((g) => {
      const [x, at] = [g.input('x', 'f32', [2, 3]), g.input('at', 'i32', [2])];
      const place = slice(at, 0, 0, 1);
      g.update('k', writeRows(g.state('k', [5, 3]), mul(x, 2), place, 0));
      g.update('v', writeRows(g.state('v', [5, 3]), mul(x, 4), place, 0));
      return { y: mul(x, 3) };
    });
    const { bytes, states } = toOnnx(graph, { placeWeight: noWeights, rowUpdates: true });
    expect(states.map(({ output, rows }) => [output, rows?.offset])).toEqual([
      ['next.k', 'offset.k'],
      ['next.v', 'offset.k'],
    ]);
    expect(has(bytes, 'offset.v')).toBe(false);
    expect(has(bytes, 'Identity')).toBe(false);
  });

  test.each<[string, (x: Value) => Record<string, Value>]>([
    ['an input', (x) => ({ y: x })],
    ['one result under two names', (x) => ({ y: mul(x, 2), z: mul(x, 3), again: mul(x, 2) })],
  ])('is copied where it has another name already: %s', (_, build) => {
    const graph = trace((g) => build(g.input('x', 'f32', [2])));
    expect(has(toOnnx(graph, { placeWeight: noWeights }).bytes, 'Identity')).toBe(true);
  });
});

test('a shape that stays costs no operation', () => {
  const graph = trace((g) => {
    const x = g.input('x', 'f32', [symbol('rows'), 3]);
    return { y: mul(reshape(x, x.shape), 2) };
  });
  expect(Buffer.from(toOnnx(graph, { placeWeight: noWeights }).bytes).includes('Reshape')).toBe(false);
});

test('weights are asked for once each, with name and shape', () => {
  const graph = trace((g) => {
    const w = g.weight('w', [3, 3]);
    g.weight('unused', [1]);
    return { y: matmul(matmul(g.input('x', 'f32', [2, 3]), w), w) };
  });
  const asked: [string, readonly number[]][] = [];
  toOnnx(graph, {
    placeWeight: (name, shape) => {
      asked.push([name, shape]);
      return { inline: new Float32Array(9) };
    },
  });
  expect(asked).toEqual([['w', [3, 3]]]);
});

describe('extents that no input tells', () => {
  const side = symbol('side');
  const size = multiplyDims(side, side);

  test.each<[string, (x: Value) => Value]>([
    ['the end of a slice', (x) => slice(x, 0, 0, side)],
    ['a broadcast', (x) => broadcastTo(x, [side, size])],
  ])('are named: %s', (_, build) => {
    const graph = trace((g) => ({ y: build(g.input('x', 'f32', [size])) }));
    expect(() => toOnnx(graph, { placeWeight: noWeights })).toThrow(
      expect.objectContaining({ code: 'shape', message: expect.stringContaining('"side"') }),
    );
  });
});

test('an operation without a rule is named', () => {
  const graph = trace((g) => ({ y: mul(g.input('x', 'f32', [1]), 2) }));
  const nodes = graph.nodes.map((node) => (node.op === 'mul' ? { ...node, op: 'fold' } : node));
  expect(() => toOnnx({ ...graph, nodes }, { placeWeight: noWeights })).toThrow(
    expect.objectContaining({ code: 'unsupported', message: expect.stringContaining('"fold"') }),
  );
});
