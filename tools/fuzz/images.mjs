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
    'palette.gif': small().gif(),
    'clear.gif': pixels(9, 5, 4).gif(),
    'deflated.tif': small().tiff({ compression: 'deflate' }),
    'tiled.tif': pixels(33, 17, 4).tiff({ compression: 'lzw', tile: true, tileWidth: 16, tileHeight: 16 }),
    'lossless.avif': small().avif({ lossless: true }),
    'turned.webp': pixels(5, 9, 3).withMetadata({ orientation: 8 }).webp(),
  };
  const seeds = {
    'full.bmp': bmp(24),
    'palette.bmp': bmp(8),
    'runs.bmp': bmp(8, [3, 1, 0, 4, 1, 0, 1, 0, 0, 0, 0, 1]),
  };
  for (const kind of [1, 2, 3, 4, 5, 6]) seeds[`kind${kind}.pnm`] = netpbm(kind);
  for (const [name, image] of Object.entries(files)) seeds[name] = await image.toBuffer();
  return seeds;
}

/** 7 x 2 pixels, plain or as run lengths. */
function bmp(bits, runs) {
  const palette = Buffer.from(bits === 8 ? [10, 20, 30, 0, 200, 100, 0, 0] : []);
  const data = Buffer.from(
    runs ?? Array.from({ length: bits === 8 ? 16 : 48 }, (_, i) => (bits === 8 ? i % 2 : i)),
  );
  const head = Buffer.alloc(54);
  head.write('BM');
  head.writeUInt32LE(54 + palette.length, 10);
  head.writeUInt32LE(40, 14);
  head.writeInt32LE(7, 18);
  head.writeInt32LE(2, 22);
  head.writeUInt16LE(1, 26);
  head.writeUInt16LE(bits, 28);
  head.writeUInt32LE(runs ? 1 : 0, 30);
  head.writeUInt32LE(palette.length / 4, 46);
  return Buffer.concat([head, palette, data]);
}

/** 3 x 2 pixels of every kind, P1 to P6. */
function netpbm(kind) {
  const [isPlain, channels, isBits] = [kind <= 3, kind % 3 === 0 ? 3 : 1, kind % 3 === 1];
  const values = Array.from({ length: 6 * channels }, (_, i) => (isBits ? i % 2 : 13 * i));
  const raw = Buffer.from(isBits ? [0b10100000, 0b01000000] : values);
  const head = Buffer.from(`P${kind}\n# a comment\n3 2\n${isBits ? '' : '255\n'}`);
  return Buffer.concat([head, isPlain ? Buffer.from(values.join(' ')) : raw]);
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
