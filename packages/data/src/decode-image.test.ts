import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { decodeImage } from './decode-image';
import type { RgbImage } from './rgb-image';

const folder = new URL('../../../tests/fixtures/images/', import.meta.url);

interface Pixels {
  readonly width: number;
  readonly height: number;
  /** base64 */
  readonly rgb: string;
}

/** What Pillow makes of the files: tools/reference/images.py. */
const pillow: Record<string, Pixels & { mode: string; upright?: Pixels }> = JSON.parse(
  readFileSync(new URL('pillow.json', folder), 'utf8'),
);
const names = Object.keys(pillow);
const file = (name: string) => readFileSync(new URL(name, folder));
const background = [200, 100, 50] as const;

/** Where the decoder differs from Pillow, and in how many values: broken or unclear files only. */
const known: Record<string, { values: number; why: string }> = {
  'beyond-palette.png': {
    values: 114,
    why: 'indices beyond the palette are black; Pillow has shades of grey',
  },
  'unknown-extra.tif upright': {
    values: 224,
    why: 'a fourth channel of unstated meaning is taken for alpha',
  },
};

/** How many values of an image differ. */
function differences(image: RgbImage, { width, height, rgb }: Pixels): number {
  expect([image.width, image.height]).toEqual([width, height]);
  const right = Buffer.from(rgb, 'base64');
  expect(image.data.length).toBe(right.length);
  return image.data.filter((value, i) => value !== right[i]).length;
}

test('every file has its values, and there are many kinds', () => {
  expect(
    readdirSync(folder)
      .filter((name) => name !== 'pillow.json')
      .sort(),
  ).toEqual([...names].sort());
  const modes = new Set(names.map((name) => pillow[name].mode));
  for (const mode of ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'I', 'I;16', 'F']) {
    expect(modes, mode).toContain(mode);
  }
});

describe("data sets: Pillow's convert('RGB')", () => {
  test.each(names)('%s', async (name) => {
    const values = differences(await decodeImage(file(name), name), pillow[name]);
    expect(values).toBe(known[name]?.values ?? 0);
  });
});

describe('pictures of a person: turned, and laid on a colour', () => {
  test.each(names)('%s', async (name) => {
    const image = await decodeImage(file(name), name, { upright: true, background });
    const values = differences(image, pillow[name].upright ?? pillow[name]);
    expect(values).toBe((known[`${name} upright`] ?? known[name])?.values ?? 0);
  });
});
