import { describe } from './describe';
import { DetailFlowError } from './errors';
import { isTensor, type Tensor } from './tensor';

/** An RGBA picture of 8 bits a channel, row by row from the top left. */
export class Picture {
  /** width * height * 4 bytes: red, green, blue, alpha. */
  readonly data: Uint8ClampedArray;
  readonly width: number;
  readonly height: number;

  constructor(data: Uint8ClampedArray, width: number, height: number) {
    if (data.length !== width * height * 4) {
      throw new DetailFlowError(
        'shape',
        `${data.length} bytes do not make a ${width} x ${height} RGBA picture`,
      );
    }
    this.data = data;
    this.width = width;
    this.height = height;
  }

  /** The picture as a canvas takes it. Only where `ImageData` exists (pages and workers). */
  toImageData(): ImageData {
    if (typeof ImageData === 'undefined') {
      throw new DetailFlowError('unsupported', 'ImageData exists in browsers only; use toPng() here');
    }
    return new ImageData(new Uint8ClampedArray(this.data), this.width, this.height);
  }

  /** The picture as a PNG file (RGB, the alpha channel is left out). */
  async toPng(): Promise<Uint8Array> {
    const { width, height, data } = this;
    const rows = new Uint8Array(height * (1 + 3 * width)); // each row: filter byte 0, then RGB
    let at = 0;
    for (let y = 0; y < height; y++) {
      rows[at++] = 0;
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < 3; c++) rows[at++] = data[4 * (y * width + x) + c];
      }
    }
    const header = new Uint8Array(13);
    const view = new DataView(header.buffer);
    view.setUint32(0, width);
    view.setUint32(4, height);
    header.set([8, 2, 0, 0, 0], 8); // 8 bits, RGB, deflate, no filter method, not interlaced
    const parts = [
      Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
      chunk('IHDR', header),
      chunk('IDAT', await deflate(rows)),
      chunk('IEND', new Uint8Array(0)),
    ];
    return bytesOf(new Blob(parts as BlobPart[]));
  }
}

/**
 * One image of a batch [B, 3, H, W] in [-1, 1] as 8-bit pixels: trunc(clamp(127.5 x + 128, 0, 255)).
 * Source: docs/method.md section 3.
 * @throws DetailFlowError `shape` for another tensor, or an index outside the batch; `runtime` for a value that is not a number
 */
export function pictureFromPixels(pixels: Tensor<'float32'>, index = 0): Picture {
  const isImages = isTensor(pixels) && pixels.type === 'float32' && pixels.dims.length === 4;
  const [batch, channels, height, width] = isImages ? pixels.dims : [0];
  if (channels !== 3 || !Number.isInteger(index) || index < 0 || index >= batch) {
    throw new DetailFlowError(
      'shape',
      `image ${describe(index)} of a tensor ${describe(pixels)}: expected float32 [B, 3, H, W] with B above it`,
    );
  }
  const values = pixels.data;
  const plane = width * height;
  const data = new Uint8ClampedArray(plane * 4);
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) {
      const value = values[(3 * index + c) * plane + i];
      if (Number.isNaN(value)) {
        throw new DetailFlowError(
          'runtime',
          `channel ${c} in column ${i % width}, row ${Math.trunc(i / width)} of image ${index} is NaN: the weights hold NaN, ` +
            `or computing overflowed; check the files with "detailflow inspect --verify"`,
        );
      }
      data[4 * i + c] = pixelToByte(value);
    }
    data[4 * i + 3] = 255;
  }
  return new Picture(data, width, height);
}

/** A value in [-1, 1] as a byte: cut, not rounded. */
export function pixelToByte(value: number): number {
  return Math.trunc(Math.min(255, Math.max(0, Math.fround(Math.fround(127.5 * value) + 128))));
}

const deflate = (bytes: Uint8Array): Promise<Uint8Array> =>
  bytesOf(new Blob([bytes as BlobPart]).stream().pipeThrough(new CompressionStream('deflate')));

const bytesOf = async (body: Blob | ReadableStream): Promise<Uint8Array> =>
  new Uint8Array(await new Response(body).arrayBuffer());

function chunk(type: string, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  for (let i = 0; i < 4; i++) bytes[4 + i] = type.charCodeAt(i);
  bytes.set(body, 8);
  view.setUint32(8 + body.length, crc32(bytes.subarray(4, 8 + body.length)));
  return bytes;
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
