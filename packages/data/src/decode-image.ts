import { DetailFlowError } from '@detailflow/core';
import type { Colour } from './contact-sheet';
import { decodeBmp } from './decode-bmp';
import { decodeGif } from './decode-gif';
import { decodeNetpbm } from './decode-netpbm';
import { foreignKind, type ImageKind, imageKind, readableKinds } from './image-kinds';
import { hasZeroedEnd } from './jpeg-end';
import { checkPixels, type DeepGrey, type Raster, rasterToRgb, shallowGrey, turnedImage } from './raster';
import type { RgbImage } from './rgb-image';

/** How the bytes of an image become pixels. */
export interface DecodeOptions {
  /**
   * What transparent pixels are laid on, 0 .. 255 a channel, rounded to the nearest. Default: alpha is dropped and the
   * colour beneath it shows, as Pillow's convert('RGB') has it.
   */
  readonly background?: Colour;
  /**
   * For a picture that a person hands over: turned as its EXIF orientation says, and of 16 bits of grey the upper 8 stay.
   * Default: not turned (TIFF is), and grey above 255 of 65535 is white, both as Pillow reads.
   */
  readonly upright?: boolean;
}

/** A decoded image, and how it wants to be turned. */
interface Decoded {
  readonly raster: Raster | DeepGrey;
  readonly orientation?: number;
  /** 16 bits of grey that Pillow would hold as integers, and cut off at 255. */
  readonly isInteger?: boolean;
}

/**
 * Decodes a PNG, JPEG, WebP, GIF, TIFF, AVIF, BMP or PNM file to the pixels of Pillow's convert('RGB'): what the first bytes
 * say counts, not the name; colour profiles and gamma are ignored; CMYK becomes (255 - C)(255 - K) / 255 and so on; of
 * animations and pages the first one counts.
 * @param file for messages
 * @throws DetailFlowError `format` when it is broken, `unsupported` for other kinds of images, `limit` beyond 100
 *   million pixels
 */
export async function decodeImage(
  bytes: Uint8Array,
  file: string,
  { background, upright = false }: DecodeOptions = {},
): Promise<RgbImage> {
  const kind = imageKind(bytes);
  if (kind === undefined) throw noImage(bytes, file);
  if (kind === 'jpeg' && hasZeroedEnd(bytes)) {
    throw new DetailFlowError(
      'format',
      'ends in zeros where the rest of the picture should be: it was never wholly written; get it again',
      { file },
    );
  }
  const { raster, orientation = 1, isInteger = false } = await decode(bytes, kind, file);
  const isDeep = raster.data instanceof Uint16Array;
  const shallow = isDeep ? shallowGrey(raster as DeepGrey, isInteger && !upright) : (raster as Raster);
  const image = rasterToRgb(shallow, background);
  return upright || kind === 'tiff' ? turnedImage(image, orientation) : image;
}

/** Why a file is not read. */
function noImage(bytes: Uint8Array, file: string): DetailFlowError {
  if (bytes.length === 0) return new DetailFlowError('format', 'is empty', { file });
  const other = foreignKind(bytes);
  return other === undefined
    ? new DetailFlowError('format', `is no image: neither ${readableKinds}`, { file })
    : new DetailFlowError('unsupported', `is ${other}, which is not read; save it as ${readableKinds}`, {
        file,
      });
}

async function decode(bytes: Uint8Array, kind: ImageKind, file: string): Promise<Decoded> {
  switch (kind) {
    case 'gif':
      return { raster: decodeGif(bytes, file) };
    case 'bmp':
      return { raster: decodeBmp(bytes, file) };
    case 'netpbm':
      return { raster: decodeNetpbm(bytes, file), isInteger: true };
    default:
      return decodeByLibrary(bytes, kind, file);
  }
}

async function decodeByLibrary(bytes: Uint8Array, kind: ImageKind, file: string): Promise<Decoded> {
  try {
    const { default: sharp } = await import('sharp'); // a large native library: only where it is needed
    const image = sharp(bytes, { failOn: 'error', ignoreIcc: true, limitInputPixels: false });
    const { width, height, space, depth, channels, orientation } = await image.metadata();
    checkPixels(width, height, file);
    const isDeep = depth === 'ushort';
    const isGrey = channels < 3;
    const native = space === 'cmyk' ? 'cmyk' : isDeep ? (isGrey ? 'grey16' : 'rgb16') : 'srgb';
    // Without this, CMYK would go through a colour profile, and 16 bits through floating point.
    if (native !== 'srgb') image.pipelineColourspace(native);
    const { data, info } = await image
      .toColourspace(native)
      .raw({ depth: isDeep ? 'ushort' : 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const found = { width: info.width, height: info.height, channels: info.channels };
    if (native === 'grey16') {
      const values = new Uint16Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
      const raster = { ...found, data: values, channels: found.channels as 1 | 2 };
      return { raster, orientation, isInteger: kind === 'png' ? bytes[25] === 0 : isGrey };
    }
    const upper = isDeep ? upperBytes(data) : data;
    const raster = native === 'cmyk' ? fromCmyk(upper, found) : { ...found, data: upper };
    return { raster: raster as Raster, orientation };
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DetailFlowError('format', `is no image that can be decoded (${reason})`, { file, cause });
  }
}

/** The upper 8 of 16 bits, little-endian. */
function upperBytes(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = data[2 * i + 1];
  return out;
}

function fromCmyk(
  data: Uint8Array,
  { width, height, channels }: { width: number; height: number; channels: number },
): Raster {
  const out = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; to < out.length; from += channels, to += 3) {
    const light = 255 - data[from + 3];
    for (let c = 0; c < 3; c++) out[to + c] = Math.round(((255 - data[from + c]) * light) / 255);
  }
  return { data: out, width, height, channels: 3 };
}
