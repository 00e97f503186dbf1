// What is fuzzed: for each target small valid files, how to break them with knowledge of their format, and what
// must hold when they are read.
import { DetailFlowError, openSafetensors } from '@detailflow/core';
import { openDataset } from '@detailflow/data/node';
import { readImage, readImages, readNpy } from 'detailflow';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { asSource, bytesOf, check, countOf, one, readAll } from './checks.mjs';
import { npy, safetensors } from './files.mjs';
import { imageSeeds, pngChunks, writePng } from './images.mjs';
import { bundleTarget, officialTarget } from './model-targets.mjs';
import { edges, mutateBytes, mutateJson, toFields, writeJson } from './mutate.mjs';
import { torchTarget } from './torch-target.mjs';

const mixed = {
  __metadata__: { format: 'pt', note: 'x' },
  weight: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
  half: { dtype: 'F16', shape: [4], data_offsets: [24, 32] },
  empty: { dtype: 'I64', shape: [0, 7], data_offsets: [32, 32] },
  scalar: { dtype: 'F64', shape: [], data_offsets: [32, 40] },
  flag: { dtype: 'BOOL', shape: [3], data_offsets: [40, 43] },
};
const mixedData = Buffer.from(Array.from({ length: 43 }, (_, i) => i));

const safetensorsTarget = {
  name: 'safetensors',
  small: () => [['x.safetensors', safetensors(JSON.stringify(mixed), mixedData)]],
  make(random) {
    const file = safetensors(JSON.stringify(mixed), mixedData);
    if (random.chance(0.4)) return { 'x.safetensors': mutateBytes(file, random) };
    let text = writeJson(mutateJson(toFields(mixed), random));
    if (random.chance(0.1)) text = ' '.repeat(random.below(9)) + text;
    if (random.chance(0.1)) text += random.pick([' ', '\0', '}', '\n\t ', 'x', '"']);
    const data = random.chance(0.8) ? mixedData : mutateBytes(mixedData, random);
    const claimed = random.chance(0.9) ? undefined : random.pick(edges);
    return { 'x.safetensors': safetensors(text, data, claimed) };
  },
  async run(input, save) {
    const source = await asSource(input, save);
    try {
      const { weights, metadata } = await openSafetensors(source);
      for (const item of [...metadata].flat()) check(typeof item === 'string', 'metadata of strings');
      const header = Buffer.from(await source.read(0, 8)).readUInt32LE();
      check(source.size === 8 + header + bytesOf(weights), 'every byte belongs to one tensor');
      await readAll(weights);
    } finally {
      await source.close?.();
    }
  },
};

const npyHeaders = [
  ["{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 2, 2), }", 48],
  ["{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }", 48],
  ["{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }", 16],
  ["{'descr': '|u1', 'fortran_order': False, 'shape': (), }", 1],
];

const npyTarget = {
  name: 'npy',
  small: () => npyHeaders.map(([header, bytes], i) => [`x${i}.npy`, npy(header, Buffer.alloc(bytes))]),
  make(random) {
    const [header, bytes] = random.pick(npyHeaders);
    const data = Buffer.alloc(bytes + (random.chance(0.1) ? random.below(9) : 0));
    const version = random.chance(0.8)
      ? [1, 0]
      : random.pick([
          [2, 0],
          [3, 0],
          [0, 0],
          [4, 0],
          [1, 1],
        ]);
    if (random.chance(0.4)) return { 'x.npy': mutateBytes(npy(header, data, version), random) };
    const numbers = header.replace(/\d+(?=[,)])/g, (digits) =>
      random.chance(0.4) ? String(BigInt(random.pick(edges))) : digits,
    );
    const tokens = numbers.split(/(?<=[ ,:{}()])/);
    for (let n = random.below(3); n > 0; n--) {
      const at = random.below(tokens.length);
      if (random.chance(0.4)) tokens.splice(at, 1);
      else
        tokens.splice(
          at,
          0,
          random.pick([
            ...tokens,
            "'__proto__': ",
            '('.repeat(5000),
            '1, '.repeat(40),
            "'",
            '\0',
            '0 , '.repeat(2),
            `${'9'.repeat(400)},`,
            ' '.repeat(70_000),
          ]),
        );
    }
    return {
      'x.npy': npy(tokens.join(''), data, version, random.chance(0.9) ? undefined : random.pick(edges)),
    };
  },
  async run({ files, onDisk }, save) {
    const [name, bytes] = one(files);
    if (onDisk) {
      const { data, dims } = await readImages([`${await save(files)}/${name}`], 2);
      check(data.length === countOf(dims), 'number of pixels');
      return;
    }
    const { shape, data } = readNpy(bytes, { file: name });
    check(data.length === countOf(shape), `${data.length} values in [${shape}]`);
  },
};

const size = 6;
const pictures = await imageSeeds();

const imageTarget = {
  name: 'image',
  onDisk: true,
  /** A few bytes may rightly be a picture of 100 million pixels. */
  seconds: 15,
  megabytes: 2000,
  small: () => ['rgb.png', 'rgb.jpg', 'lossy.webp'].map((name) => [name, pictures[name]]),
  make(random) {
    const name = random.pick(Object.keys(pictures));
    if (name.endsWith('.png') && random.chance(0.5)) return { [name]: breakPng(pictures[name], random) };
    return { [name]: mutateBytes(pictures[name], random) };
  },
  async run({ files }, save) {
    const pixels = await readImage(`${await save(files)}/${one(files)[0]}`, size);
    check(pixels.length === 3 * size * size, `${pixels.length} values`);
    check(
      pixels.every((value) => value >= -1 && value <= 1),
      'values in [-1, 1]',
    );
  },
};

function breakPng(bytes, random) {
  const chunks = pngChunks(bytes);
  const at = random.below(chunks.length);
  switch (random.below(6)) {
    case 0: {
      const side = random.pick([0, 1, 3, 300, 16384, 65536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]);
      chunks[0].data.writeUInt32BE(side, random.pick([0, 4]));
      break;
    }
    case 1:
      chunks[0].data[8 + random.below(5)] = random.below(20);
      break;
    case 2:
      chunks.splice(at, 1);
      break;
    case 3:
      chunks.splice(at, 0, {
        type: random.pick(['tRNS', 'PLTE', 'iCCP', 'eXIf', 'zTXt', 'IDAT', 'IHDR', 'acTL']),
        data: mutateBytes(random.pick(chunks).data, random),
      });
      break;
    case 4:
      chunks.push(chunks[at]);
      break;
    default:
      chunks[at].data = mutateBytes(chunks[at].data, random);
  }
  return writePng(chunks);
}

/** A set of small images in Parquet, in groups of rows of one page and of several. */
function parquet(codec, pageSize) {
  const data = Array.from({ length: 9 }, (_, i) => new Uint8Array(pictures[i % 2 ? 'rgb.jpg' : 'rgb.png']));
  const columnData = [
    { name: 'image', data, type: 'BYTE_ARRAY' },
    { name: 'label', data: data.map((_, i) => i % 3), type: 'INT32' },
  ];
  return Buffer.from(parquetWriteBuffer({ columnData, codec, rowGroupSize: 4, pageSize }));
}

const parquetSeeds = ['SNAPPY', 'UNCOMPRESSED'].flatMap((codec) =>
  [100, 1 << 20].map((pageSize) => parquet(codec, pageSize)),
);

const parquetTarget = {
  name: 'parquet',
  onDisk: true,
  small: () => [['set.parquet', parquetSeeds[0]]],
  make: (random) => ({ 'set.parquet': mutateBytes(random.pick(parquetSeeds), random) }),
  async run({ files }, save) {
    const file = `${await save(files)}/${one(files)[0]}`;
    const { whole, train, heldOut } = await openDataset(file, { heldOut: 0.25, seed: 0 });
    const images = whole ?? train;
    try {
      check(images.labels.length <= 1000, `${images.labels.length} rows`);
      const refused = [];
      for (let i = 0; i < images.labels.length; i++) {
        const image = await images
          .image((i * 7) % images.labels.length)
          .catch((error) => refused.push(error));
        if (image.data) check(image.data.length === 3 * image.width * image.height, 'pixels of an image');
      }
      for (const error of refused) if (!DetailFlowError.isInstance(error)) throw error;
      if (refused.length > 0) throw refused[0];
    } finally {
      for (const part of [train, heldOut]) await part.close?.();
    }
  },
};

/** @typedef {{ files: Record<string, Buffer>, onDisk: boolean, facts: { fills?: number[] } }} Input */

export const targets = [
  ...[safetensorsTarget, torchTarget, officialTarget, bundleTarget],
  ...[npyTarget, imageTarget, parquetTarget],
];

/** Input number `iteration` of a target: every other one cuts a small file, until it was cut at every byte. */
export function makeInput(target, random, iteration) {
  const onDisk = target.onDisk === true || random.chance(0.1);
  const base = target.others?.() ?? {};
  if (iteration % 2 === 0) {
    let cut = iteration / 2;
    for (const [name, bytes] of target.small()) {
      if (cut <= bytes.length)
        return { files: { ...base, [name]: bytes.subarray(0, cut) }, onDisk, facts: {} };
      cut -= bytes.length + 1;
    }
  }
  const facts = {};
  return { files: target.make(random, facts), onDisk, facts };
}
