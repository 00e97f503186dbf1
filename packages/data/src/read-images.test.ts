import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tensor } from '@detailflow/core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { golden } from '../../../tests/golden';
import { centerCrop } from './center-crop';
import { writeNpy } from './npy';
import { readImage, readImages } from './read-images';

const ops = golden('ops.safetensors');
const code = (value: string) => expect.objectContaining({ code: value });

describe('centerCrop', () => {
  const names = Object.keys(ops).filter((name) => /^center_crop\..*\.in$/.test(name));

  it('has reference crops', () => expect(names.length).toBe(3));

  it.each(names)('equals Pillow bit for bit: %s', (name) => {
    const [height, width] = ops[name].shape;
    const reference = ops[name.replace('.in', '.out')];
    const cropped = centerCrop({ data: ops[name].data as Uint8Array, width, height }, reference.shape[0]);
    expect([cropped.height, cropped.width, 3]).toEqual(reference.shape);
    expect(cropped.data).toEqual(reference.data);
  });

  it('takes the middle without touching pixels when the shorter side fits', () => {
    const data = Uint8Array.from({ length: 5 * 2 * 3 }, (_, i) => i);
    const cropped = centerCrop({ data, width: 5, height: 2 }, 2);
    expect([...cropped.data]).toEqual([3, 4, 5, 6, 7, 8, 18, 19, 20, 21, 22, 23]);
  });

  it('enlarges small images and stays inside 0 .. 255', () => {
    const data = Uint8Array.of(0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 0);
    const { data: out } = centerCrop({ data, width: 2, height: 2 }, 9);
    expect(out.length).toBe(243);
    expect(out[0]).toBe(0);
    expect(out[8 * 3]).toBe(255);
  });

  it('crops a very long image without building the scaled one', () => {
    const data = new Uint8Array(20_000 * 3).fill(77);
    const { data: out } = centerCrop({ data, width: 20_000, height: 1 }, 64);
    expect(out.every((value) => value === 77)).toBe(true);
  });

  it('refuses wrong sides and sizes', () => {
    const image = { data: new Uint8Array(12), width: 2, height: 2 };
    expect(() => centerCrop({ ...image, width: 3 }, 2)).toThrow(code('shape'));
    expect(() => centerCrop({ data: new Uint8Array(0), width: 0, height: 2 }, 2)).toThrow(code('shape'));
    expect(() => centerCrop(image, 0)).toThrow(code('invalid-argument'));
  });
});

describe('files', () => {
  let folder = '';
  const at = (name: string) => join(folder, name);
  const raw = (bytes: number[], width: number, height: number, channels: 1 | 2 | 3 | 4) =>
    sharp(Buffer.from(bytes), { raw: { width, height, channels } });

  /** 2 x 1, red then green. */
  const pair = () => raw([255, 0, 0, 0, 255, 0], 2, 1, 3);

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'detailflow-image-io-'));
    const noise = raw(
      Array.from({ length: 32 * 32 * 3 }, (_, i) => (i * 89) % 256),
      32,
      32,
      3,
    );
    const jpeg = await noise.clone().jpeg().toBuffer();
    const smooth = raw(
      Array.from({ length: 32 * 32 * 3 }, (_, i) => (i % 3) * 40 + 3 * (Math.floor(i / 3) % 32)),
      32,
      32,
      3,
    );
    await Promise.all([
      smooth.clone().png().toFile(at('smooth.png')),
      smooth.clone().avif({ lossless: true, chromaSubsampling: '4:4:4' }).toFile(at('smooth.avif')),
      noise.clone().png().toFile(at('noise.png')),
      noise.clone().webp({ lossless: true }).toFile(at('noise.webp')),
      writeFile(at('cut.jpg'), jpeg.subarray(0, jpeg.length / 2)),
      writeFile(at('noise.jpg'), jpeg),
      raw([60, 60, 60, 60], 2, 2, 1).toColourspace('b-w').png().toFile(at('grey.png')),
      raw([9, 9, 9, 0], 1, 1, 4).png().toFile(at('clear.png')),
      pair().withMetadata({ orientation: 6 }).png().toFile(at('turned.png')),
      writeFile(at('drawing.svg'), '<svg xmlns="http://www.w3.org/2000/svg"/>'),
      writeFile(at('text.png'), 'no image'),
      writeFile(at('empty.png'), ''),
    ]);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('come as [3, S, S] with value = byte / 127.5 - 1', async () => {
    const pixels = await readImage(at('noise.png'), 32);
    const byte = (x: number, y: number, c: number) => (((y * 32 + x) * 3 + c) * 89) % 256;
    for (const [x, y, c] of [
      [0, 0, 0],
      [5, 7, 1],
      [31, 31, 2],
    ]) {
      expect(pixels[(c * 32 + y) * 32 + x]).toBe(Math.fround(byte(x, y, c) / 127.5 - 1));
    }
    expect(await readImage(at('noise.webp'), 32)).toEqual(pixels);
    const avif = await readImage(at('smooth.avif'), 32);
    const smooth = await readImage(at('smooth.png'), 32);
    expect(avif.every((value, i) => Math.abs(value - smooth[i]) < 3 / 127.5)).toBe(true); // YCbCr of 8 bits
    const jpeg = await readImage(at('noise.jpg'), 32);
    expect(jpeg.every((value) => value >= -1 && value <= 1)).toBe(true);
  });

  it('turn grey into RGB, lay transparency on a colour, and follow the EXIF orientation', async () => {
    const grey = Math.fround(60 / 127.5 - 1);
    expect([...(await readImage(at('grey.png'), 1))]).toEqual([grey, grey, grey]);
    expect([...(await readImage(at('clear.png'), 1))]).toEqual([1, 1, 1]); // white unless another is asked for
    expect([...(await readImage(at('clear.png'), 1, { background: [0, 0, 255] }))]).toEqual([-1, -1, 1]);
    expect([...(await readImages([at('clear.png')], 1, { background: [0, 0, 0] })).data]).toEqual([
      -1, -1, -1,
    ]);
    const turned = await readImages([at('turned.png')], 2); // 1 wide, 2 high: the middle of 2 x 4
    expect(turned.data[0]).toBeGreaterThan(turned.data[2]); // red fades downwards
    expect(turned.data[0]).toBe(turned.data[1]);
  });

  it.each([
    ['missing.png', 'io'],
    ['.', 'io'],
    ['text.png', 'format'],
    ['empty.png', 'format'],
    ['cut.jpg', 'format'],
    ['drawing.svg', 'unsupported'],
  ])('%s fails with %s, naming the file', async (name, expected) => {
    await expect(readImage(at(name), 8)).rejects.toMatchObject({ code: expected, file: at(name) });
  });

  it('refuse more pixels than the limit before decoding them', async () => {
    const bytes = await pair().jpeg().toBuffer();
    const frame = bytes.indexOf(Buffer.of(0xff, 0xc0)); // start of frame: marker, length, depth, height, width
    bytes.writeUInt16BE(5_001, frame + 5);
    bytes.writeUInt16BE(20_000, frame + 7);
    await writeFile(at('huge.jpg'), bytes);
    await expect(readImage(at('huge.jpg'), 8)).rejects.toMatchObject({
      code: 'limit',
      message: expect.stringContaining('20000 x 5001'),
    });
  });

  it('make one batch, arrays included', async () => {
    const one = Float32Array.from({ length: 12 }, (_, i) => i / 11 - 0.5);
    const two = Float32Array.from({ length: 24 }, (_, i) => 1 - i / 12);
    await writeFile(at('one.npy'), writeNpy({ data: one, shape: [3, 2, 2] }));
    await writeFile(at('two.NPY'), writeNpy({ data: two, shape: [2, 3, 2, 2] }));
    const batch = await readImages([at('one.npy'), at('grey.png'), at('two.NPY')], 2);
    expect(batch.dims).toEqual([4, 3, 2, 2]);
    expect(batch.data.slice(0, 12)).toEqual(one);
    expect(batch.data.slice(12, 24)).toEqual(await readImage(at('grey.png'), 2));
    expect(batch.data.slice(24)).toEqual(two);
  });

  it('are read from bytes as from a path, as a tensor that encode takes', async () => {
    const files = [at('grey.png'), at('one.npy')];
    const bytes = await Promise.all(files.map((file) => readFile(file)));
    const batch = await readImages(bytes, 2);
    expect(batch).toBeInstanceOf(Tensor);
    expect([batch.type, batch.dims]).toEqual(['float32', [2, 3, 2, 2]]);
    expect(batch.data).toEqual((await readImages(files, 2)).data);
    expect(await readImage(new Uint8Array(bytes[0]), 2)).toEqual(await readImage(files[0], 2));
    await expect(readImages([bytes[0], Uint8Array.of(1, 2, 3)], 2)).rejects.toMatchObject({
      code: 'format',
      file: 'image 1',
    });
  });

  it.each<[string, Parameters<typeof writeNpy>[0], string]>([
    ['bytes', { data: new Uint8Array(12), shape: [3, 2, 2] }, 'dtype'],
    ['no images', { data: new Float32Array(0), shape: [0, 3, 2, 2] }, 'shape'],
    ['oblong images', { data: new Float32Array(18), shape: [3, 2, 3] }, 'shape'],
    ['channels last', { data: new Float32Array(12), shape: [2, 2, 3] }, 'shape'],
    ['an axis too many', { data: new Float32Array(12), shape: [1, 1, 3, 2, 2] }, 'shape'],
    ['values up to 255', { data: new Float32Array(12).fill(255), shape: [3, 2, 2] }, 'format'],
    ['NaN', { data: new Float32Array(12).fill(Number.NaN), shape: [3, 2, 2] }, 'format'],
  ])('arrays of %s are refused', async (name, array, expected) => {
    const file = at(`${name}.npy`);
    await writeFile(file, writeNpy(array));
    await expect(readImages([file], 2)).rejects.toMatchObject({ code: expected, file });
  });

  it('arrays keep their own size, but one batch holds one size', async () => {
    await writeFile(at('larger.npy'), writeNpy({ data: new Float32Array(27), shape: [3, 3, 3] }));
    expect((await readImages([at('larger.npy')], 2)).dims).toEqual([1, 3, 3, 3]);
    await expect(readImages([at('grey.png'), at('larger.npy')], 2)).rejects.toMatchObject({ code: 'shape' });
  });

  it('stop at an aborted signal and need at least one path', async () => {
    const signal = AbortSignal.abort();
    await expect(readImages([at('grey.png')], 2, { signal })).rejects.toBe(signal.reason);
    await expect(readImages([], 2)).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});
