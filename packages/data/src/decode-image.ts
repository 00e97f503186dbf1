import { DetailFlowError } from '@detailflow/core';
import type { Colour } from './contact-sheet';
import type { RgbImage } from './rgb-image';

const MAX_PIXELS = 1e8;
/** First bytes, in hexadecimal, of PNG, JPEG and WebP; and of GIF, TIFF, BMP, AVIF and its like, SVG. */
const readable = /^(?:89504e470d0a1a0a|ffd8ff|52494646.{8}57454250)/;
const otherKinds = /^(?:47494638|49492a00|4d4d002a|424d|.{8}66747970|(?:09|0a|0d|20)*3c)/;

/**
 * Decodes a PNG, JPEG or WebP file, off the main thread. The EXIF orientation is applied, transparency is flattened on
 * the background (black), grey becomes RGB, colour profiles are ignored; of animations the first frame counts.
 * @param file for messages
 * @throws DetailFlowError `format` when it is broken, `unsupported` for other kinds of images, `limit` beyond 100
 *   million pixels
 */
export async function decodeImage(
  bytes: Uint8Array,
  file: string,
  { background = [0, 0, 0] }: { readonly background?: Colour } = {},
): Promise<RgbImage> {
  // The library would try every decoder it has (SVG, PDF, ...) on a file; only three of them are wanted.
  const head = Buffer.from(bytes.subarray(0, 16)).toString('hex');
  if (!readable.test(head)) {
    throw otherKinds.test(head)
      ? new DetailFlowError('unsupported', 'is another kind of image; readable are PNG, JPEG and WebP', {
          file,
        })
      : new DetailFlowError('format', 'is no image: neither PNG nor JPEG nor WebP', { file });
  }
  try {
    const { default: sharp } = await import('sharp'); // a large native library: only where it is needed
    const image = sharp(bytes, { failOn: 'error', ignoreIcc: true, limitInputPixels: false });
    const { width, height } = await image.metadata();
    if (width * height > MAX_PIXELS) {
      throw new DetailFlowError(
        'limit',
        `has ${width} x ${height} pixels; the limit is ${MAX_PIXELS}: shrink it first`,
        { file },
      );
    }
    const { data, info } = await image
      .rotate()
      .flatten({ background: { r: background[0], g: background[1], b: background[2] } })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height };
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DetailFlowError('format', `is no image that can be decoded (${reason})`, { file, cause });
  }
}
