import { readFileSync } from 'node:fs';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { bytesSource } from './byte-source';
import { Picture, pictureFromPixels, pixelToByte } from './picture';
import { readSafetensors } from './safetensors';
import { Tensor } from './tensor';
import { randomTensor } from './test-graphs';
import { readFloat32, type Weight } from './weights';

/** A picture in which every byte value occurs and no two neighbours are alike. */
function patterned(width: number, height: number): Picture {
  const data = Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) =>
    i % 4 === 3 ? 255 : (i * 37 + (i >> 4)) % 256,
  );
  return new Picture(data, width, height);
}

test.each([
  [1, 1],
  [7, 3],
  [3, 7],
  [64, 64],
  [257, 130],
])('a PNG of %i x %i decodes to the same pixels', async (width, height) => {
  const picture = patterned(width, height);
  const { data, info } = await sharp(await picture.toPng())
    .raw()
    .toBuffer({ resolveWithObject: true });
  expect(info).toMatchObject({ width, height, channels: 3 });
  expect(Array.from(data)).toEqual(Array.from(picture.data.filter((_, i) => i % 4 !== 3)));
});

test('values become bytes as in the official code, bit for bit', async () => {
  const file = new URL('../../../tests/fixtures/golden/ops.safetensors', import.meta.url);
  const weights = await readSafetensors(bytesSource(new Uint8Array(readFileSync(file))));
  const values = await readFloat32(weights.get('to_uint8.in') as Weight);
  const bytes = await (weights.get('to_uint8.out') as Weight).read();
  expect(Array.from(values, pixelToByte)).toEqual(Array.from(bytes));
});

test('picks one image of a batch, channel by channel', () => {
  const pixels = randomTensor(1, 2, 3, 4, 5);
  const { data, width, height } = pictureFromPixels(pixels, 1);
  expect([width, height]).toEqual([5, 4]);
  const value = (c: number, y: number, x: number) => pixels.data[((3 + c) * 4 + y) * 5 + x] as number;
  for (const [c, y, x] of [
    [0, 0, 0],
    [1, 3, 2],
    [2, 1, 4],
  ]) {
    expect(data[4 * (y * 5 + x) + c]).toBe(pixelToByte(value(c, y, x)));
  }
  expect(data.filter((_, i) => i % 4 === 3).every((alpha) => alpha === 255)).toBe(true);
});

test.each<[string, Tensor, number]>([
  ['a missing image', randomTensor(1, 2, 3, 4, 4), 2],
  ['a negative index', randomTensor(1, 2, 3, 4, 4), -1],
  ['half an image', randomTensor(1, 2, 3, 4, 4), 0.5],
  ['one channel', randomTensor(1, 2, 1, 4, 4), 0],
  ['no batch', randomTensor(1, 3, 4, 4), 0],
  ['codes', new Tensor('int32', new Int32Array(48), [1, 3, 4, 4]) as Tensor, 0],
])('%s is refused', (_, pixels, index) => {
  expect(() => pictureFromPixels(pixels as Tensor<'float32'>, index)).toThrow(
    expect.objectContaining({ code: 'shape', message: expect.stringContaining(`image ${index} of a`) }),
  );
});

test('what is not a number is no black pixel', () => {
  const pixels = randomTensor(1, 2, 3, 4, 5);
  pixels.data[((3 + 1) * 4 + 2) * 5 + 3] = Number.NaN;
  expect(() => pictureFromPixels(pixels, 0)).not.toThrow();
  expect(() => pictureFromPixels(pixels, 1)).toThrow(
    expect.objectContaining({
      code: 'runtime',
      message: expect.stringMatching(/channel 1 .* column 3, row 2 of image 1/),
    }),
  );
  pixels.data[((3 + 1) * 4 + 2) * 5 + 3] = Number.POSITIVE_INFINITY;
  expect(pictureFromPixels(pixels, 1).data[4 * (2 * 5 + 3) + 1]).toBe(255);
});

test('the bytes must fill the picture', () => {
  expect(() => new Picture(new Uint8ClampedArray(11), 1, 3)).toThrow(
    expect.objectContaining({ code: 'shape', message: expect.stringContaining('1 x 3') }),
  );
});

test('ImageData is for browsers', () => {
  expect(() => patterned(2, 2).toImageData()).toThrow(
    expect.objectContaining({ code: 'unsupported', message: expect.stringContaining('toPng()') }),
  );
});
