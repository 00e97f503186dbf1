import { describe, expect, test } from 'vitest';
import { addDims, formatShape, multiplyDims, type Shape, symbol } from '../dim';
import { type GraphBuilder, trace, type Value } from '../graph';
import type { DType } from '../op';
import { gelu, silu } from './activation';
import { attention, cachedAttention, rope, swapHeads } from './attention';
import { add, div, equal, exp, less, maximum, neg, select, sigmoid, sqrt, sub, tanh } from './elementwise';
import { gather, takeAlong, topK, writeRows } from './indexing';
import { broadcastTo, concat, reshape, slice, transpose } from './layout';
import { linear, matmul } from './matmul';
import { l2Normalise, layerNorm, rmsNorm, softmax } from './normalisation';
import { max, mean, sum } from './reduce';
import { operations } from './table';

const batch = symbol('batch');
const step = symbol('step');

type Leaf = (shape: Shape, dtype?: DType) => Value;
type Build = (x: Leaf, graph: GraphBuilder) => Value;

/** Runs `build` with a source of inputs and returns the value it makes. */
function made(build: Build): Value {
  let result: Value | undefined;
  let count = 0;
  trace((g) => {
    result = build((shape, dtype = 'f32') => g.input(`x${count++}`, dtype, shape), g);
    return {};
  });
  return result as Value;
}

describe('shapes and types of results', () => {
  test.each<[string, Build, string]>([
    ['add broadcasts', (x) => add(x([batch, 1, 3]), x([step, 1])), 'f32 [batch, step, 3]'],
    ['add of i32', (x) => add(x([2], 'i32'), 1), 'i32 [2]'],
    ['less is bool', (x) => less(x([2], 'i32'), x([3, 1], 'i32')), 'bool [3, 2]'],
    ['equal is bool', (x) => equal(x([batch], 'i32'), 0), 'bool [batch]'],
    ['select', (x) => select(x([3, 1], 'bool'), x([4], 'i32'), 0), 'i32 [3, 4]'],
    ['select of numbers', (x) => select(x([3], 'bool'), 1, 0), 'f32 [3]'],
    ['matmul', (x) => matmul(x([batch, 2, 3]), x([3, 5])), 'f32 [batch, 2, 5]'],
    ['matmul a^T', (x) => matmul(x([3, step]), x([3, 5]), { transposeA: true }), 'f32 [step, 5]'],
    ['matmul b^T', (x) => matmul(x([2, 3]), x([step, 3]), { transposeB: true }), 'f32 [2, step]'],
    ['linear', (x) => linear(x([batch, step, 3]), x([5, 3]), x([5])), 'f32 [batch, step, 5]'],
    ['reshape', (x) => reshape(x([batch, 6]), [multiplyDims(batch, 2), 3]), 'f32 [2*batch, 3]'],
    ['transpose', (x) => transpose(x([batch, 2, 3], 'i32'), [2, 0, 1]), 'i32 [3, batch, 2]'],
    ['broadcastTo', (x) => broadcastTo(x([1, 3]), [batch, step, 3]), 'f32 [batch, step, 3]'],
    ['slice', (x) => slice(x([addDims(step, 4), 2]), 0, 4, addDims(step, 4)), 'f32 [step, 2]'],
    ['concat', (x) => concat([x([batch, step]), x([batch, 3])], -1), 'f32 [batch, step+3]'],
    ['gather', (x) => gather(x([9, 4]), x([batch, 2], 'i32')), 'f32 [batch, 2, 4]'],
    ['takeAlong', (x) => takeAlong(x([batch, 9]), x([batch, 2], 'i32')), 'f32 [batch, 2]'],
    ['topK', (x) => topK(x([batch, 9]), 3), 'i32 [batch, 3]'],
    ['writeRows', (x) => writeRows(x([batch, 9]), x([batch, step]), x([1], 'i32'), 1), 'f32 [batch, 9]'],
    ['sum', (x) => sum(x([batch, 2, 3]), [0, -1]), 'f32 [1, 2, 1]'],
    ['max', (x) => max(x([2, 3]), [1]), 'f32 [2, 1]'],
    ['mean', (x) => mean(x([batch, 3]), -1), 'f32 [batch, 1]'],
    ['softmax', (x) => softmax(x([batch, step])), 'f32 [batch, step]'],
    ['layerNorm', (x) => layerNorm(x([batch, 3]), x([3]), x([3]), 1e-6), 'f32 [batch, 3]'],
    ['rmsNorm', (x) => rmsNorm(x([batch, 3]), x([3]), 1e-6), 'f32 [batch, 3]'],
    ['rope', (x) => rope(x([batch, step, 2, 8]), x([step, 4]), x([step, 4])), 'f32 [batch, step, 2, 8]'],
    ['swapHeads', (x) => swapHeads(x([batch, step, 2, 8])), 'f32 [batch, 2, step, 8]'],
    [
      'attention with fewer key heads',
      (x) => attention(x([batch, 2, 6, 4]), x([batch, 2, step, 4]), x([batch, 2, step, 4]), { scale: 1 }),
      'f32 [batch, 2, 6, 4]',
    ],
  ])('%s', (_, build, expected) => {
    const { dtype, shape } = made(build);
    expect(`${dtype} ${formatShape(shape)}`).toBe(expected);
  });
});

const f32Only = { neg, exp, sqrt, tanh, sigmoid, gelu, silu, softmax, sum: (x: Value) => sum(x, [0]) };

describe('wrong types are refused where the operation is written', () => {
  test.each(Object.entries(f32Only))('%s of i32', (name, op) => {
    expect(() => made((x) => op(x([2], 'i32')))).toThrow(
      expect.objectContaining({ code: 'dtype', message: expect.stringContaining(name) }),
    );
  });

  test.each<[string, Build]>([
    ['add of two types', (x) => add(x([2]), x([2], 'i32'))],
    ['add of bool', (x) => add(x([2], 'bool'), x([2], 'bool'))],
    ['div of i32', (x) => div(x([2], 'i32'), x([2], 'i32'))],
    ['maximum of i32', (x) => maximum(x([2], 'i32'), 1)],
    ['equal of f32', (x) => equal(x([2]), x([2]))],
    ['sub of i32 and a fraction', (x) => sub(x([2], 'i32'), 0.5)],
    ['select with f32 condition', (x) => select(x([2]), x([2]), x([2]))],
    ['select of two types', (x) => select(x([2], 'bool'), x([2]), x([2], 'i32'))],
    ['matmul of i32', (x) => matmul(x([2, 2], 'i32'), x([2, 2], 'i32'))],
    ['gather by f32', (x) => gather(x([2, 2]), x([2]))],
    ['takeAlong by f32', (x) => takeAlong(x([2, 2]), x([2, 1]))],
    ['writeRows at f32', (x) => writeRows(x([4]), x([1]), x([1]), 0)],
    ['topK of i32', (x) => topK(x([4], 'i32'), 2)],
    ['max of bool', (x) => max(x([4], 'bool'), [0])],
    ['layerNorm of i32', (x) => layerNorm(x([2, 3], 'i32'), x([3]), x([3]), 1e-6)],
    ['layerNorm with i32 weights', (x) => layerNorm(x([2, 3]), x([3], 'i32'), x([3]), 1e-6)],
    ['rmsNorm of i32', (x) => rmsNorm(x([2, 3], 'i32'), x([3]), 1e-6)],
    ['l2Normalise of i32', (x) => l2Normalise(x([3], 'i32'), 1e-6)],
    ['rope of i32', (x) => rope(x([1, 2, 1, 4], 'i32'), x([2, 2]), x([2, 2]))],
    [
      'attention of i32',
      (x) => attention(x([1, 1, 2, 4], 'i32'), x([1, 1, 2, 4]), x([1, 1, 2, 4]), { scale: 1 }),
    ],
    [
      'attention with a bool bias',
      (x) =>
        attention(x([1, 1, 2, 4]), x([1, 1, 2, 4]), x([1, 1, 2, 4]), { scale: 1, bias: x([2, 2], 'bool') }),
    ],
  ])('%s', (_, build) => {
    expect(() => made(build)).toThrow(expect.objectContaining({ code: 'dtype' }));
  });
});

describe('shapes that do not fit are refused where the operation is written', () => {
  const query: Shape = [batch, 2, 6, 4];
  const keys: Shape = [batch, 2, step, 4];
  const cached =
    (pastK: Shape, pastV: Shape, pastBias: Shape): Build =>
    (x) =>
      cachedAttention(x(query), x(keys), x(keys), {
        scale: 1,
        pastK: x(pastK),
        pastV: x(pastV),
        pastBias: x(pastBias),
      });

  test.each<[string, Build, string?]>([
    ['add', (x) => add(x([2, 3]), x([2])), 'add'],
    ['add of two symbols', (x) => add(x([batch]), x([step]))],
    ['select', (x) => select(x([3], 'bool'), x([2]), x([2])), 'select'],
    ['matmul, inner extents', (x) => matmul(x([2, 3]), x([2, 3])), 'inner extents 3 and 2'],
    ['matmul of a vector', (x) => matmul(x([3]), x([3, 2])), 'give matrices'],
    ['matmul, leading axes', (x) => matmul(x([2, 4, 3]), x([5, 3, 4])), 'matmul'],
    ['reshape', (x) => reshape(x([batch, 6]), [batch, 5]), 'does not fill'],
    ['reshape to a torch-like -1', (x) => reshape(x([6]), [-1, 3])],
    ['transpose, too few axes', (x) => transpose(x([2, 3]), [0])],
    ['transpose, an axis twice', (x) => transpose(x([2, 3]), [0, 0])],
    ['transpose, no such axis', (x) => transpose(x([2, 3]), [0, 2])],
    ['broadcastTo', (x) => broadcastTo(x([2, 3]), [3])],
    ['broadcastTo 1', (x) => broadcastTo(x([3]), [1])],
    ['slice beyond the end', (x) => slice(x([4]), 0, 2, 5)],
    ['slice backwards', (x) => slice(x([4]), 0, 3, 2)],
    ['slice from before the start', (x) => slice(x([4]), 0, -1, 2)],
    ['slice, no such axis', (x) => slice(x([4]), 1, 0, 1), 'axis 1'],
    ['concat', (x) => concat([x([2, 3]), x([3, 3])], 1), 'concat'],
    ['concat of two types', (x) => concat([x([2]), x([2], 'i32')], 0), 'concat'],
    ['concat of two ranks', (x) => concat([x([2]), x([2, 1])], 0), 'concat'],
    ['gather of a scalar', (x) => gather(x([]), x([2], 'i32'))],
    ['takeAlong', (x) => takeAlong(x([2, 3]), x([3, 1], 'i32'))],
    ['takeAlong of another rank', (x) => takeAlong(x([2, 3]), x([2], 'i32'))],
    ['topK of too few', (x) => topK(x([3]), 4), '4 of 3'],
    ['topK of none', (x) => topK(x([3]), 0)],
    ['topK of an unknown extent', (x) => topK(x([batch]), 1)],
    ['writeRows of other columns', (x) => writeRows(x([5, 3]), x([2, 4]), x([1], 'i32'), 0), 'writeRows'],
    ['writeRows of more rows than there are', (x) => writeRows(x([5, 3]), x([6, 3]), x([1], 'i32'), 0)],
    ['writeRows at two places', (x) => writeRows(x([5, 3]), x([2, 3]), x([2], 'i32'), 0)],
    ['sum over no such axis', (x) => sum(x([2, 3]), [2]), 'axis 2'],
    ['mean over an unknown extent', (x) => mean(x([batch]), 0), 'batch'],
    ['softmax of a scalar', (x) => softmax(x([]))],
    ['l2Normalise of a scalar', (x) => l2Normalise(x([]), 1e-12)],
    ['layerNorm', (x) => layerNorm(x([2, 3]), x([2]), x([3]), 1e-6), 'layerNorm'],
    ['layerNorm with a matrix', (x) => layerNorm(x([2, 3]), x([3]), x([1, 3]), 1e-6)],
    ['rmsNorm', (x) => rmsNorm(x([2, 3]), x([2]), 1e-6), 'rmsNorm'],
    ['rope, other places', (x) => rope(x([1, 4, 2, 8]), x([3, 4]), x([3, 4]))],
    ['rope, other width', (x) => rope(x([1, 4, 2, 8]), x([4, 8]), x([4, 8]))],
    ['rope, sin unlike cos', (x) => rope(x([1, 4, 2, 8]), x([4, 4]), x([4, 2]))],
    [
      'attention, other heads',
      (x) => attention(x(query), x([batch, 3, step, 4]), x([batch, 3, step, 4]), { scale: 1 }),
    ],
    ['attention, values unlike keys', (x) => attention(x(query), x(keys), x([batch, 2, 7, 4]), { scale: 1 })],
    ['attention of three axes', (x) => attention(x([2, 6, 4]), x([2, 5, 4]), x([2, 5, 4]), { scale: 1 })],
    [
      'attention, bias of other keys',
      (x) => attention(x(query), x(keys), x(keys), { scale: 1, bias: x([6, 5]) }),
      'bias',
    ],
    [
      'attention, bias with more axes than scores',
      (x) => attention(x(query), x(keys), x(keys), { scale: 1, bias: x([3, 1, 1, 1, 1]) }),
      'bias',
    ],
    ['cachedAttention, past values', cached([batch, 2, 9, 4], [batch, 2, 8, 4], [9])],
    ['cachedAttention, past bias', cached([batch, 2, 9, 4], [batch, 2, 9, 4], [8])],
    ['cachedAttention, past heads', cached([batch, 3, 9, 4], [batch, 3, 9, 4], [9])],
  ])('%s', (_, build, text = '') => {
    expect(() => made(build)).toThrow(
      expect.objectContaining({ code: 'shape', message: expect.stringContaining(text) }),
    );
  });
});

test('two numbers make no node, and nothing cannot be joined', () => {
  expect(() => add(1, 2)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  expect(() => concat([], 0)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
});

test('every operation either has a meaning or a decomposition', () => {
  for (const [name, { evaluate, decompose }] of operations) {
    expect([name, Boolean(evaluate) !== Boolean(decompose)]).toEqual([name, true]);
  }
});
