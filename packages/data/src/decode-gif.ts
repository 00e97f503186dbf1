import { DetailFlowError } from '@detailflow/core';
import { checkPixels, type Raster } from './raster';

const [EXTENSION, IMAGE, GRAPHIC_CONTROL] = [0x21, 0x2c, 0xf9];
const MOST_CODES = 4096;
/** Pixels that a file may leave empty without showing cause. */
export const EMPTY = 2 ** 22;

/**
 * The first picture of a GIF file, on its screen. The colour under transparent pixels stays, and the rest of the screen has
 * the transparent colour, or else colour 0, as Pillow reads it.
 * Source: GIF89a specification.
 * @throws DetailFlowError `format` when it is broken or cut off, `limit` beyond 100 million pixels
 */
export function decodeGif(bytes: Uint8Array, file: string): Raster {
  const fail = (reason: string) => new DetailFlowError('format', `is a broken GIF file: ${reason}`, { file });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const take = (count: number) => {
    if (at + count > bytes.length) throw fail('it ends too early');
    at += count;
    return at - count;
  };
  const byte = () => bytes[take(1)];
  const word = () => view.getUint16(take(2), true);
  const palette = (flags: number) => {
    const size = 3 * (2 << (flags & 7));
    const start = flags & 0x80 ? take(size) : undefined;
    return start === undefined ? undefined : bytes.subarray(start, start + size);
  };
  take(6);
  let [width, height] = [word(), word()];
  const flags = byte();
  take(2);
  const shared = palette(flags);
  let transparent: number | undefined;
  for (;;) {
    const block = byte();
    if (block === EXTENSION) {
      const isControl = byte() === GRAPHIC_CONTROL;
      for (let size = byte(); size > 0; size = byte()) {
        const start = take(size);
        if (isControl && size >= 4) transparent = bytes[start] & 1 ? bytes[start + 3] : undefined;
      }
    } else if (block === IMAGE) {
      break;
    } else {
      throw fail('there is no picture in it');
    }
  }
  const [left, top, w, h] = [word(), word(), word(), word()];
  const local = byte();
  const colours = palette(local) ?? shared;
  width = Math.max(width, left + w);
  height = Math.max(height, top + h);
  checkPixels(width, height, file);
  checkPixels(w, h, file);
  const minimum = byte();
  if (minimum < 1 || minimum > 11) throw fail(`its codes begin with ${minimum} bits`);
  const packed: Uint8Array[] = [];
  for (let size = byte(); size > 0 && at < bytes.length; size = byte()) {
    const start = take(Math.min(size, bytes.length - at));
    packed.push(bytes.subarray(start, start + size));
    if (at === bytes.length) break;
  }
  const data = Buffer.concat(packed);
  const most = data.length * 8 * MOST_CODES; // no code stands for more pixels than there are codes
  if (w * h > most) throw fail(`its ${data.length} bytes cannot hold ${w} x ${h} pixels`);
  if (width * height > Math.max(most, EMPTY))
    throw fail(`its screen of ${width} x ${height} pixels is empty`);
  const indices = unpack(data, { minimum, count: w * h, fail });
  const screen = new Uint8Array(width * height).fill(transparent ?? 0);
  const rows = local & 0x40 ? interlacedRows(h) : undefined;
  for (let y = 0; y < h; y++) {
    const row = top + (rows ? rows[y] : y);
    screen.set(indices.subarray(y * w, (y + 1) * w), row * width + left);
  }
  return coloured(screen, { width, height, colours, transparent });
}

/** The order in which the rows of an interlaced picture come. */
function interlacedRows(height: number): number[] {
  const rows: number[] = [];
  for (const [start, step] of [
    [0, 8],
    [4, 8],
    [2, 4],
    [1, 2],
  ]) {
    for (let y = start; y < height; y += step) rows.push(y);
  }
  return rows;
}

/** Colours in place of indices; those beyond the palette are shades of grey. */
export function coloured(
  indices: Uint8Array,
  options: {
    readonly width: number;
    readonly height: number;
    /** RGB, one after the other. */
    readonly colours?: Uint8Array;
    readonly transparent?: number;
  },
): Raster {
  const { width, height, colours, transparent } = options;
  const channels = transparent === undefined ? 3 : 4;
  const table = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
  if (colours) table.set(colours.subarray(0, 768));
  const data = new Uint8Array(channels * width * height);
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i];
    for (let c = 0; c < 3; c++) data[channels * i + c] = table[3 * index + c];
    if (channels === 4) data[4 * i + 3] = index === transparent ? 0 : 255;
  }
  return { data, width, height, channels };
}

/** Undoes the LZW coding of GIF: `count` indices. */
function unpack(
  packed: Uint8Array,
  options: {
    readonly minimum: number;
    readonly count: number;
    readonly fail: (reason: string) => DetailFlowError;
  },
): Uint8Array {
  const { minimum, count, fail } = options;
  const [clear, end] = [1 << minimum, (1 << minimum) + 1];
  // An entry of the table is its last index, the entry before it, its length and its first index.
  const last = new Uint8Array(MOST_CODES);
  const before = new Uint16Array(MOST_CODES);
  const length = new Uint16Array(MOST_CODES).fill(1, 0, clear);
  const first = new Uint8Array(MOST_CODES);
  for (let i = 0; i < clear; i++) last[i] = first[i] = i;
  const out = new Uint8Array(count);
  let [next, width, previous, done, bits, held] = [end + 1, minimum + 1, -1, 0, 0, 0];
  for (let at = 0; done < count; ) {
    while (held < width && at < packed.length) {
      bits |= packed[at++] << held;
      held += 8;
    }
    if (held < width) throw fail(`${done} of ${count} pixels are there`);
    const code = bits & ((1 << width) - 1);
    bits >>>= width;
    held -= width;
    if (code === clear) {
      [next, width, previous] = [end + 1, minimum + 1, -1];
      continue;
    }
    if (code === end) throw fail(`${done} of ${count} pixels are there`);
    const isKnown = code < clear || (code > end && code < next);
    if (!isKnown && (previous < 0 || code !== next || next >= MOST_CODES))
      throw fail('a code that was never made');
    const opening = isKnown ? first[code] : first[previous];
    if (previous >= 0 && next < MOST_CODES) {
      last[next] = opening;
      before[next] = previous;
      length[next] = length[previous] + 1;
      first[next] = first[previous];
      next++;
      if (next === 1 << width && width < 12) width++;
    }
    let entry = code;
    for (let i = done + length[code] - 1; i >= done; i--) {
      if (i < count) out[i] = last[entry];
      entry = before[entry];
    }
    done += length[code];
    previous = code;
  }
  return out;
}
