import { add, matmul, mul, rmsNorm, silu, standardise, symbol, trace, type Value } from '@detailflow/core';
import { expect, test } from 'vitest';
import { fineInputs, matrixFormats } from './matrix-formats';

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

test('in 8 bits, rows have a scale, or else blocks, which are short where activations are multiplied', () => {
  expect(Object.fromEntries(matrixFormats(graph, 'q8'))).toEqual({
    w1: { bits: 8, block: 'row', otherwise: 64 },
    w3: { bits: 8, block: 'row', otherwise: 64 },
    w2: { bits: 8, block: 'row', otherwise: 16 },
    head: { bits: 8, block: 'row', otherwise: 64 },
  });
});

test('without rows, all go into blocks', () => {
  expect(Object.fromEntries(matrixFormats(graph, 'q8', { rows: false }))).toEqual({
    w1: { bits: 8, block: 64 },
    w3: { bits: 8, block: 64 },
    w2: { bits: 8, block: 16 },
    head: { bits: 8, block: 64 },
  });
});

test('what goes on from what it made needs more than 8 bits of what comes from no norm', () => {
  const blocks = (goesOn: boolean) =>
    trace((g) => {
      const x = g.input('x', 'f32', [symbol('rows'), 32]);
      const w = (name: string) => g.weight(name, [32, 32]);
      const y = linear(rmsNorm(x, g.weight('norm', [32]), 1e-6), w('afterNorm'));
      const z = linear(y, w('afterProduct'));
      const modulated = add(mul(standardise(z, 1e-6), g.weight('scale', [32])), g.weight('shift', [32]));
      const u = add(z, linear(modulated, w('afterModulation')));
      if (goesOn) g.update('before', add(g.state('before', [symbol('rows'), 32]), u));
      return { logits: linear(rmsNorm(u, g.weight('last', [32]), 1e-6), w('head')) };
    });
  expect(fineInputs(blocks(true))).toEqual(new Set(['afterProduct', 'head']));
  expect(fineInputs(blocks(false))).toEqual(new Set(['head']));
});

test('in 4 bits, the last matrix keeps 8', () => {
  expect(Object.fromEntries(matrixFormats(graph, 'q4'))).toEqual({
    w1: { bits: 4, block: 32 },
    w3: { bits: 4, block: 32 },
    w2: { bits: 4, block: 32 },
    head: { bits: 8, block: 64 },
  });
});
