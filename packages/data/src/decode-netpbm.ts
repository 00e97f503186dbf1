import { DetailFlowError } from '@detailflow/core';
import { roundHalfEven } from './pillow-resize';
import { checkPixels, type DeepGrey, type Raster } from './raster';

const isSpace = (byte: number) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);

/**
 * A PBM, PGM or PPM file, plain or raw. Values are stretched from 0 .. maxval to 8 bits; grey of more than 8 bits to 16.
 * Source: the Netpbm format descriptions; rounded as Pillow rounds.
 * @throws DetailFlowError `format` when it is broken or cut off, `limit` beyond 100 million pixels
 */
export function decodeNetpbm(bytes: Uint8Array, file: string): Raster | DeepGrey {
  const fail = (reason: string) => new DetailFlowError('format', `is a broken PNM file: ${reason}`, { file });
  let at = 2;
  const skip = () => {
    for (; at < bytes.length; at++) {
      if (bytes[at] === 0x23) {
        while (at < bytes.length && bytes[at] !== 0x0a && bytes[at] !== 0x0d) at++;
      } else if (!isSpace(bytes[at])) return;
    }
  };
  const number = () => {
    skip();
    let [value, digits] = [0, 0];
    for (; at < bytes.length && bytes[at] >= 0x30 && bytes[at] <= 0x39; at++, digits++) {
      value = 10 * value + bytes[at] - 0x30;
    }
    if (digits === 0) throw fail(at < bytes.length ? 'a number is missing' : 'it ends too early');
    if (digits > 10) throw fail('a number is too long');
    return value;
  };
  const kind = bytes[1] - 0x30;
  const [isPlain, channels] = [kind <= 3, kind % 3 === 0 ? (3 as const) : (1 as const)];
  const isBits = kind === 1 || kind === 4;
  const [width, height] = [number(), number()];
  checkPixels(width, height, file);
  const most = isBits ? 1 : number();
  if (most < 1 || most > 65535) throw fail(`its largest value is ${most}; 1 to 65535 are possible`);
  if (!isPlain) at++; // one white space, then the samples
  const count = width * height * channels;
  const sampleBytes = isBits ? 1 / 8 : most > 255 ? 2 : 1;
  const wanted = isPlain ? count : isBits ? height * Math.ceil(width / 8) : count * sampleBytes;
  if (bytes.length - at < wanted) throw fail('it ends too early');
  const [view, start] = [new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), at];
  const sample = (i: number): number => {
    if (isPlain && isBits) {
      skip();
      const digit = bytes[at++] - 0x30;
      if (digit !== 0 && digit !== 1) throw fail('a bit is neither 0 nor 1');
      return digit;
    }
    if (isPlain) return number();
    if (most > 255) return view.getUint16(start + 2 * i);
    if (!isBits) return bytes[start + i];
    const [row, column] = [Math.floor(i / width), i % width];
    return (bytes[start + row * Math.ceil(width / 8) + (column >> 3)] >> (7 - (column & 7))) & 1;
  };
  const isDeep = most > 255 && channels === 1;
  const top = isDeep ? 65535 : 255;
  const data = isDeep ? new Uint16Array(count) : new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const value = sample(i);
    if (isPlain && value > most) throw fail(`a value is ${value}, the largest should be ${most}`);
    if (isBits) data[i] = 255 * (1 - value);
    else data[i] = most === top ? value : Math.min(top, roundHalfEven((value / most) * top));
  }
  return { data, width, height, channels } as Raster | DeepGrey;
}
