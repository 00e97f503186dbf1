import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { siglipTowerParameters, siglipVisionParameters } from '@detailflow/blocks';
import { weightFromArray } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { tokenizerParameters } from '@detailflow/tokenizer';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { numbers } from '../../../../tests/numbers-by-formula';
import { siglipFolder, smallSiglip } from '../../../../tests/siglip-folder';
import { initialTokenizer } from '../initialise';
import { TokenizerTrainer } from '../tokenizer-trainer';
import { parseTrainingConfig } from '../training-config';
import { pretrainedTowers } from './pretrained-towers';
import { startingTokenizer } from './starting-parameters';

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'pretrained-'));
});
afterAll(() => rm(home, { recursive: true }));

/** The encoder takes two of the tower's three layers, the decoder, whose patches are larger, all. */
const sizes = { encoder: { layers: 2, patchSize: 4 }, decoder: { layers: 3, patchSize: 8 } };
const settings = (over: Record<string, object> = {}) =>
  parseTrainingConfig({
    preset: 'tiny-32',
    tokenizer: {
      model: {
        ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32, codebookDim: 4 },
        encoder: { ...smallSiglip, ...sizes.encoder, ...over.encoder },
        decoder: { ...smallSiglip, ...sizes.decoder, ...over.decoder },
      },
      pretrained: { encoder: true, decoder: true },
    },
    tokenModel: { model: { dim: 8, heads: 2 } },
  }).tokenizer;
const count = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const both = { encoder: true, decoder: true };

/** What must be copied: names of a tokenizer with the values of the folder. */
function expected(which: { encoder: boolean; decoder: boolean }, hasPatches = true) {
  const encoder = { ...smallSiglip, ...sizes.encoder };
  const decoder = { ...smallSiglip, ...sizes.decoder };
  const specs = {
    encoder: hasPatches
      ? siglipVisionParameters('vision_model', encoder)
      : siglipTowerParameters('vision_model', encoder),
    decoder: siglipTowerParameters('vision_model', decoder),
  };
  return new Map(
    (['encoder', 'decoder'] as const)
      .filter((name) => which[name])
      .flatMap((name) =>
        specs[name].map((spec) => [
          spec.name.replace('vision_model', `${name}.visual_model`),
          numbers(spec.name, count(spec.shape)),
        ]),
      ) as [string, Float32Array][],
  );
}

describe('towers that begin with those of SigLIP2', () => {
  test.each([false, true])(
    'every weight, value by value; patches as a convolution: %s',
    async (isConvolution) => {
      const place = await siglipFolder(path.join(home, `values-${isConvolution}`), { isConvolution });
      const { model } = settings();
      for (const which of [both, { encoder: true, decoder: false }, { encoder: false, decoder: true }]) {
        const found = await pretrainedTowers(place, model, which);
        const wanted = expected(which);
        expect([...found.keys()].sort()).toEqual([...wanted.keys()].sort());
        for (const [name, values] of wanted) expect(found.get(name), name).toEqual(values);
      }
      expect((await pretrainedTowers(place, model, { encoder: false, decoder: false })).size).toBe(0);
    },
  );

  test('patches of another size are drawn, as is all else', async () => {
    const place = await siglipFolder(path.join(home, 'patches'));
    const section = settings({ encoder: { patchSize: 8 } });
    const notices: string[] = [];
    const parameters = await startingTokenizer(section, [], {
      ...{ lossNetworks: { siglip: place }, onNotice: (message) => notices.push(message) },
    });
    const trainer = await TokenizerTrainer.create({
      ...{ config: section.model, recipe: section.recipe, backends: [createReferenceBackend()], seed: 11 },
      parameters,
    });
    const found = await trainer.parameters();
    await trainer.dispose();
    const specs = tokenizerParameters(section.model);
    const drawn = initialTokenizer({ specs, seed: 11 });
    const copied = expected(both, false);
    expect(copied.has('encoder.visual_model.embeddings.patch_embedding.weight')).toBe(false);
    expect([...copied.keys()].every((name) => drawn.has(name))).toBe(true);
    for (const { name } of specs) expect(found.get(name), name).toEqual(copied.get(name) ?? drawn.get(name));
    expect(notices).toEqual([]);
  });

  test.each([
    ['encoder', 'width', { width: 12 }, '12', '8'],
    ['decoder', 'heads', { heads: 4 }, '4', '2'],
    ['encoder', 'mlpWidth', { mlpWidth: 16 }, '16', '12'],
    ['decoder', 'positionGrid', { positionGrid: 3 }, '3', '2'],
  ] as const)('another %s.%s names both', async (tower, size, over, own, theirs) => {
    const place = await siglipFolder(path.join(home, `wrong-${size}`));
    const { model } = settings({ [tower]: over });
    await expect(pretrainedTowers(place, model, both)).rejects.toMatchObject({
      ...{ code: 'config', file: place, entry: `tokenizer.model.${tower}.${size}` },
      message: expect.stringMatching(new RegExp(`\\b${own}\\b.*\\b${theirs}\\b`)),
    });
  });

  test('more layers than there are, a weight that is missing, a folder that is none', async () => {
    const place = await siglipFolder(path.join(home, 'shallow'), { sizes: { layers: 2 } });
    await expect(pretrainedTowers(place, settings().model, both)).rejects.toThrow(
      /has 2 layers, 3 are asked for/,
    );
    const name = 'vision_model.encoder.layers.1.mlp.fc2.bias';
    const torn = await siglipFolder(path.join(home, 'torn'), { without: [name] });
    await expect(pretrainedTowers(torn, settings().model, both)).rejects.toMatchObject({
      ...{ code: 'weights', entry: name, message: expect.stringContaining('is missing') },
    });
    await expect(pretrainedTowers(home, settings().model, both)).rejects.toMatchObject({
      code: expect.stringMatching(/^(io|format|weights)$/),
    });
    await expect(startingTokenizer(settings(), [], {})).rejects.toMatchObject({
      ...{ code: 'config', entry: 'tokenizer.pretrained' },
    });
  });

  test('a tokenizer to begin with comes first, and that is said', async () => {
    const section = settings();
    const specs = tokenizerParameters(section.model);
    const drawn = initialTokenizer({ specs, seed: 3 });
    const weights = new Map(
      specs.map(({ name, shape }) => [name, weightFromArray(name, shape, drawn.get(name) as Float32Array)]),
    );
    const notices: string[] = [];
    const found = await startingTokenizer(section, [], {
      initial: { tokenizer: { weights, file: 'start.pt' } },
      onNotice: (message) => notices.push(message),
    });
    for (const [name, values] of drawn) expect(found?.get(name), name).toEqual(values);
    expect(notices).toEqual([
      'start.pt: training begins with this tokenizer, so tokenizer.pretrained changes nothing',
    ]);
  });
});
