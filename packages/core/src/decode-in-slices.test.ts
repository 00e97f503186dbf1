import { expect, test } from 'vitest';
import type { Executable, Tensors } from './backend';
import { decodeInSlices } from './decode-in-slices';
import { symbol } from './dim';
import { trace } from './graph';
import { add, mul } from './ops/elementwise';
import { createReferenceBackend } from './reference-backend';
import { Tensor } from './tensor';

const batch = symbol('batch');
const graph = trace((g) => {
  const x = g.input('x', 'f32', [batch, 2]);
  return { pixels: add(mul(x, x), g.input('shared', 'f32', [1])) };
});
const shared = new Tensor('float32', Float32Array.of(0.5), [1]);
const numbers = (count: number) =>
  new Tensor(
    'float32',
    Float32Array.from({ length: 2 * count }, (_, i) => i),
    [count, 2],
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
  [1, [1]],
  [4, [4]],
  [5, [4, 1]],
  [8, [4, 4]],
  [11, [4, 4, 3]],
])('%i images are decoded few at a time, in order', async (count, expected) => {
  const [executable, taken] = await decoder();
  const x = numbers(count);
  const pixels = await decodeInSlices(executable, 'x', x, { shared });
  expect(taken).toEqual(expected);
  expect(pixels.dims).toEqual([count, 2]);
  expect(pixels.data).toEqual(x.data.map((value) => value * value + 0.5));
});

test('can be stopped between two slices', async () => {
  const stop = new AbortController();
  const [executable, taken] = await decoder(() => stop.abort(new Error('enough')));
  const pending = decodeInSlices(executable, 'x', numbers(20), { shared }, { signal: stop.signal });
  await expect(pending).rejects.toThrow('enough');
  expect(taken).toEqual([4]);
});
