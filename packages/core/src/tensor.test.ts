import { Tensor as RuntimeTensor } from 'onnxruntime-common';
import { expect, test } from 'vitest';
import { isTensor, ofType, requireTensor, Tensor } from './tensor';

test('a tensor is one of the runtime', () => {
  const tensor = new Tensor('float32', [1, 2, 3, 4], [2, 2]);
  expect(tensor).toBeInstanceOf(RuntimeTensor);
  expect(new RuntimeTensor('int32', Int32Array.of(1), [1])).toBeInstanceOf(Tensor);
  expect(tensor.data).toEqual(Float32Array.of(1, 2, 3, 4));
  expect(new Tensor('int32', Int32Array.of(1, 2)).dims).toEqual([2]);
  expect(new Tensor('bool', [true, false], [2]).data).toEqual(Uint8Array.of(1, 0));
});

const million = new Float32Array(1e6).fill(0.5);
test.each<[string, unknown[], string, RegExp]>([
  [
    'data and dims swapped',
    ['float32', [1, 3], million],
    'shape',
    /dims are a Float32Array of 1000000 values/,
  ],
  ['data and type swapped', [million, 'float32', [1e6]], 'dtype', /the type is a Float32Array of 1000000/],
  [
    'another type',
    ['float64', new Float64Array(1), [1]],
    'dtype',
    /"float64"; give 'float32', 'int32' or 'bool'/,
  ],
  ['another array', ['float32', new Int32Array(1), [1]], 'invalid-argument', /a Int32Array of 1 values/],
  ['a list as long as the data', ['float32', million, [...million]], 'shape', /a list of 1000000 items/],
  ['too few values', ['int32', new Int32Array(5), [2, 3]], 'shape', /5 values do not fill dims \[2, 3\]/],
  ['half an extent', ['int32', new Int32Array(5), [2.5, 2]], 'shape', /whole numbers/],
  ['no data', ['int32'], 'invalid-argument', /are missing/],
])('%s: refused in a short message', (_, args, code, message) => {
  const make = () => new (Tensor as unknown as new (...all: unknown[]) => Tensor)(...args);
  expect(make).toThrow(expect.objectContaining({ name: 'DetailFlowError', code }));
  expect(make).toThrow(message);
  expect(make).toThrow(expect.toSatisfy((error: Error) => error.message.length < 400));
});

test('what is no tensor is told apart from a wrong one', () => {
  const options = { what: 'images', must: 'float32 [B, 3, S, S]', type: 'float32', axes: 4 } as const;
  const right = new Tensor('float32', new Float32Array(12), [1, 3, 2, 2]);
  expect(requireTensor(right, options)).toBe(right);
  const disposed = new Tensor('float32', new Float32Array(12), [1, 3, 2, 2]);
  disposed.dispose();
  const wrong: [unknown, string][] = [
    [million, 'invalid-argument'],
    [undefined, 'invalid-argument'],
    [new Tensor('int32', new Int32Array(12), [1, 3, 2, 2]), 'shape'],
    [new Tensor('float32', new Float32Array(12), [12]), 'shape'],
    [{ type: 'float32', data: new Float32Array(3), dims: [1, 3, 2, 2] }, 'shape'],
    [new Tensor('float32', new Float32Array(12).fill(Number.NaN, 11), [1, 3, 2, 2]), 'invalid-argument'],
    [
      new Tensor('float32', new Float32Array(12).fill(Number.NEGATIVE_INFINITY), [1, 3, 2, 2]),
      'invalid-argument',
    ],
    [disposed, 'shape'],
  ];
  for (const [value, code] of wrong) {
    expect(() => requireTensor(value, options)).toThrow(expect.objectContaining({ code }));
  }
  expect(isTensor({ type: 'float32', data: new Float32Array(2), dims: [2] })).toBe(true);
  expect(isTensor({ type: 'constructor', data: new Float32Array(2), dims: [2] })).toBe(false);
  expect(isTensor(structuredClone(right))).toBe(false); // a clone loses its data
  expect(() => ofType(right as Tensor, 'int32')).toThrow(expect.objectContaining({ code: 'dtype' }));
});
