import { readdirSync, readFileSync } from 'node:fs';
import { DetailFlowError } from '@detailflow/core';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeImage } from './decode-image';

const folder = new URL('../../../tests/fixtures/images/', import.meta.url);
/** Kinds that are decoded here, not by a library. */
const names = readdirSync(folder).filter((name) => /\.(?:gif|bmp|p[bgp]m)$/.test(name));
const file = (name: string) => readFileSync(new URL(name, folder));

/** The image, or the error when it is of the right kind. */
async function outcome(bytes: Uint8Array, name: string) {
  try {
    const { data, width, height } = await decodeImage(bytes, name);
    expect(data.length, name).toBe(3 * width * height);
    return 'image';
  } catch (error) {
    if (!DetailFlowError.isInstance(error)) throw error;
    expect(error.file).toBe(name);
    return error.code;
  }
}

describe('damaged files', () => {
  test('cut off anywhere are refused, but for the padding at their end', async () => {
    expect(names.length).toBeGreaterThan(30);
    for (const name of names.filter((one) => one !== 'animated.gif')) {
      const bytes = file(name);
      const step = Math.max(1, Math.floor(bytes.length / 300));
      for (let length = 0; length < bytes.length; length += step) {
        const found = await outcome(bytes.subarray(0, length), name);
        const isPlain = name.startsWith('plain'); // the last number may lose a digit
        const left = bytes.length - length;
        if (found === 'image') expect(left, `${name} of ${length} bytes`).toBeLessThan(isPlain ? 5 : 4);
      }
    }
  });

  test('JPEG files whose end was never written are refused; zeros behind the end do not matter', async () => {
    const raw = { width: 64, height: 64, channels: 3 } as const;
    const pixels = Uint8Array.from({ length: 3 * 64 * 64 }, (_, i) => (i * 37 + ((i * i) >> 6)) % 256);
    for (const progressive of [false, true]) {
      const bytes = await sharp(pixels, { raw }).jpeg({ progressive }).toBuffer();
      expect(await outcome(Buffer.concat([bytes, Buffer.alloc(500)]), 'padded.jpg')).toBe('image');
      expect(
        await outcome(Buffer.concat([bytes, Buffer.from('more'), Buffer.alloc(500)]), 'trailer.jpg'),
      ).toBe('image');
      for (const share of [0.3, 0.5, 0.7, 0.9]) {
        const holed = Buffer.from(bytes).fill(0, Math.floor(share * bytes.length));
        expect(await outcome(holed, `${share}.jpg`), `${progressive} ${share}`).toBe('format');
      }
    }
    const plain = sharp({ create: { width: 2000, height: 2000, channels: 3, background: '#fff' } });
    for (const quality of [5, 90])
      expect(await outcome(await plain.jpeg({ quality, mozjpeg: true }).toBuffer(), 'plain.jpg')).toBe(
        'image',
      );
  });

  test('with any byte changed give an image or a typed error', async () => {
    let random = 1;
    const next = (limit: number) => {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      return Math.floor((random / 2 ** 32) * limit);
    };
    const seen = new Set<string>();
    for (const name of names) {
      for (let i = 0; i < 60; i++) {
        const bytes = Buffer.from(file(name));
        for (let n = next(3); n >= 0; n--) bytes[next(Math.min(bytes.length, 400))] = next(256);
        // Sides stay small: what may be 100 million pixels is tried below.
        if (/bmp$/.test(name)) bytes.fill(0, 20, 22).fill(0, 24, 26);
        if (/gif$/.test(name)) bytes[7] = bytes[9] = 0;
        seen.add(await outcome(bytes, name));
      }
    }
    expect(seen).toContain('image');
    expect(seen).toContain('format');
  });
});

describe('sizes that a file only claims', () => {
  const gif = (width: number, height: number) => {
    const head = Buffer.from('GIF89a\0\0\0\0\0\0\0', 'latin1');
    head.writeUInt16LE(width, 6);
    head.writeUInt16LE(height, 8);
    return head;
  };
  const frame = (width: number, height: number) => {
    const bytes = Buffer.from(',\0\0\0\0\0\0\0\0\0\x02\x02\x4c\x01\0;', 'latin1');
    bytes.writeUInt16LE(width, 5);
    bytes.writeUInt16LE(height, 7);
    return bytes;
  };
  const bmp = (width: number, height: number, bits: number, compression: number) => {
    const bytes = Buffer.alloc(54 + 4 * 256 + 2);
    bytes.write('BM');
    bytes.writeUInt32LE(54 + 4 * 256, 10);
    bytes.writeUInt32LE(40, 14);
    bytes.writeInt32LE(width, 18);
    bytes.writeInt32LE(height, 22);
    bytes.writeUInt16LE(1, 26);
    bytes.writeUInt16LE(bits, 28);
    bytes.writeUInt32LE(compression, 30);
    return bytes;
  };

  test.each<[string, Buffer, string, RegExp]>([
    ['a.gif', Buffer.concat([gif(1, 1), frame(65535, 65535)]), 'limit', /65535 x 65535 pixels/],
    ['b.gif', Buffer.concat([gif(65535, 65535), frame(1, 1)]), 'limit', /65535 x 65535 pixels/],
    ['c.gif', Buffer.concat([gif(1, 1), frame(9000, 9000)]), 'format', /cannot hold 9000 x 9000/],
    [
      'c2.gif',
      Buffer.concat([gif(9000, 9000), frame(1, 1)]),
      'format',
      /screen of 9000 x 9000 pixels is empty/,
    ],
    ['d2.bmp', bmp(7, 8_388_610, 8, 1), 'format', /bytes hold few of 7 x 8388610/],
    ['d.bmp', bmp(100_000, 100_000, 8, 0), 'limit', /100000 x 100000/],
    ['e.bmp', bmp(9000, 9000, 24, 0), 'format', /ends too early/],
    ['f.bmp', bmp(-5, 5, 24, 0), 'limit', /4294967291 x 5/],
    ['g.bmp', bmp(5, -2147483648, 24, 0), 'limit', /5 x 2147483648/],
    ['h.bmp', bmp(5, 0, 24, 0), 'format', /5 x 0/],
    ['i.bmp', bmp(5, 5, 24, 4), 'unsupported', /coding 4 of 24 bits/],
    ['j.bmp', bmp(5, 5, 2, 0), 'unsupported', /2 bits a pixel/],
    ['k.ppm', Buffer.from('P6 99999 99999 255 '), 'limit', /99999 x 99999/],
    ['l.ppm', Buffer.from('P6 9999 9999 255 '), 'format', /ends too early/],
    ['m.pgm', Buffer.from('P2 9999 9999 255 1 2 3'), 'format', /ends too early/],
    ['n.pgm', Buffer.from('P5 2 2 65536 aaaaaaaa'), 'format', /largest value is 65536/],
    ['o.pgm', Buffer.from('P2 1 1 9 10'), 'format', /a value is 10/],
    ['p.pbm', Buffer.from('P1 1 1 2'), 'format', /neither 0 nor 1/],
    ['q.pbm', Buffer.from('P1 99999999999 1 2'), 'format', /a number is too long/],
  ])('%s', async (name, bytes, code, message) => {
    const failure = decodeImage(bytes, name);
    await expect(failure).rejects.toMatchObject({ code, file: name });
    await expect(failure).rejects.toThrow(message);
  });
});

test('run lengths of a BMP file jump over pixels, which are of colour 0', async () => {
  const bytes = Buffer.alloc(54 + 8 + 12);
  bytes.write('BM');
  bytes.writeUInt32LE(62, 10);
  bytes.writeUInt32LE(40, 14);
  bytes.writeInt32LE(4, 18);
  bytes.writeInt32LE(3, 22);
  bytes.writeUInt16LE(1, 26);
  bytes.writeUInt16LE(8, 28);
  bytes.writeUInt32LE(1, 30);
  bytes.writeUInt32LE(2, 46);
  bytes.set([10, 10, 10, 0, 200, 200, 200, 0], 54);
  bytes.set([2, 1, 0, 2, 1, 1, 1, 1, 0, 0, 0, 1], 62); // two, a jump by (1, 1), one, the end of the row, the end
  const { data } = await decodeImage(bytes, 'jump.bmp');
  const shades = Array.from({ length: 12 }, (_, i) => data[3 * i]);
  expect(shades).toEqual([10, 10, 10, 10, 10, 10, 10, 200, 200, 200, 10, 10]); // the first row of the file is the last
});
