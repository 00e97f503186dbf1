import { Picture } from '@detailflow/core';
import { describe, expect, it } from 'vitest';
import { type Colour, gridPicture, stripPicture, upscaleNearest } from './contact-sheet';

const red: Colour = [255, 0, 0];
const blue: Colour = [0, 0, 255];
const black: Colour = [0, 0, 0];

function plain(width: number, height: number, colour: Colour): Picture {
  const pixel = [...colour, 255];
  return new Picture(
    Uint8ClampedArray.from({ length: width * height * 4 }, (_, i) => pixel[i % 4]),
    width,
    height,
  );
}

/** One letter a pixel: r, b, k, w, or ? */
function sketch({ data, width, height }: Picture): string[] {
  const letters: Record<string, string> = {
    '255,0,0,255': 'r',
    '0,0,255,255': 'b',
    '0,0,0,255': 'k',
    '255,255,255,255': 'w',
  };
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => {
      const at = 4 * (y * width + x);
      return letters[data.subarray(at, at + 4).join()] ?? '?';
    }).join(''),
  );
}

describe('gridPicture', () => {
  it('fills rows in reading order and centres smaller pictures', () => {
    const pictures = [plain(2, 2, red), plain(2, 2, blue), plain(1, 1, blue)];
    expect(sketch(gridPicture(pictures, { columns: 2, gap: 1, background: black }))).toEqual([
      'kkkkkkk',
      'krrkbbk',
      'krrkbbk',
      'kkkkkkk',
      'kbkkkkk',
      'kkkkkkk',
      'kkkkkkk',
    ]);
  });

  it('needs no more columns than there are pictures; white gaps of 2 by default', () => {
    expect(sketch(gridPicture([plain(1, 1, red)], { columns: 9 }))).toEqual([
      'wwwww',
      'wwwww',
      'wwrww',
      'wwwww',
      'wwwww',
    ]);
  });

  it('refuses what makes no sheet', () => {
    const one = [plain(1, 1, red)];
    expect(() => gridPicture([], { columns: 1 })).toThrow(/no pictures/);
    expect(() => gridPicture(one, { columns: 0 })).toThrow(/columns is 0/);
    expect(() => gridPicture(one, { columns: 1, gap: -1 })).toThrow(/gap is -1/);
    expect(() => gridPicture(one, { columns: 1, gap: 1e6 })).toThrow(
      expect.objectContaining({ code: 'limit' }),
    );
  });
});

describe('stripPicture', () => {
  it('brings every picture to the common height', () => {
    const pictures = [plain(1, 1, red), plain(2, 3, blue), plain(3, 2, black)];
    expect(sketch(stripPicture(pictures, { gap: 0 }))).toEqual(['rrrbbkkkkk', 'rrrbbkkkkk', 'rrrbbkkkkk']);
  });

  it('refuses an empty strip', () => {
    expect(() => stripPicture([])).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });
});

describe('upscaleNearest', () => {
  it('repeats pixels', () => {
    const two = gridPicture([plain(1, 1, red), plain(1, 1, blue)], { columns: 2, gap: 0 });
    expect(sketch(upscaleNearest(two, 2))).toEqual(['rrbb', 'rrbb']);
    expect(upscaleNearest(two, 1).data).toEqual(two.data);
  });

  it('refuses broken and huge factors', () => {
    expect(() => upscaleNearest(plain(1, 1, red), 1.5)).toThrow(/factor is 1.5/);
    expect(() => upscaleNearest(plain(1, 1, red), 1e6)).toThrow(/exceeds/);
  });
});
