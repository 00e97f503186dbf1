import type { ImageTokenizer, PreviewKind, TokenModel } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { previewCounts } from './preview-counts';

/** Models as far as previews look at them. */
const model = (schedule: number[], previews: PreviewKind, resolution: (tokens: number) => number) => ({
  tokenModel: { schedule, tokens: schedule.reduce((a, b) => a + b, 0) } as unknown as TokenModel,
  tokenizer: { previews, resolution } as unknown as ImageTokenizer,
});

// As DetailFlow-16: 8 single tokens, then groups of 8; the side follows the tokens.
const detailflow = model([...Array(8).fill(1), ...Array(15).fill(8)], 'coarse-to-fine', (tokens) =>
  Math.min(256, 16 * Math.ceil(16 * Math.sqrt(tokens / 128))),
);
const llamagen = model(Array(256).fill(1), 'rows', () => 256);
const scales = model([1, 4, 9, 16, 25, 36], 'scales', (tokens) => 16 * Math.round(Math.cbrt(3 * tokens)));

describe('previews', () => {
  test('of pictures that grow have sides evenly spaced up to that of the picture', () => {
    for (const count of [1, 2, 3]) {
      const counts = previewCounts(detailflow, { count, total: 128 });
      const sides = counts.map((tokens) => detailflow.tokenizer.resolution(tokens));
      expect(sides).toHaveLength(count);
      for (const [i, side] of sides.entries()) {
        const wanted = (256 * (i + 1)) / (count + 1);
        expect(Math.abs(side - wanted)).toBeLessThanOrEqual(16);
      }
    }
  });

  test('of pictures that grow row by row are evenly spaced in tokens', () => {
    expect(previewCounts(llamagen, { count: 3, total: 256 })).toEqual([64, 128, 192]);
    expect(previewCounts(llamagen, { count: 1, total: 256, from: 200 })).toEqual([201]);
  });

  test('always come after a whole step, ascend, and are not the picture', () => {
    for (const one of [detailflow, llamagen, scales]) {
      const ends = one.tokenModel.schedule.map((_, i, all) => all.slice(0, i + 1).reduce((a, b) => a + b, 0));
      for (const total of ends) {
        for (const count of [0, 1, 2, 3]) {
          for (const from of [0, 3, total]) {
            const counts = previewCounts(one, { count, total, from });
            expect(counts.length).toBeLessThanOrEqual(count);
            expect(counts).toEqual([...new Set(counts)].sort((a, b) => a - b));
            for (const tokens of counts) {
              expect(ends).toContain(tokens);
              expect(tokens).toBeGreaterThan(from);
              expect(tokens).toBeLessThan(total);
            }
          }
        }
      }
    }
  });

  test('are as many as asked for wherever there are so many', () => {
    expect(previewCounts(scales, { count: 3, total: 91 })).toHaveLength(3);
    expect(previewCounts(scales, { count: 3, total: 14 })).toEqual([1, 5]);
    expect(previewCounts(scales, { count: 3, total: 1 })).toEqual([]);
  });

  test('of tokens without order are none', () => {
    expect(
      previewCounts(
        model([1, 1, 1], 'none', () => 8),
        { count: 3, total: 3 },
      ),
    ).toEqual([]);
  });
});
