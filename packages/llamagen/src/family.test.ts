import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  type ConfigObject,
  type FileTree,
  fileTree,
  oneFileTree,
  readTorchCheckpoint,
  stateDict,
} from '@detailflow/checkpoint';
import { openFolder, writeTorchCheckpoint } from '@detailflow/checkpoint/node';
import { bytesSource, type Weights } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { llamagenFamily, parFamily } from './family';

const fixtures = new URL('../../../tests/fixtures/golden/family/', import.meta.url);
const read = (name: string) => new Uint8Array(readFileSync(new URL(name, fixtures)));
const vqBytes = read('llamagen/vq/vq_ds4_P.pt');
const known = JSON.parse(new TextDecoder().decode(read('llamagen/gpt_c2i/config.json')));

/** A folder in memory: one file of weights, and the configuration beside it. */
function tree(name: string, bytes: Uint8Array, config?: ConfigObject): FileTree {
  const files = new Map([[name, bytesSource(bytes, `memory/${name}`)]]);
  if (config) files.set('config.json', bytesSource(new TextEncoder().encode(JSON.stringify(config))));
  return fileTree('memory', files);
}

const vq = tree('vq.pt', vqBytes, { image_size: 32 });

describe('every form of a checkpoint', () => {
  let folder: string;
  let weights: Weights;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'family-'));
    const bytes = read('llamagen/gpt_c2i/c2i_P.pt');
    weights = stateDict(await readTorchCheckpoint(bytesSource(bytes, 'c2i_P.pt')), 'model');
  });
  afterAll(() => rm(folder, { recursive: true }));

  test.each(['model', 'module', 'state_dict'])('{ %s }', async (key) => {
    const wrong = new Map([...weights].slice(0, 3));
    // "ema" is never used for drawing, and what lies beside the state dict does not matter.
    await writeTorchCheckpoint(path.join(folder, `${key}.pt`), { steps: 3, ema: wrong, [key]: weights });
    const ar = oneFileTree(await openFolder(folder), `${key}.pt`);
    const files = { tokenizer: vq, ar, settings: known };
    expect(await llamagenFamily.recognise(files)).toBe(true);
    expect(await parFamily.recognise(files)).toBe(false);
    const model = await llamagenFamily.open(files);
    expect(model.ar).toMatchObject({ tokens: 64, classes: 10, vocabularySize: 96 });
    expect(model.ar?.schedule).toEqual(Array(64).fill(1));
    await model.close();
  });

  test('the state dict itself', async () => {
    const ar = tree('consolidated.pth', read('llamagen/gpt_gqa/consolidated.pth'), {
      n_head: 4,
      block_size: 16,
    });
    const model = await llamagenFamily.open({ tokenizer: vq, ar });
    expect(model.ar).toMatchObject({ tokens: 16, config: { kvHeads: 2 } });
    // The transformer says which pictures are drawn, whatever the tokenizer was trained on.
    expect([model.pictureSize, model.tokenizer.tokens]).toEqual([16, 16]);
    await model.close();
  });
});

test('PAR draws regions in parallel', async () => {
  const ar = tree(
    'PAR-P-16x.pt',
    read('par/g16/PAR-P-16x.pt'),
    JSON.parse(new TextDecoder().decode(read('par/g16/config.json'))),
  );
  const files = { tokenizer: vq, ar };
  expect([await llamagenFamily.recognise(files), await parFamily.recognise(files)]).toEqual([false, true]);
  const model = await parFamily.open(files);
  expect(model.ar?.schedule).toEqual([...Array(16).fill(1), 16, 16, 16]);
  const backend = createReferenceBackend();
  const tokenizer = model.createTokenizer({ backend });
  const tokenModel = model.createTokenModel?.({ backend, tokenizer });
  expect(tokenModel).toMatchObject({ tokens: 64, sampling: { cfg: 1.5 } });
  expect(model.intervalGuidance?.(3)({ index: 20, steps: 19, position: 20, count: 16 }, 4)).toBe(1);
  await model.close();
});

describe('questions and contradictions', () => {
  const gpt = read('llamagen/gpt_c2i/c2i_P.pt');
  const ask = (settings: ConfigObject, name = 'c2i_P.pt') =>
    llamagenFamily.open({ tokenizer: vq, ar: tree(name, gpt), settings });

  test.each<[string, ConfigObject, RegExp]>([
    ['heads', { tokens: 64 }, /setting "heads"/],
    ['another square of pixels', { heads: 2, image_size: 128, downsample_size: 16 }, /16 x 16 pixels.*4 x 4/],
    ['no square grid', { heads: 2, tokens: 60 }, /square grid/],
    ['layers of another model', { heads: 2, tokens: 64, n_layer: 24 }, /n_layer.*24/],
    ['classes of another model', { heads: 2, tokens: 64, num_classes: 1000 }, /num_classes.*1000/],
    ['codes of another model', { heads: 2, tokens: 64, vocab_size: 16384 }, /vocab_size.*16384/],
  ])('%s', async (_, settings, message) => {
    await expect(ask(settings)).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(message),
      file: expect.stringContaining('c2i_P.pt'),
    });
  });

  test('the grid in the name of a released file is that of codes of 16 x 16 pixels: both files are named', async () => {
    const bare = read('llamagen/gpt_gqa/consolidated.pth'); // nothing in it says the grid
    const open = (settings: ConfigObject, name: string) =>
      llamagenFamily.open({ tokenizer: vq, ar: tree(name, bare), settings });
    for (const name of ['c2i_B_256.pt', 'PAR-L-4x.pt']) {
      await expect(open({ heads: 4 }, name)).rejects.toMatchObject({
        code: 'config',
        message: expect.stringMatching(
          /16 x 16 pixels, those of .*vq\.pt are 4 x 4.*"imageSize" or "tokens"/,
        ),
        file: expect.stringContaining(name),
      });
    }
    const model = await open({ heads: 4, tokens: 16 }, 'c2i_B_256.pt');
    expect(model).toMatchObject({ pictureSize: 16, ar: { tokens: 16 } });
    await model.close();
    const text = tree('t2i_XL_stage1_256.pt', read('llamagen/gpt_t2i/t2i_P.pt'));
    await expect(
      llamagenFamily.open({ tokenizer: vq, ar: text, settings: { heads: 2 } }),
    ).rejects.toMatchObject({ message: expect.stringMatching(/t2i_XL_stage1_256\.pt.*vq\.pt are 4 x 4/) });
  });

  test('settings of the user go before those beside the file and in it', async () => {
    const ar = tree('gpt.pt', gpt, { n_head: 2, block_size: 16 });
    const model = await llamagenFamily.open({ tokenizer: vq, ar, settings: { imageSize: 32 } });
    expect(model.ar?.tokens).toBe(64);
    await model.close();
  });

  test('a model for texts says what it takes', async () => {
    const settings = JSON.parse(new TextDecoder().decode(read('llamagen/gpt_t2i/config.json')));
    const ar = tree('t2i.pt', read('llamagen/gpt_t2i/t2i_P.pt'), settings);
    const model = await llamagenFamily.open({ tokenizer: vq, ar });
    expect(model.ar).toMatchObject({ classes: 0, tokens: 16, text: { places: 6, width: 20 } });
    expect(model.generatorGraphs).toBeUndefined();
    await model.close();
    await expect(
      llamagenFamily.open({ tokenizer: vq, ar, settings: { caption_dim: 2048 } }),
    ).rejects.toMatchObject({ code: 'config', message: expect.stringMatching(/caption_dim.*2048/) });
  });
});

test("a tokenizer alone is LlamaGen's unless something says FlexVAR", async () => {
  expect(await llamagenFamily.recognise({ model: vq })).toBe(true);
  expect(await parFamily.recognise({ model: vq })).toBe(false);
  for (const [name, config] of [['FlexVAE.pt'], ['vq.pt', { system: 'flexvar' }]] as [
    string,
    ConfigObject?,
  ][]) {
    expect(await llamagenFamily.recognise({ model: tree(name, vqBytes, config) })).toBe(false);
  }
  const model = await llamagenFamily.open({ model: vq });
  expect(model).toMatchObject({ family: 'LlamaGen', pictureSize: 32 });
  expect(model.ar).toBeUndefined();
  await model.close();
});
