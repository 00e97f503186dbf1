import { expect, it } from 'vitest';
import { psnr } from './psnr';

it('measures against a range of 2', () => {
  expect(psnr([1, 1], [-1, -1])).toBeCloseTo(0, 12);
  expect(psnr([0.2, -0.2], [0, 0])).toBeCloseTo(20, 12);
  expect(psnr([0.5, 0], [0.5, 0])).toBe(Number.POSITIVE_INFINITY);
});

it('clamps to the range', () => {
  expect(psnr([7, -3], [1, -0.8])).toBeCloseTo(psnr([1, -1], [1, -0.8]), 12);
});

it('refuses what cannot be compared', () => {
  expect(() => psnr([1], [1, 2])).toThrow(expect.objectContaining({ code: 'shape' }));
  expect(() => psnr([], [])).toThrow(/0 pixel values/);
});
