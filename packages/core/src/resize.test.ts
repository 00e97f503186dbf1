import { describe, expect, it } from 'vitest';
import { expectClose, floats, golden } from '../../../tests/golden';
import { degradationResize, resizeImages, resizeMatrix } from './resize';

const ops = golden('ops.safetensors');
const named = (prefix: string) =>
  Object.keys(ops).flatMap((name) =>
    name.startsWith(prefix) && name.endsWith('.out') ? [name.slice(0, -4)] : [],
  );

describe('resizeImages against the official implementation', () => {
  it.each(named('resize.'))('%s (area or bicubic)', (name) => {
    const [, , height, width] = ops[`${name}.out`].shape;
    const source = ops[`${name}.in`];
    const resized = resizeImages(floats(source), source.shape, { height, width }, 'degradation');
    expectClose(resized, ops[`${name}.out`].data, 1e-5);
  });

  it.each(named('bicubic_down.'))('%s', (name) => {
    const [, , height, width] = ops[`${name}.out`].shape;
    const source = ops[`${name}.in`];
    const resized = resizeImages(floats(source), source.shape, { height, width }, 'bicubic');
    expectClose(resized, ops[`${name}.out`].data, 1e-5);
  });
});

describe('resizeMatrix', () => {
  const sizes = Object.keys(ops).flatMap((name) => {
    const match = /^pos\.(\d+)x(\d+)$/.exec(name);
    return match ? [[Number(match[1]), Number(match[2])]] : [];
  });

  it('has position tables to be compared with', () => expect(sizes.length).toBe(9));

  it.each(sizes)('resizes the position table [16, 16, C] to %i x %i', (height, width) => {
    const table = floats(ops['pos.in']);
    const channels = ops['pos.in'].shape[2];
    const down = resizeMatrix('bilinear-antialias', 16, height);
    const right = resizeMatrix('bilinear-antialias', 16, width);
    const out = new Float32Array(height * width * channels);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (let i = 0; i < 16; i++) {
            for (let j = 0; j < 16; j++) {
              sum += down[y * 16 + i] * right[x * 16 + j] * table[(i * 16 + j) * channels + c];
            }
          }
          out[(y * width + x) * channels + c] = sum;
        }
      }
    }
    expectClose(out, ops[`pos.${height}x${width}`].data, 1e-5);
  });

  it.each(['area', 'bicubic', 'bilinear-antialias'] as const)('%s keeps a constant and its size', (kind) => {
    for (const [from, to] of [
      [1, 5],
      [5, 1],
      [7, 16],
      [16, 7],
      [64, 48],
    ]) {
      const matrix = resizeMatrix(kind, from, to);
      for (let row = 0; row < to; row++) {
        const sum = matrix.subarray(row * from, (row + 1) * from).reduce((a, b) => a + b, 0);
        expect(sum).toBeCloseTo(1, 6);
      }
    }
    const identity = resizeMatrix(kind, 6, 6);
    expect([...identity]).toEqual(Array.from({ length: 36 }, (_, i) => (i % 7 === 0 ? 1 : 0)));
  });

  it('averages overlapping windows in area mode', () => {
    const matrix = resizeMatrix('area', 5, 2);
    const third = Math.fround(1 / 3);
    expect([...matrix]).toEqual([third, third, third, 0, 0, 0, 0, third, third, third]);
  });

  it('refuses impossible sizes', () => {
    expect(() => resizeMatrix('area', 0, 4)).toThrow(/cannot resize 0 to 4/);
    expect(() => resizeMatrix('area', 4, 1.5)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

describe('resizeImages', () => {
  it('treats each axis by itself', () => {
    const dims = [2, 1, 4, 6];
    const images = Float32Array.from({ length: 48 }, (_, i) => Math.sin(i));
    const both = resizeImages(images, dims, { height: 2, width: 9 }, 'degradation');
    const wide = resizeImages(images, dims, { height: 4, width: 9 }, 'bicubic');
    expectClose(both, resizeImages(wide, [2, 1, 4, 9], { height: 2, width: 9 }, 'area'), 1e-6);
    expect(resizeImages(images, dims, { height: 4, width: 6 }, 'bicubic')).toEqual(images);
    expect(degradationResize(4, 2)).toBe('area');
    expect(degradationResize(4, 4)).toBe('bicubic');
  });

  it('refuses data of another size', () => {
    expect(() => resizeImages(new Float32Array(5), [1, 1, 2, 2], { height: 1, width: 1 }, 'area')).toThrow(
      expect.objectContaining({ code: 'shape' }),
    );
  });
});
