// Small images of every kind that is read, and PNG files whose chunks lie but whose checksums are right.
import sharp from 'sharp';

export async function imageSeeds() {
  const pixels = (width, height, channels) =>
    sharp(Buffer.from(Array.from({ length: width * height * channels }, (_, i) => (i * 89) % 251)), {
      raw: { width, height, channels },
    });
  const small = () => pixels(8, 8, 3);
  const files = {
    'rgb.png': small().png(),
    'alpha.png': pixels(9, 5, 4).png(),
    'grey.png': pixels(8, 8, 1).toColourspace('b-w').png(),
    'grey-alpha.png': pixels(8, 8, 2).toColourspace('b-w').png(),
    'deep.png': small().toColourspace('rgb16').png(),
    'palette.png': small().png({ palette: true, colours: 4 }),
    'interlaced.png': pixels(17, 11, 3).png({ progressive: true }),
    'rgb.jpg': small().jpeg(),
    'progressive.jpg': pixels(33, 17, 3).jpeg({ progressive: true }),
    'grey.jpg': pixels(8, 8, 1).toColourspace('b-w').jpeg(),
    'cmyk.jpg': small().toColourspace('cmyk').jpeg(),
    'turned.jpg': pixels(5, 9, 3).withMetadata({ orientation: 6 }).jpeg(),
    'lossy.webp': small().webp(),
    'lossless.webp': pixels(9, 9, 4).webp({ lossless: true }),
    'turned.webp': pixels(5, 9, 3).withMetadata({ orientation: 8 }).webp(),
  };
  return Object.entries(files).reduce(
    async (seeds, [name, image]) => ({ ...(await seeds), [name]: await image.toBuffer() }),
    Promise.resolve({}),
  );
}

/** [{ type, data }] of a PNG file. */
export function pngChunks(bytes) {
  const chunks = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    chunks.push({
      type: bytes.toString('latin1', at + 4, at + 8),
      data: Buffer.from(bytes.subarray(at + 8, at + 8 + length)),
    });
    at += 12 + length;
  }
  return chunks;
}

export function writePng(chunks) {
  const parts = [Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])];
  for (const { type, data } of chunks) {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(data.length, 0);
    frame.writeUInt32BE(crc32(body), 4);
    parts.push(frame.subarray(0, 4), body, frame.subarray(4));
  }
  return Buffer.concat(parts);
}

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = table[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
