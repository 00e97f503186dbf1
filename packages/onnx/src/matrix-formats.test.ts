import { add, matmul, mul, silu, symbol, trace, type Value } from '@detailflow/core';
import { expect, test } from 'vitest';
import { matrixFormats } from './matrix-formats';

const linear = (x: Value, weight: Value) => matmul(x, weight, { transposeB: true });

/** A gated block, a head, and an embedding that is a head as well. */
const graph = trace((g) => {
  const x = g.input('x', 'f32', [symbol('rows'), 32]);
  const w = (name: string, out: number, columns: number) => g.weight(name, [out, columns]);
  const gated = mul(silu(linear(x, w('w1', 64, 32))), linear(x, w('w3', 64, 32)));
  const y = add(x, linear(gated, w('w2', 32, 64)));
  const tied = w('tied', 32, 32);
  return {
    logits: linear(y, w('head', 100, 32)),
    both: linear(y, tied),
    plain: matmul(y, tied),
    turned: matmul(y, w('untransposed', 32, 8)),
  };
});

test('in 8 bits, products of activations go into short blocks', () => {
  expect(Object.fromEntries(matrixFormats(graph, 'q8'))).toEqual({
    w1: { bits: 8, block: 64 },
    w3: { bits: 8, block: 64 },
    w2: { bits: 8, block: 16 },
    head: { bits: 8, block: 64 },
  });
});

test('in 4 bits, the last matrix keeps 8', () => {
  expect(Object.fromEntries(matrixFormats(graph, 'q4'))).toEqual({
    w1: { bits: 4, block: 32 },
    w3: { bits: 4, block: 32 },
    w2: { bits: 4, block: 32 },
    head: { bits: 8, block: 64 },
  });
});
