import { expect, test } from 'vitest';
import { multiplyDims, symbol } from './dim';
import { bindFeeds } from './feeds';
import { trace } from './graph';
import { Tensor } from './tensor';
import { f32, i32, randomTensor } from './test-graphs';

const [batch, side] = [symbol('batch'), symbol('side')];

const graph = trace((g) => {
  g.input('images', 'f32', [batch, 3, multiplyDims(side, 2), multiplyDims(side, 2)]);
  g.input('labels', 'i32', [batch]);
  g.input('resize', 'f32', [side, 16]);
  return {};
});

const images = randomTensor(1, 2, 3, 8, 8);
const labels = i32(0, 1);
const resize = randomTensor(2, 4, 16);

test('symbols take their values from plain axes, products are checked against them', () => {
  expect(bindFeeds(graph, { images, labels, resize })).toEqual({ batch: 2, side: 4 });
});

test.each([
  ['a missing feed', { images, labels }, 'invalid-argument', 'resize', 'not given'],
  [
    'what a clone leaves of a tensor',
    { images: structuredClone(images), labels, resize },
    'invalid-argument',
    'images',
    'give a tensor',
  ],
  [
    'too few values',
    { images, labels: { type: 'int32', data: Int32Array.of(1), dims: [2] }, resize },
    'invalid-argument',
    'labels',
    'give a tensor',
  ],
  ['a wrong type', { images, labels: f32(0, 1), resize }, 'dtype', 'labels', 'float32, must be int32'],
  ['a wrong rank', { images, labels, resize: f32(1) }, 'shape', 'resize', '[1], must be [side, 16]'],
  [
    'a wrong extent',
    { images, labels, resize: randomTensor(1, 4, 15) },
    'shape',
    'resize',
    '[4, 15], must be',
  ],
  ['two batches', { images, labels: i32(0, 1, 2), resize }, 'shape', 'labels', '[3], must be [batch] = [2]'],
  [
    'a wrong product',
    { images, labels, resize: randomTensor(1, 5, 16) },
    'shape',
    'images',
    '= [2, 3, 10, 10]',
  ],
])('%s names the input', (_, feeds, code, entry, text) => {
  expect(() => bindFeeds(graph, feeds as Record<string, Tensor>)).toThrow(
    expect.objectContaining({ code, entry, message: expect.stringContaining(text) }),
  );
});

test('a feed that nobody asked for is named', () => {
  expect(() => bindFeeds(graph, { images, labels, resize, lables: labels })).toThrow(
    expect.objectContaining({ code: 'invalid-argument', message: expect.stringContaining('"lables"') }),
  );
});

test('a symbol that stands in products only has no value', () => {
  const squares = trace((g) => {
    g.input('x', 'f32', [multiplyDims(side, side)]);
    return {};
  });
  expect(() => bindFeeds(squares, { x: new Tensor('float32', new Float32Array(4), [4]) })).toThrow(
    expect.objectContaining({ code: 'shape', message: expect.stringContaining('"side"') }),
  );
});
