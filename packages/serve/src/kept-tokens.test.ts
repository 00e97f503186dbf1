import { type ImageTokenizer, type PreviewKind, Tensor, type TokenModel } from '@detailflow/core';
import sharp, { type Sharp } from 'sharp';
import { expect, test } from 'vitest';
import { keepFirst, keepOutside } from './kept-tokens';
import type { Serving } from './picture-request';

/** Models as far as edits look at them: a picture of 32 pixels whose codes are the numbers of their places. */
function serving(schedule: number[], previews: PreviewKind): Serving {
  const tokens = schedule.reduce((a, b) => a + b, 0);
  const codes = new Tensor(
    'int32',
    Int32Array.from({ length: tokens }, (_, i) => i),
    [1, tokens],
  );
  const tokenizer = {
    previews,
    resolution: () => 32,
    encode: async () => codes,
  } as unknown as ImageTokenizer;
  const tokenModel = { schedule, tokens } as unknown as TokenModel;
  return { id: 'test', tokenModel, most: 10, model: { family: 'test', tokenizer, tokenModel, cfg: 1 } };
}

const fileOf = async (image: Sharp) => new File([new Uint8Array(await image.png().toBuffer())], 'image.png');
const picture = () => fileOf(sharp({ create: { width: 64, height: 64, channels: 3, background: '#456' } }));

/** Opaque but for a rectangle, in 64 x 64 pixels. */
async function maskWithout(left: number, top: number, width: number, height: number): Promise<File> {
  const data = Buffer.alloc(64 * 64 * 4, 255);
  for (let y = top; y < top + height; y++)
    for (let x = left; x < left + width; x++) data[(y * 64 + x) * 4 + 3] = 0;
  return fileOf(sharp(data, { raw: { width: 64, height: 64, channels: 4 } }));
}

const { signal } = new AbortController();

test('a mask keeps the tokens of a raster whose places it does not touch', async () => {
  const mask = await maskWithout(16, 32, 17, 16); // columns 1 and a bit of 2, row 2 of a 4 x 4 grid
  const { keep, count } = await keepOutside(serving(Array(16).fill(1), 'rows'), {
    image: await picture(),
    mask,
    signal,
  });
  expect(Array.from(keep?.mask.data ?? [])).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]);
  expect(keep?.codes.dims).toEqual([1, 16]);
  expect(count).toBe(0);
});

test('a mask keeps the coarsest scale, and of the others the places that it does not touch', async () => {
  const mask = await maskWithout(0, 0, 4, 4); // the corner
  const { keep } = await keepOutside(serving([1, 4, 16], 'scales'), { image: await picture(), mask, signal });
  const [corner4, corner16] = [
    [0, 1, 1, 1],
    [0, ...Array(15).fill(1)],
  ];
  expect(Array.from(keep?.mask.data ?? [])).toEqual([1, ...corner4, ...corner16]);
});

test.each<[string, number[], PreviewKind]>([
  ['coarse to fine', Array(16).fill(1), 'coarse-to-fine'],
  ['regions drawn in parallel', [1, 1, 1, 1, 4, 4, 4], 'rows'],
  ['scales that are no squares', [1, 6], 'scales'],
  ['a raster that is no square', Array(12).fill(1), 'rows'],
])('a mask is refused where tokens have no places: %s', async (_name, schedule, previews) => {
  const given = { image: await picture(), mask: await maskWithout(0, 0, 9, 9), signal };
  await expect(keepOutside(serving(schedule, previews), given)).rejects.toMatchObject({
    status: 400,
    param: 'mask',
  });
});

test('a mask is refused that is opaque, or has other sides than the picture', async () => {
  const raster = serving(Array(16).fill(1), 'rows');
  const image = await picture();
  const small = await fileOf(sharp({ create: { width: 32, height: 32, channels: 4, background: '#0000' } }));
  for (const mask of [image, small, new File(['nonsense'], 'mask.png')]) {
    await expect(keepOutside(raster, { image, mask, signal })).rejects.toMatchObject({
      status: 400,
      param: 'mask',
    });
  }
});

test('first tokens stay, none or all of them', async () => {
  const one = serving([1, 1, 2, 4], 'coarse-to-fine');
  const keep = async (count: number) => keepFirst(one, { image: await picture(), count, signal });
  expect(await keep(0)).toEqual({ count: 0 });
  expect(Array.from((await keep(3)).prefix?.data ?? [])).toEqual([0, 1, 2]);
  expect((await keep(8)).prefix?.dims).toEqual([1, 8]);
  await expect(keep(9)).rejects.toMatchObject({ status: 400, param: 'keep' });
});
