import { Tensor } from '@detailflow/core';
import { createResolutionMap } from '@detailflow/tokenizer';
import { expect, test } from 'vitest';
import { tokenWorth, worthTarget } from './token-worth';

const resolutions = createResolutionMap({
  ...{ tokens: 16, groupSize: 4, maxImageSize: 32, encoderPatch: 8, decoderPatch: 8 },
});
const tokenizer = { resolutions, tokens: 16 } as unknown as Parameters<typeof tokenWorth>[0];
const side = 32;
const images = new Tensor(
  'float32',
  Float32Array.from({ length: 3 * side * side }, (_, i) => Math.sin(i / 7)),
  [1, 3, side, side],
);

test('few tokens are worth a small image, all of them the whole one', () => {
  expect(tokenWorth(tokenizer, 1, side)).toEqual({ size: 8, targetSize: 1 });
  const middle = tokenWorth(tokenizer, 8, side);
  expect(middle.targetSize).toBe(resolutions.tokenToRes(8));
  expect(middle.size % 8).toBe(0);
  expect(tokenWorth(tokenizer, 16, side)).toEqual({ size: side, targetSize: side });
  expect(worthTarget(images, tokenWorth(tokenizer, 16, side))).toBe(images);
});

test('one token should restore the mean of the image, as in training', () => {
  const target = worthTarget(images, tokenWorth(tokenizer, 1, side));
  expect(target.dims).toEqual([1, 3, 8, 8]);
  for (let c = 0; c < 3; c++) {
    const plane = (images.data as Float32Array).subarray(c * side ** 2, (c + 1) * side ** 2);
    const mean = plane.reduce((a, b) => a + b, 0) / plane.length;
    for (const value of (target.data as Float32Array).subarray(c * 64, (c + 1) * 64)) {
      expect(value).toBeCloseTo(mean, 5);
    }
  }
});

test('what is enlarged does not overshoot what a picture can show', () => {
  const stripes = new Tensor(
    'float32',
    Float32Array.from({ length: 3 * side * side }, (_, i) => (Math.floor((i % side) / 8) % 2 === 0 ? 1 : -1)),
    [1, 3, side, side],
  );
  const target = worthTarget(stripes, { size: 24, targetSize: 9 }).data as Float32Array;
  expect(Math.max(...target)).toBe(1);
  expect(Math.min(...target)).toBe(-1);
});
