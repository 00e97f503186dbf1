import { readFileSync } from 'node:fs';
import { type ConfigObject, type FileTree, fileTree } from '@detailflow/checkpoint';
import { bytesSource, DetailFlowError, Tensor, type TokenModel } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { generate } from '@detailflow/sampler';
import { parseScales, type ScaleTokenizer } from '@detailflow/var';
import { openFamilyModel } from 'detailflow';
import { describe, expect, test } from 'vitest';

const fixtures = new URL('./fixtures/golden/', import.meta.url);
const read = (name: string) => new Uint8Array(readFileSync(new URL(name, fixtures)));
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** A folder in memory, by names of files and their bytes. */
const treeOf = (name: string, files: Readonly<Record<string, Uint8Array>>): FileTree =>
  fileTree(
    name,
    new Map(Object.entries(files).map(([path, bytes]) => [path, bytesSource(bytes, `${name}/${path}`)])),
  );

/** One half of a model: the name of its file, its bytes, and what stands beside it. */
interface Half {
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly config?: ConfigObject;
}

const configOf = (folder: string): ConfigObject =>
  JSON.parse(new TextDecoder().decode(read(`${folder}/config.json`)));
const half = (folder: string, name: string): Half => ({
  file: name,
  bytes: read(`${folder}/${name}`),
  config: configOf(folder),
});

const vq = half('family/llamagen/vq', 'vq_ds4_P.pt');
const pairs: Readonly<Record<string, { readonly tokenizer: Half; readonly ar: Half }>> = {
  LlamaGen: { tokenizer: vq, ar: half('family/llamagen/gpt_c2i', 'c2i_P.pt') },
  'LlamaGen of texts': { tokenizer: vq, ar: half('family/llamagen/gpt_t2i', 't2i_P.pt') },
  PAR: { tokenizer: vq, ar: half('family/par/g4', 'PAR-P-4x.pt') },
  VAR: {
    tokenizer: half('family/var', 'vae_ch32v80z8.pth'),
    ar: half('family/var', 'var_d2.pth'),
  },
  FlexVAR: {
    tokenizer: half('family/flexvar', 'FlexVAE.pth'),
    ar: half('family/flexvar', 'FlexVARd3-epo7.pth'),
  },
};

const tree = (where: string, { file, bytes, config }: Half): FileTree =>
  treeOf(where, { [file]: bytes, ...(config && { 'config.json': json(config) }) });

const open = (tokenizer: Half, ar: Half) =>
  openFamilyModel({ tokenizer: tree('one', tokenizer), ar: tree('two', ar) });

/** The error of an opening, which is ours and names all of `parts`. */
async function refused(opening: Promise<unknown>, ...parts: readonly string[]): Promise<void> {
  const error = await opening.then(
    () => undefined,
    (found) => found,
  );
  expect(DetailFlowError.isInstance(error), String(error)).toBe(true);
  for (const part of parts) expect((error as Error).message).toContain(part);
}

/** What somebody may hand in as a file of weights. */
const damages: Readonly<Record<string, (bytes: Uint8Array) => Uint8Array>> = {
  'cut in the middle': (bytes) => bytes.subarray(0, bytes.length >> 1),
  'cut by its last bytes': (bytes) => bytes.subarray(0, bytes.length - 30),
  empty: () => new Uint8Array(0),
  'of zeros': (bytes) => new Uint8Array(bytes.length),
  'a page of the web': () => new TextEncoder().encode('<!doctype html><title>Sign in</title>'),
  'a pickle that would run a command': () =>
    Buffer.from('\x80\x02cos\nsystem\nX\x04\x00\x00\x00echo\x85R.', 'latin1'),
};

describe.each(Object.entries(pairs))('%s', (name, { tokenizer, ar }) => {
  test('is whole before it is damaged', async () => {
    const model = await open(tokenizer, ar);
    expect(name.startsWith(model.family)).toBe(true);
    await model.close();
  });

  test.each(Object.entries(damages))('a file %s is named, whichever half it is', async (_, damage) => {
    await refused(open({ ...tokenizer, bytes: damage(tokenizer.bytes) }, ar), tokenizer.file);
    await refused(open(tokenizer, { ...ar, bytes: damage(ar.bytes) }), ar.file);
  });

  test('swapped halves: both are named', () => refused(open(ar, tokenizer), ar.file, tokenizer.file));

  test('twice the same half: it is named', async () => {
    await refused(open(tokenizer, tokenizer), tokenizer.file);
    await refused(open(ar, ar), ar.file);
  });

  test.each(Object.entries(pairs).filter(([other]) => other !== name))(
    'its tokenizer with the transformer of %s: both are named',
    async (_, other) => {
      if (other.tokenizer === tokenizer) return; // LlamaGen's and PAR's are the same
      const opening = open(tokenizer, other.ar);
      await refused(opening, tokenizer.file, other.ar.file);
    },
  );
});

test('scales that do not fit name the transformer, and what they are', async () => {
  const { tokenizer, ar } = pairs.VAR;
  const files = { tokenizer: tree('one', tokenizer), ar: tree('two', ar) };
  for (const scales of [[1, 2, 3], [], 'many', [[1, 2, 3]], [0], [1, 4, 7], [{ rows: 1 }]]) {
    await refused(openFamilyModel(files, { settings: { scales } }));
  }
  await refused(
    openFamilyModel(files, { settings: { scales: [1, 2, 3] } }),
    ...[ar.file, tokenizer.file, '66', '14'],
  );
});

test('VAR: no scale is larger than the last one, though the places be as many', async () => {
  const { tokenizer, ar } = pairs.VAR;
  const files = { tokenizer: tree('one', tokenizer), ar: tree('two', ar) };
  for (const scales of [
    [1, 2, 3, 6, 4],
    [6, 4, 3, 2, 1],
    [1, 2, 3, [2, 8], 6],
    [1, 2, 3, [8, 2], 6],
  ]) {
    await refused(openFamilyModel(files, { settings: { scales } }), tokenizer.file, 'the last one');
    await refused(openFamilyModel(files.tokenizer, { settings: { scales } }), tokenizer.file, 'the last one');
  }
  const open = await openFamilyModel(files.tokenizer, { settings: { scales: [1, 2, 4] } });
  const backend = createReferenceBackend();
  const made = open.createTokenizer({ backend }) as ScaleTokenizer;
  expect(() => made.withScales(parseScales([1, 4, 2]))).toThrow(/the last one/);
  await open.close();
});

describe('FlexVAR', () => {
  const { tokenizer, ar } = pairs.FlexVAR;
  const files = { tokenizer: tree('one', tokenizer), ar: tree('two', ar) };
  const backend = createReferenceBackend();

  test('draws along a list whose last scale is smaller, and does not encode along it', async () => {
    const model = await openFamilyModel(files, { settings: { scales: [1, 3, 2] } });
    const made = model.createTokenizer({ backend });
    const tokenModel = model.createTokenModel?.({ backend, tokenizer: made }) as TokenModel;
    let dims: readonly number[] = [];
    for await (const step of generate({ model: tokenModel, tokenizer: made, labels: [1] })) {
      if (step.count === step.total) dims = (await step.pixels()).dims;
    }
    expect(dims).toEqual([1, 3, 8, 8]);
    await refused(made.encode(new Tensor('float32', new Float32Array(3 * 64), [1, 3, 8, 8])), 'the last one');
    await model.close();
  });

  test('says at once which scale takes too much memory', async () => {
    const model = await openFamilyModel(files, { settings: { scales: [1, 2, 3, 100] } });
    const made = model.createTokenizer({ backend });
    const tokenModel = model.createTokenModel?.({ backend, tokenizer: made }) as TokenModel;
    await refused(tokenModel.begin([1]), ar.file, '100 x 100', '10014', 'GiB', 'smaller scale');
    await model.close();
  });
});
