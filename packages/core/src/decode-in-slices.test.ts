import { expect, test } from 'vitest';
import type { Executable, Tensors } from './backend';
import { decodeInSlices } from './decode-in-slices';
import { symbol } from './dim';
import { trace } from './graph';
import { add, mul } from './ops/elementwise';
import { createReferenceBackend } from './reference-backend';
import { Tensor } from './tensor';

const [batch, side] = [symbol('batch'), symbol('side')];
const graph = trace((g) => {
  const x = g.input('x', 'f32', [batch, 1, side, side]);
  return { pixels: add(mul(x, x), g.input('shared', 'f32', [1])) };
});
const shared = new Tensor('float32', Float32Array.of(0.5), [1]);
const numbers = (count: number, side: number) =>
  new Tensor(
    'float32',
    Float32Array.from({ length: count * side ** 2 }, (_, i) => i % 4093),
    [count, 1, side, side],
  );

/** The decoder, and how many images each of its runs took. */
async function decoder(onRun: () => void = () => {}): Promise<[Executable, number[]]> {
  const executable = await createReferenceBackend().compile(graph, new Map());
  const taken: number[] = [];
  const run: Executable['run'] = (feeds: Tensors, options) => {
    taken.push(feeds.x.dims[0]);
    onRun();
    return executable.run(feeds, options);
  };
  return [{ ...executable, run }, taken];
}

test.each([
  [1, 256, [1]],
  [4, 256, [4]],
  [5, 256, [4, 1]],
  [8, 300, [4, 4]],
  [11, 256, [4, 4, 3]],
  [11, 128, [4, 7]],
  [23, 128, [4, 16, 3]],
  [40, 2, [4, 36]],
])('%i images of %i pixels are decoded few at a time, in order', async (count, size, expected) => {
  const [executable, taken] = await decoder();
  const x = numbers(count, size);
  const pixels = await decodeInSlices(executable, 'x', x, { shared });
  expect(taken).toEqual(expected);
  expect(pixels.dims).toEqual(x.dims);
  expect(pixels.data).toEqual(x.data.map((value) => value * value + 0.5));
});

test('can be stopped between two slices', async () => {
  const stop = new AbortController();
  const [executable, taken] = await decoder(() => stop.abort(new Error('enough')));
  const pending = decodeInSlices(executable, 'x', numbers(20, 2), { shared }, stop.signal);
  await expect(pending).rejects.toThrow('enough');
  expect(taken).toEqual([4]);
});
