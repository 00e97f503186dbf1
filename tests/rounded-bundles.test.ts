import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createTokenModel, parseTokenModelConfig } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import { readBundle } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { type Backend, DetailFlowError, Tensor, type Weight } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { convert, convertToReleased, exportOnnx, load, verifyModel } from 'detailflow';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cli } from './cli';
import { familyModels, logits } from './family-logits';

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-rounded-'));
const at = (name: string) => path.join(folder, name);
const fashion = path.join(import.meta.dirname, 'fixtures/fashion-ref');

let device: Backend;
beforeAll(async () => {
  device = await createNodeBackend({ threads: 1 });
  for (const dtype of ['q8', 'q4'] as const) await convert(fashion, at(dtype), { dtype });
  await convert(fashion, at('uneven'), {});
  withOutliers(path.join(at('uneven'), 'ar.safetensors'), BLOCKS);
  await convert(at('uneven'), at('uneven-q8'), { dtype: 'q8' });
});
afterAll(async () => {
  await device.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Makes the first weight of every row so large that one scale a row would leave little of the others. */
function withOutliers(file: string, name: string): void {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, Entry>;
  const {
    shape: [rows, columns],
    data_offsets: [first],
  } = header[name];
  for (let row = 0; row < rows; row++) bytes.writeFloatLE(3, 8 + length + first + 4 * row * columns);
  writeFileSync(file, bytes);
}

async function refusal(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!DetailFlowError.isInstance(error)) throw new Error(`expected a DetailFlowError, got ${error}`);
  return `${error.code}: ${error.message}`;
}

test.each([['DetailFlow', fashion, 1] as const, ...familyModels])(
  'a bundle of %s that is stored rounded computes the same bits as one that is rounded when loaded',
  async (name, source, condition) => {
    for (const dtype of ['q8', 'q4'] as const) {
      const bundle = at(`${name}-${dtype}`.replace(/\W+/g, '-'));
      await convert(source, bundle, { dtype });
      const rounded = await logits(source, condition, { device, dtype });
      expect(await logits(bundle, condition, { device })).toEqual(rounded);
      expect(await logits(bundle, condition, { device, dtype })).toEqual(rounded);
    }
  },
);

test.each(['q8', 'q4'] as const)(
  'the decoder of a %s bundle draws the same bits as one that is rounded when loaded, and the encoder finds the same codes',
  async (dtype) => {
    const exact = await load(fashion, { backend: device });
    const { tokens, codebookSize, imageSize } = exact.tokenizer;
    const codes = new Tensor(
      'int32',
      Int32Array.from({ length: 2 * tokens }, (_, i) => (i * 7919) % codebookSize),
      [2, tokens],
    );
    const images = new Tensor(
      'float32',
      Float32Array.from({ length: 3 * imageSize ** 2 }, (_, i) => Math.sin(i / 31)),
      [1, 3, imageSize, imageSize],
    );
    const found = [];
    for (const [source, wanted] of [[at(dtype)], [at(dtype), dtype], [fashion, dtype]] as const) {
      const model = await load(source, { backend: device, dtype: wanted });
      found.push((await model.tokenizer.decode(codes)).data);
      expect((await model.tokenizer.encode(images)).data).toEqual(
        (await exact.tokenizer.encode(images)).data,
      );
      await model.dispose();
    }
    expect(found[0]).toEqual(found[2]);
    expect(found[1]).toEqual(found[2]);
    expect(found[0]).not.toEqual((await exact.tokenizer.decode(codes)).data);
    await exact.dispose();
  },
);

test('its matrices are mapped from the file, and only scales are read', async () => {
  const bundle = await readBundle(await openFolder(at('q8')));
  const read: string[] = [];
  const watched = (weight: Weight): Weight => ({
    ...weight,
    ...(weight.rounded && {
      rounded: {
        ...weight.rounded,
        values: watched(weight.rounded.values),
        scales: watched(weight.rounded.scales),
      },
    }),
    read() {
      read.push(weight.name);
      return weight.read();
    },
  });
  const weights = new Map([...(bundle.ar ?? [])].map(([name, weight]) => [name, watched(weight)]));
  const config = parseTokenModelConfig(bundle.card.ar?.config ?? {}, 'config.json');
  const model = createTokenModel({ config, weights, backend: device });
  await (await model.begin([1])).predict(undefined);
  await model.dispose();
  await bundle.close();
  expect(read.length).toBeGreaterThan(10);
  expect(read.filter((name) => !name.endsWith('.scales'))).toEqual([]);
});

test('a device that knows no few bits computes with the widened matrices', async () => {
  const exact = await logits(fashion, 1, { device, dtype: 'fp32' });
  const widened = await logits(at('q8'), 1, { device: createReferenceBackend() });
  const largest = widened.reduce((most, x, i) => Math.max(most, Math.abs(x - exact[i])), 0);
  expect(largest).toBeGreaterThan(1e-4);
  expect(largest).toBeLessThan(0.3);
});

test('another dtype is refused wherever weights are asked for', async () => {
  const reason = /^dtype: .*ar\.safetensors: its matrices are stored as q8, and \w+ is asked for/;
  for (const dtype of ['fp32', 'fp16', 'q4'] as const) {
    expect(await refusal(load(at('q8'), { backend: device, dtype }))).toMatch(reason);
  }
  const { code, stderr } = await cli([
    'generate',
    '--model',
    at('q8'),
    '--dtype',
    'q4',
    '--out',
    at('x.png'),
  ]);
  expect([code, stderr]).toEqual([1, expect.stringContaining('stored as q8')]);
  for (const dtype of ['f32', 'f16', 'q4'] as const) {
    expect(await refusal(convert(at('q8'), at('never'), { dtype }))).toMatch(reason);
  }
  expect(await refusal(convertToReleased(at('q8'), at('never')))).toMatch(reason);
  expect(await refusal(exportOnnx(at('q8'), at('never.onnx'), { part: 'step' }))).toMatch(reason);
  expect(await refusal(convert(fashion, at('never'), { dtype: 'q2' as 'q4' }))).toMatch(
    /^invalid-argument: dtype is/,
  );
  expect(
    await refusal(convert({ tokenizer: path.join(fashion, 'tokenizer') }, at('never'), { dtype: 'q8' })),
  ).toMatch(/^unsupported: .*has none/);
});

test('a copy has the same bytes; inspect and verify tell of the bits', async () => {
  await convert(at('q4'), at('copy'));
  expect(readFileSync(at('copy/ar.safetensors')).equals(readFileSync(at('q4/ar.safetensors')))).toBe(true);
  const { stdout } = await cli(['inspect', at('q4'), '--json']);
  const { ar } = JSON.parse(stdout) as { ar: { dtypes: string[] } };
  expect([...ar.dtypes].sort()).toEqual(['f32', 'q4', 'q8']);
  expect((await verifyModel(at('q4'))).faults).toEqual([]);
});

/** A bundle of rows, and of blocks where one is uneven, with its header and bytes changed. */
function damaged(
  name: string,
  change: (file: { header: Record<string, Entry>; record: Record<string, unknown>; data: Buffer }) => void,
): string {
  cpSync(at('uneven-q8'), at(name), { recursive: true });
  const file = path.join(at(name), 'ar.safetensors');
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, Entry>;
  const data = Buffer.from(bytes.subarray(8 + length));
  const metadata = header.__metadata__ as unknown as Record<string, string>;
  const record = JSON.parse(metadata['detailflow.rounded']) as Record<string, unknown>;
  change({ header, record, data });
  metadata['detailflow.rounded'] =
    typeof record.text === 'string' ? (record.text as string) : JSON.stringify(record);
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  writeFileSync(file, Buffer.concat([size, padded, data]));
  return at(name);
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const MATRIX = 'layers.0.attention.wqkv.weight';
const [VALUES, SCALES] = [`${MATRIX}.q8`, `${MATRIX}.scales`];
const BLOCKS = 'layers.0.feed_forward.w2.weight';

test('a matrix whose rows have outliers is stored in blocks, of 16 weights where gated activations go in', async () => {
  const rounded = await logits(at('uneven'), 1, { device, dtype: 'q8' });
  expect(await logits(at('uneven-q8'), 1, { device })).toEqual(rounded);
  damaged('as-it-was', ({ record }) => {
    expect(record[MATRIX]).toEqual([8, 'row', 160]);
    expect(record[BLOCKS]).toEqual([8, 16, expect.any(Number)]);
  });
});

test.each<[string, Parameters<typeof damaged>[1], RegExp]>([
  [
    'no scales',
    ({ header }) => {
      header.renamed = header[SCALES];
      delete header[SCALES];
    },
    /^weights: .*ar\.safetensors.*wqkv\.weight\.scales.*is missing/,
  ],
  [
    'no levels',
    ({ header }) => {
      header.renamed = header[VALUES];
      delete header[VALUES];
    },
    /^weights: .*wqkv\.weight\.q8.*is missing/,
  ],
  [
    'levels of another shape',
    ({ header }) => header[VALUES].shape.reverse(),
    /^weights: .*ar\.safetensors.*wqkv\.weight.*is i8 \[480, 160\], must be i8 \[160, 480\]/,
  ],
  [
    'scales of another shape',
    ({ header }) => header[SCALES].shape.push(1),
    /^weights: .*wqkv\.weight\.scales.*is f32 \[480, 1\], must be f32 \[480\]/,
  ],
  [
    'levels of another type',
    ({ header }) => {
      header[VALUES].dtype = 'U8';
    },
    /^weights: .*wqkv\.weight\.q8.*is u8/,
  ],
  [
    'levels in blocks of another shape',
    ({ header }) => header[`${BLOCKS}.q8`].shape.reverse(),
    /^weights: .*w2\.weight\.q8.*is u8 \[16, .*\], must be u8 \[160, .*, 16\]/,
  ],
  [
    'scales of blocks of another shape',
    ({ header }) => header[`${BLOCKS}.scales`].shape.reverse(),
    /^weights: .*w2\.weight\.(scales|q8).*must be/,
  ],
  [
    'rows said to be blocks',
    ({ record }) => (record[MATRIX] = [8, 64, 160]),
    /^weights: .*wqkv\.weight\.q8.*is i8 \[160, 480\], must be u8 \[480, 3, 64\]/,
  ],
  [
    'blocks said to be rows',
    ({ record }) => (record[BLOCKS] = [8, 'row', (record[BLOCKS] as number[])[2]]),
    /^weights: .*w2\.weight\.q8.*is u8 .*must be i8/,
  ],
  [
    'rows of 4 bits',
    ({ record, header }) => {
      record[MATRIX] = [4, 'row', 160];
      header[`${MATRIX}.q4`] = header[VALUES];
      delete header[VALUES];
    },
    /^format: .*wqkv.*4 bits row by row/,
  ],
  [
    'a block that cannot be',
    ({ record }) => (record[MATRIX] = [8, 48, 160]),
    /^format: .*wqkv.*blocks of 48/,
  ],
  ['bits that cannot be', ({ record }) => (record[MATRIX] = [5, 64, 160]), /wqkv\.weight\.q5|5 bits/],
  ['more columns', ({ record }) => (record[MATRIX] = [8, 'row', 10_000]), /^weights: .*wqkv.*must be/],
  [
    'fewer columns',
    ({ record }) => (record[BLOCKS] = [8, 16, (record[BLOCKS] as number[])[2] - 5]),
    /^weights: .*w2\.weight is \[160, \d+\], must be \[160, \d+\]/,
  ],
  [
    'no numbers',
    ({ record }) => (record[MATRIX] = [8, 64, -1]),
    /^format: .*wqkv.*must be \[bits, block, columns\]/,
  ],
  ['a matrix that is not there', ({ record }) => (record.nothing = [8, 64, 160]), /^weights: .*nothing\.q8/],
  [
    'a record that is no JSON',
    ({ record }) => (record.text = '{'),
    /^format: .*detailflow\.rounded.*no JSON/,
  ],
  ['a record that is a list', ({ record }) => (record.text = '[]'), /^format: .*must be an object/],
  [
    'the matrix as it was beside it',
    ({ header }) => {
      header[MATRIX] = { dtype: 'F32', shape: [0], data_offsets: [0, 0] };
    },
    /^format: .*wqkv.*both rounded and as it was/,
  ],
])('refused: %s', async (name, change, reason) => {
  expect(await refusal(load(damaged(name.replace(/\W/g, '-'), change), { backend: device }))).toMatch(reason);
});

test.each([Number.NaN, Number.POSITIVE_INFINITY])(
  'a scale that is %s is told of before anything is drawn',
  async (value) => {
    const bundle = damaged(`scale-${value}`, ({ header, data }) => {
      data.writeFloatLE(value, header[SCALES].data_offsets[0] + 8);
    });
    const found = logits(bundle, 1, { device });
    expect(await refusal(found)).toMatch(
      /^weights: .*ar\.safetensors.*wqkv\.weight\.scales.*scale 2 is no finite number/,
    );
    expect((await verifyModel(bundle)).faults).toEqual([
      expect.stringContaining('scale 2 is no finite number'),
    ]);
  },
);

test('a truncated file is refused by its name', async () => {
  cpSync(at('q8'), at('short'), { recursive: true });
  const file = at('short/ar.safetensors');
  writeFileSync(file, readFileSync(file).subarray(0, -100));
  expect(await refusal(load(at('short'), { backend: device }))).toMatch(/^format: .*short\/ar\.safetensors/);
});

test('a weight that is no number is not rounded to one', async () => {
  const source = at('nan');
  await convert(fashion, source, {});
  const file = path.join(source, 'ar.safetensors');
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, Entry>;
  bytes.writeFloatLE(Number.NaN, 8 + length + header[MATRIX].data_offsets[0] + 12);
  writeFileSync(file, bytes);
  const reason = /^weights: .*wqkv\.weight.*weight 3 is NaN/;
  expect(await refusal(convert(source, at('never'), { dtype: 'q8' }))).toMatch(reason);
  expect(await refusal(logits(source, 1, { device, dtype: 'q4' }))).toMatch(reason);
  expect(readdirSync(folder)).not.toContain('never');
});
