import { expect, it } from 'vitest';
import { psnr } from './psnr';
import { ssim } from './ssim';

it('measures against a range of 2', () => {
  expect(psnr([1, 1], [-1, -1])).toBeCloseTo(0, 12);
  expect(psnr([0.2, -0.2], [0, 0])).toBeCloseTo(20, 12);
  expect(psnr([0.5, 0], [0.5, 0])).toBe(Number.POSITIVE_INFINITY);
});

it('clamps to the range', () => {
  expect(psnr([7, -3], [1, -0.8])).toBeCloseTo(psnr([1, -1], [1, -0.8]), 12);
});

it('refuses originals in another range, which would all be alike once they are cut, and what is no number', () => {
  const bytes = Float32Array.from({ length: 3 * 64 }, (_, i) => i);
  const size = { channels: 3, height: 8, width: 8 };
  const image = new Float32Array(3 * 64);
  const broken = image.slice().fill(Number.NaN, 5, 6);
  for (const measure of [psnr, (a: Float32Array, b: Float32Array) => ssim(a, b, size)]) {
    expect(() => measure(bytes, bytes)).toThrow(/value 2 of the original is 2; images must be in \[-1, 1\]/);
    expect(() => measure(image, broken)).toThrow(/value 5 of the original is NaN/);
    expect(() => measure(broken, image)).toThrow(/a restored value is/);
  }
});

it('refuses what cannot be compared', () => {
  expect(() => psnr([1], [1, 2])).toThrow(expect.objectContaining({ code: 'shape' }));
  expect(() => psnr([], [])).toThrow(/0 pixel values/);
});
