import { DetailFlowError } from '@detailflow/core';
import { coloured, EMPTY } from './decode-gif';
import { checkPixels, type Raster } from './raster';

const FILE_HEADER = 14;
const OS2_HEADER = 12;
const LONGEST_RUN = 255;
const Compression = { none: 0, runs8: 1, runs4: 2, fields: 3, fieldsWithAlpha: 6 } as const;

interface Header {
  readonly width: number;
  readonly height: number;
  readonly isTopDown: boolean;
  readonly bits: number;
  readonly compression: number;
  /** Red, green, blue, alpha. */
  readonly masks: readonly number[];
  /** RGB, one after the other. */
  readonly colours: Uint8Array;
  /** Where the pixels begin. */
  readonly start: number;
}

/**
 * A BMP file of Windows or OS/2: 1, 4 and 8 bits with a palette, 16, 24 and 32 bits, run lengths, bit masks.
 * Alpha counts only where the file has a mask for it.
 * @throws DetailFlowError `format` when it is broken or cut off, `unsupported` for other codings, `limit` beyond 100 million
 *   pixels
 */
export function decodeBmp(bytes: Uint8Array, file: string): Raster {
  const fail = (reason: string) => new DetailFlowError('format', `is a broken BMP file: ${reason}`, { file });
  const header = readHeader(bytes, file, fail);
  const { width, height, isTopDown, bits, compression, colours, start } = header;
  const rows = (y: number) => (isTopDown ? y : height - 1 - y);
  if (compression === Compression.runs8 || compression === Compression.runs4) {
    const indices = unpackRuns(bytes.subarray(start), {
      width,
      height,
      isHalf: compression === Compression.runs4,
      fail,
    });
    const turned = new Uint8Array(width * height);
    for (let y = 0; y < height; y++)
      turned.set(indices.subarray(y * width, (y + 1) * width), rows(y) * width);
    return coloured(turned, { width, height, colours });
  }
  const stride = 4 * Math.ceil((width * bits) / 32);
  // The padding of the last row may be missing.
  if (bytes.length < start + stride * (height - 1) + Math.ceil((width * bits) / 8))
    throw fail('it ends too early');
  if (bits <= 8) {
    const indices = new Uint8Array(width * height);
    const [perByte, mask] = [8 / bits, (1 << bits) - 1];
    for (let y = 0; y < height; y++) {
      const from = start + y * stride;
      for (let x = 0, to = rows(y) * width; x < width; x++) {
        const shift = 8 - bits * ((x % perByte) + 1);
        indices[to + x] = (bytes[from + Math.floor(x / perByte)] >> shift) & mask;
      }
    }
    return coloured(indices, { width, height, colours });
  }
  const channels = header.masks[3] === 0 ? 3 : 4;
  const fields = header.masks.slice(0, channels).map(field);
  const data = new Uint8Array(channels * width * height);
  for (let y = 0; y < height; y++) {
    let from = start + y * stride;
    let to = rows(y) * width * channels;
    for (let x = 0; x < width; x++, from += bits / 8) {
      let pixel = bytes[from] | (bytes[from + 1] << 8);
      if (bits > 16) pixel |= bytes[from + 2] << 16;
      if (bits > 24) pixel |= bytes[from + 3] << 24;
      for (const { mask, shift, most } of fields) {
        const value = (pixel & mask) >>> shift;
        data[to++] = most === 255 ? value : most === 0 ? 0 : Math.floor((255 * value) / most);
      }
    }
  }
  return { data, width, height, channels };
}

/** Where a mask lies in a pixel, and the largest value it holds. */
function field(mask: number): { mask: number; shift: number; most: number } {
  const shift = mask === 0 ? 0 : 31 - Math.clz32(mask & -mask);
  return { mask, shift, most: mask >>> shift };
}

function readHeader(bytes: Uint8Array, file: string, fail: (reason: string) => DetailFlowError): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = bytes.length >= FILE_HEADER + 4 ? view.getUint32(FILE_HEADER, true) : 0;
  if (size < OS2_HEADER || bytes.length < FILE_HEADER + size) throw fail('it ends within its header');
  const word = (at: number) => view.getUint16(FILE_HEADER + at, true);
  const long = (at: number) => view.getUint32(FILE_HEADER + at, true);
  const isOs2 = size === OS2_HEADER;
  const rawHeight = isOs2 ? word(6) : view.getInt32(FILE_HEADER + 8, true);
  const [width, height] = [isOs2 ? word(4) : long(4), Math.abs(rawHeight)];
  const bits = isOs2 ? word(10) : word(14);
  const compression: number = isOs2 ? Compression.none : long(16);
  checkPixels(width, height, file);
  const refuse = (what: string) => new DetailFlowError('unsupported', `is a BMP file with ${what}`, { file });
  if (![1, 4, 8, 16, 24, 32].includes(bits))
    throw refuse(`${bits} bits a pixel; 1, 4, 8, 16, 24 and 32 are read`);
  const hasFields = compression === Compression.fields || compression === Compression.fieldsWithAlpha;
  const fits =
    compression === Compression.none ||
    (compression === Compression.runs8 && bits === 8) ||
    (compression === Compression.runs4 && bits === 4) ||
    (hasFields && bits >= 16 && size !== 64);
  if (!fits)
    throw refuse(`coding ${compression} of ${bits} bits; plain pixels, run lengths and bit masks are read`);
  let at = FILE_HEADER + size;
  let masks = bits === 16 ? [0x7c00, 0x3e0, 0x1f, 0] : [0xff0000, 0xff00, 0xff, 0];
  if (hasFields) {
    const outside = size === 40; // masks follow the header
    const count = size >= 56 || compression === Compression.fieldsWithAlpha ? 4 : 3;
    if (bytes.length < FILE_HEADER + 40 + 4 * count) throw fail('it ends within its masks');
    const given = Array.from({ length: count }, (_, i) => long(40 + 4 * i));
    masks = given.every((mask) => mask === 0)
      ? [0xff0000, 0xff00, 0xff, 0xff000000]
      : [...given, 0].slice(0, 4);
    if (outside) at += 4 * count;
  }
  const entry = isOs2 ? 3 : 4;
  const used = isOs2 ? 0 : long(32);
  const wanted = bits > 8 ? 0 : used || 1 << bits;
  if (wanted > 256) throw fail(`its palette has ${wanted} colours`);
  const colours = new Uint8Array(3 * wanted);
  if (bytes.length < at + entry * wanted) throw fail('it ends within its palette');
  for (let i = 0; i < wanted; i++) {
    for (let c = 0; c < 3; c++) colours[3 * i + c] = bytes[at + entry * i + 2 - c];
  }
  const start = view.getUint32(10, true) || at + entry * wanted;
  return { width, height, isTopDown: rawHeight < 0, bits, compression, masks, colours, start };
}

/** Undoes run lengths of 8 or 4 bits: indices in the order of the file; what is left out is colour 0. */
function unpackRuns(
  packed: Uint8Array,
  options: {
    readonly width: number;
    readonly height: number;
    readonly isHalf: boolean;
    readonly fail: (reason: string) => DetailFlowError;
  },
): Uint8Array {
  const { width, height, isHalf, fail } = options;
  if (width * height > Math.max(LONGEST_RUN * packed.length, EMPTY)) {
    throw fail(`its ${packed.length} bytes hold few of ${width} x ${height} pixels`);
  }
  const out = new Uint8Array(width * height);
  let [at, x, y] = [0, 0, 0];
  const byte = () => {
    if (at >= packed.length) throw fail('it ends too early');
    return packed[at++];
  };
  const put = (value: number) => {
    if (x < width && y < height) out[y * width + x] = value;
    x++;
  };
  while (y < height && !(x >= width && y === height - 1)) {
    const [count, value] = [byte(), byte()];
    if (count > 0) {
      for (let i = 0; i < count; i++) put(isHalf ? (i % 2 === 0 ? value >> 4 : value & 15) : value);
    } else if (value === 0) {
      [x, y] = [0, y + 1];
    } else if (value === 1) {
      break;
    } else if (value === 2) {
      [x, y] = [x + byte(), y + byte()];
    } else {
      const start = at;
      for (let i = 0; i < value; i++) {
        if (!isHalf) put(byte());
        else put(i % 2 === 0 ? byte() >> 4 : packed[at - 1] & 15);
      }
      if ((at - start) % 2 === 1) at++;
    }
  }
  return out;
}
