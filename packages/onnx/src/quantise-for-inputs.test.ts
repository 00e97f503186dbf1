import { matmul, symbol, Tensor, trace, weightFromArray } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { expect, test } from 'vitest';
import { type InputMoments, withInputMoments } from './input-moments';
import { type QuantisedMatrix, quantise, suitableFormat } from './quantise';
import { quantiseForInputs } from './quantise-for-inputs';

const [ROWS, OUT, IN] = [400, 8, 300];

let state = 7;
const draw = () => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state / 2 ** 32 - 0.5;
};
const weights = Float32Array.from({ length: OUT * IN }, draw);
/** Columns that go together, eight of them each, of all sizes. */
const inputs = Float32Array.from({ length: ROWS * IN });
for (let row = 0; row < ROWS; row++) {
  let common = 0;
  for (let i = 0; i < IN; i++) {
    if (i % 8 === 0) common = draw();
    inputs[row * IN + i] = (1 + (i % 5)) * (common + 0.4 * draw());
  }
}

async function measured(): Promise<InputMoments[]> {
  const graph = trace((g) => ({
    y: matmul(g.input('x', 'f32', [symbol('rows'), IN]), g.weight('w', [OUT, IN]), { transposeB: true }),
  }));
  const backend = createReferenceBackend();
  const { graph: watched, moments } = withInputMoments(graph);
  const run = await backend.compile(watched, new Map([['w', weightFromArray('w', [OUT, IN], weights)]]));
  const found = await run.run({ x: new Tensor('float32', inputs, [ROWS, IN]) });
  const windows = moments.get('w') ?? [];
  return windows.map(({ output, first, count }) => ({
    first,
    count,
    sums: Float64Array.from(found[output].data as Float32Array),
  }));
}

/** Mean square of what products with the inputs are off. */
function error({ bits, block, values, scales }: QuantisedMatrix): number {
  let sum = 0;
  for (let out = 0; out < OUT; out++) {
    const off = Float64Array.from({ length: IN }, (_, i) => {
      if (block === 'row') return weights[out * IN + i] - scales[out] * values[i * OUT + out];
      const at = out * Math.ceil(IN / block) * block + i;
      const level = bits === 8 ? values[at] : (values[at >> 1] >> (4 * (at & 1))) & 15;
      return weights[out * IN + i] - scales[Math.floor(at / block)] * (level - 2 ** (bits - 1));
    });
    for (let row = 0; row < ROWS; row++) {
      const product = off.reduce((total, x, i) => total + x * inputs[row * IN + i], 0);
      sum += product ** 2 / (ROWS * OUT);
    }
  }
  return sum;
}

test('moments are those of what goes in, window after window', async () => {
  const windows = await measured();
  expect(windows.map(({ first, count }) => [first, count])).toEqual([
    [0, 256],
    [256, 44],
  ]);
  for (const [window, i, j] of [
    [0, 3, 200],
    [1, 43, 43],
  ]) {
    const { first, count, sums } = windows[window];
    let expected = 0;
    for (let row = 0; row < ROWS; row++) {
      expected += inputs[row * IN + first + i] * inputs[row * IN + first + j];
    }
    expect(sums[i * count + j]).toBeCloseTo(expected, 2);
  }
});

test.each([
  { name: 'w', bits: 4, block: 32, out: OUT, in: IN },
  { name: 'w', bits: 8, block: 64, out: OUT, in: IN },
  { name: 'w', bits: 8, block: 'row', out: OUT, in: IN },
] as const)(
  'products are nearer in $bits bits, blocks of $block, than by rounding each weight',
  async (matrix) => {
    const nearest = error(quantise(weights, matrix));
    expect(error(quantiseForInputs(weights, matrix, await measured()))).toBeLessThan(0.5 * nearest);
  },
);

test.each([
  { name: 'w', bits: 4, block: 32, out: OUT, in: IN },
  { name: 'w', bits: 8, block: 'row', out: OUT, in: IN },
] as const)('inputs that go together nowhere leave the nearest levels of $bits bits', (matrix) => {
  const identity = (count: number) =>
    Float64Array.from({ length: count ** 2 }, (_, i) => +(i % (count + 1) === 0));
  const windows = [
    { first: 0, count: 256, sums: identity(256) },
    { first: 256, count: 44, sums: identity(44) },
  ];
  expect(quantiseForInputs(weights, matrix, windows)).toEqual(quantise(weights, matrix));
  const silent = windows.map((window) => ({ ...window, sums: new Float64Array(window.count ** 2) }));
  expect(quantiseForInputs(weights, matrix, silent)).toEqual(quantise(weights, matrix));
});

test('a matrix whose rows have outliers is rounded in blocks', () => {
  const matrix = { name: 'w', bits: 8, block: 'row', out: OUT, in: IN } as const;
  const skewed = weights.map((weight, i) => (i % IN === 5 ? 100 * weight : weight));
  expect(suitableFormat(weights, matrix)).toEqual({ bits: 8, block: 'row' });
  expect(suitableFormat(skewed, matrix)).toEqual({ bits: 8, block: 64 });
  expect(quantise(skewed, matrix)).toEqual(quantise(skewed, { ...matrix, block: 64 }));
});

test.each([
  { name: 'w', bits: 4, block: 32, out: 1, in: 2 },
  { name: 'w', bits: 8, block: 'row', out: 1, in: 2 },
] as const)('what is no number is refused in $bits bits', (matrix) => {
  const sums = Float64Array.of(1, 0, 0, 1);
  const bad = () => quantiseForInputs(Float32Array.of(1, Number.NaN), matrix, [{ first: 0, count: 2, sums }]);
  expect(bad).toThrow(/no finite number|is NaN/);
});
