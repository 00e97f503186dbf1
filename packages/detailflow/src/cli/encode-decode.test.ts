import { writeFileSync } from 'node:fs';
import { psnr } from '@detailflow/eval';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import {
  cliFailure,
  cliJson,
  codeRows,
  cut,
  fashion,
  goldenTokenizer,
  names,
  npy,
  pixels,
  saveNpy,
  testFolder,
} from '../../../../tests/cli';
import { expectClose, floats, golden } from '../../../../tests/golden';

const at = testFolder();

describe.each(['A', 'B'] as const)('golden tokenizer %s', (set) => {
  const values = golden(`${set}/golden_tokenizer.safetensors`);
  const indices = values['enc.indices'];
  const tokens = indices.shape[1];
  const model = goldenTokenizer(set);
  const imagesFile = saveNpy(at(`${set}-images.npy`), floats(values.images), values.images.shape);
  const codesFile = saveNpy(at(`${set}-codes.npy`), indices.data, indices.shape);

  test('encode gives the codes of .npy images', async () => {
    const out = at(`${set}-made/deep/codes.npy`);
    const report = await cliJson('encode', ...model, imagesFile, '--out', out);
    expect(report).toEqual({ out, shape: indices.shape, files: [imagesFile] });
    expect((await codeRows(out)).flat()).toEqual(Array.from(indices.data));
  });

  test('encode --tokens, and images of another size as they are', async () => {
    for (const name of Object.keys(values)) {
      const count = /^enc\.n(\d+)\.indices$/.exec(name)?.[1];
      if (!count) continue;
      const out = at(`${set}-${count}.npy`);
      await cliJson('encode', ...model, imagesFile, '--tokens', count, '--out', out);
      expect((await codeRows(out)).flat()).toEqual(Array.from(values[name].data));
    }
    const small = saveNpy(at(`${set}-small.npy`), floats(values.lowres_images), values.lowres_images.shape);
    await cliJson('encode', ...model, small, '--out', at(`${set}-small-codes.npy`));
    expect((await codeRows(at(`${set}-small-codes.npy`))).flat()).toEqual(
      Array.from(values['enc.lowres.indices'].data),
    );
  });

  test('decode --tokens --size gives the pixels', async () => {
    const cases = Object.keys(values).flatMap((name) => {
      const [, count, size] = /^dec\.t(\d+)\.r(\d+)$/.exec(name) ?? [];
      return count ? [{ name, count, size }] : [];
    });
    expect(cases.length).toBeGreaterThan(3);
    for (const { name, count, size } of cases) {
      const out = at(`${set}-${name}.npy`);
      const args = ['--tokens', count, '--size', size, '--out', out];
      const report = await cliJson('decode', ...model, codesFile, ...args);
      const { shape, data } = values[name];
      expect(report).toMatchObject({ out, shape: [2, 3, ...shape.slice(2)], tokens: Number(count) });
      const decoded = await npy(out);
      expect([decoded.dtype, decoded.shape]).toEqual(['float32', report.shape]);
      expectClose((decoded.data as Float32Array).subarray(0, data.length), data as Float32Array);
    }
  });

  test('decode without --size draws at the resolution of the tokens, into a folder of PNG files', async () => {
    const preview = values[Object.keys(values).find((name) => /^dec\.t(4|8)\.r16$/.test(name)) as string];
    const count = set === 'A' ? '4' : '8';
    await cliJson('decode', ...model, codesFile, '--tokens', count, '--out', at(`${set}-preview.npy`));
    const decoded = await npy(at(`${set}-preview.npy`));
    expect(decoded.shape).toEqual([2, 3, 16, 16]);
    expectClose(decoded.data as Float32Array, preview.data as Float32Array);

    const out = at(`${set}-pictures`);
    const report = await cliJson('decode', ...model, codesFile, '--out', out);
    expect(report).toMatchObject({ shape: [2, 3, 64, 64], tokens });
    expect(await names(out)).toEqual(['0000.png', '0001.png']);
    const { data, width } = await pixels(report.files[0]);
    expect(width).toBe(64);
    const wanted = values['dec.uint8'].data;
    expect(data.length).toBe(wanted.length);
    expect(Math.max(...data.map((byte, i) => Math.abs(byte - wanted[i])))).toBeLessThanOrEqual(1);
  });

  test('decode takes codes of one image [n], of fewer tokens, and as int64', async () => {
    const short = Object.keys(values).find((name) => name.startsWith('dec.short')) as string;
    const count = Number(/\d+/.exec(short)?.[0]);
    const row = (indices.data as Int32Array).slice(0, count);
    const file = at(`${set}-row.npy`);
    writeFileSync(file, int64Npy(row));
    await cliJson('decode', ...model, file, '--size', '64', '--out', at(`${set}-row-pixels.npy`));
    expectClose(
      (await npy(at(`${set}-row-pixels.npy`))).data as Float32Array,
      values[short].data as Float32Array,
    );
    await cliJson('decode', ...model, file, '--out', at(`${set}-row.png`));
    expect((await pixels(at(`${set}-row.png`))).width).toBe(set === 'A' ? 32 : 24);
  });
});

describe('pictures', () => {
  /** A bright square off the middle of a wide picture, in each format. */
  async function draw(file: string): Promise<string> {
    const square = { create: { width: 60, height: 60, channels: 3 as const, background: '#fff' } };
    await sharp({ create: { width: 160, height: 100, channels: 3, background: '#000' } })
      .composite([{ input: await sharp(square).png().toBuffer(), left: 50, top: 20 }])
      .toFile(file);
    return file;
  }

  test('png, jpeg and webp are cropped to the middle and encoded; formats mix with .npy', async () => {
    const files = await Promise.all(['a.png', 'b.jpg', 'c.webp'].map((name) => draw(at(name))));
    await cliJson('encode', ...fashion, ...files, '--out', at('mixed.npy'));
    const rows = await codeRows(at('mixed.npy'));
    expect(rows.map((row) => row.length)).toEqual([32, 32, 32]);
    // The crop is black with the white square in it: the same as drawing it at full size.
    await cliJson('decode', ...fashion, at('mixed.npy'), '--out', at('mixed'));
    const { data } = await pixels(at('mixed/0000.png'));
    const grey = (x: number, y: number) => data[3 * (32 * y + x)];
    expect(grey(16, 16)).toBeGreaterThan(200);
    expect(grey(1, 1)).toBeLessThan(50);

    const pixelsFile = saveNpy(at('black.npy'), new Float32Array(3 * 32 * 32).fill(-1), [3, 32, 32]);
    await cliJson('encode', ...fashion, files[0], pixelsFile, '--out', at('both.npy'));
    const both = await codeRows(at('both.npy'));
    expect(both[0]).toEqual(rows[0]);
    expect(both).toHaveLength(2);
  });

  test('reconstruct makes one strip a picture, the original last, and says the PSNR', async () => {
    const file = await draw(at('square.png'));
    const out = at('strips');
    const report = await cliJson('reconstruct', ...fashion, file, file, '--tokens', '1,8,32', '--out', out);
    expect(report.out).toBe(out);
    expect(await names(out)).toEqual(['square-2.png', 'square.png']);
    const [first] = report.images;
    expect(first).toMatchObject({ file, strip: at('strips/square.png') });
    expect(first.steps.map((step: { tokens: number }) => step.tokens)).toEqual([1, 8, 32]);
    expect(first.steps.map((step: { resolution: number }) => step.resolution)).toEqual([4, 12, 32]);
    const strip = await pixels(first.strip);
    expect([strip.width, strip.height]).toEqual([2 + 4 * 34, 36]);
    // Last column: the centre crop itself, black around a white square.
    const original = await cut(first.strip, 2 + 3 * 34, 2, 32);
    expect(original[3 * (32 * 16 + 16)]).toBe(255);
    expect(original[0]).toBe(0);
    // The PSNR of all tokens is that of the two pictures side by side.
    const shown = await cut(first.strip, 2 + 2 * 34, 2, 32);
    const values = (rgb: ArrayLike<number>) => Array.from(rgb, (byte) => byte / 127.5 - 1);
    expect(first.steps[2].psnr).toBeCloseTo(psnr(values(shown), values(original)), 6);
    // The column before: what decode draws of all tokens.
    await cliJson('encode', ...fashion, file, '--out', at('square-codes.npy'));
    await cliJson('decode', ...fashion, at('square-codes.npy'), '--out', at('square-decoded.png'));
    expect(await cut(first.strip, 2 + 2 * 34, 2, 32)).toEqual((await pixels(at('square-decoded.png'))).data);
  });

  test('reconstruct prints a line a picture, all counts by default, and takes batches of .npy images', async () => {
    const images = saveNpy(at('many.npy'), new Float32Array(2 * 3 * 32 * 32).fill(-1), [2, 3, 32, 32]);
    const { images: found } = await cliJson('reconstruct', ...fashion, images, '--out', at('many'));
    expect(await names(at('many'))).toEqual(['many-0.png', 'many-1.png']);
    expect(found[1].steps.map((step: { tokens: number }) => step.tokens)).toEqual([1, 2, 4, 8, 16, 32]);
  });
});

describe('wrong usage and bad files', () => {
  const codes = saveNpy(
    at('codes.npy'),
    Int32Array.from({ length: 64 }, (_, i) => i),
    [2, 32],
  );
  const images = saveNpy(at('images.npy'), new Float32Array(3 * 32 * 32), [1, 3, 32, 32]);
  const broken = at('broken.png');
  writeFileSync(broken, 'no picture');
  writeFileSync(at('taken'), '');
  const big = at('big.npy');
  writeFileSync(big, int64Npy([2 ** 32 + 5]));
  const outside = saveNpy(at('outside.npy'), Int32Array.of(5000), [1, 1]);
  const out = at('refused/out.npy');

  test.each<[1 | 2, RegExp, string[]]>([
    [2, /--out is missing/, ['encode', images]],
    [2, /at least one picture/, ['encode', '--out', out]],
    [2, /must end in \.npy/, ['encode', images, '--out', at('refused/codes.txt')]],
    [2, /--tokens 5: give a multiple of 4 from 4 to 32/, ['encode', images, '--tokens', '5', '--out', out]],
    [1, /missing\.png: cannot be read/, ['encode', images, at('missing.png'), '--out', out]],
    [1, /broken\.png: is no image/, ['encode', images, broken, '--out', out]],
    [2, /one file of codes/, ['decode', '--out', out]],
    [2, /--tokens 33: give a whole number from 1 to 32/, ['decode', codes, '--tokens', '33', '--out', out]],
    [2, /--size 30: give a multiple of the patch size 4/, ['decode', codes, '--size', '30', '--out', out]],
    [2, /is one picture, the codes are 2/, ['decode', codes, '--out', at('refused/x.png')]],
    [2, /written as \.png, not \.jpg/, ['decode', codes, '--out', at('refused/x.jpg')]],
    [1, /big\.npy: holds 4294967301; the codes of this model are 0\.\.1023/, ['decode', big, '--out', out]],
    [1, /outside\.npy: holds 5000/, ['decode', outside, '--out', out]],
    [1, /holds float32; codes are int32/, ['decode', images, '--out', out]],
    [1, /taken: is a file; give a folder/, ['decode', codes, '--out', at('taken')]],
    [
      2,
      /--tokens 0: give numbers from 1 to 32/,
      ['reconstruct', images, '--tokens', '0,8', '--out', at('refused')],
    ],
    [2, /give a folder/, ['reconstruct', images, '--out', at('refused/strip.png')]],
    [1, /broken\.png: is no image/, ['reconstruct', broken, '--out', at('refused')]],
  ])('exit code %i: %s', async (code, message, [command, ...args]) => {
    expect(await cliFailure(code, command, ...fashion, ...args)).toMatch(message);
    expect(await names(at('refused'))).toEqual([]);
  });
});

/** A .npy file of int64 [n], as NumPy writes Python's whole numbers. */
function int64Npy(values: ArrayLike<number>): Uint8Array {
  const header = `{'descr': '<i8', 'fortran_order': False, 'shape': (${values.length},), }`.padEnd(117);
  const data = BigInt64Array.from(Array.from(values, BigInt));
  const magic = Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, 118, 0);
  return Buffer.concat([magic, Buffer.from(`${header}\n`), new Uint8Array(data.buffer)]);
}
