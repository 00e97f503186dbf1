import { readdirSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { type ConfigObject, openStateDicts } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import {
  type Backend,
  type Condition,
  readFloat32,
  Tensor,
  type TextCondition,
  type Weight,
  type Weights,
} from '@detailflow/core';
import { convert, convertToReleased, load, type ModelSource, openFamilyModel } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { golden } from './golden';

const fixtures = (name: string) => path.join(import.meta.dirname, 'fixtures/golden', name);
const family = (name: string) => fixtures(`family/${name}`);

/** A model, as its family released it, and the state dicts of its files. */
interface Case {
  readonly family: string;
  readonly source: ModelSource;
  readonly settings?: ConfigObject;
  /** File and place of each state dict that the released layout must have again, by the end of its path there. */
  readonly official: Readonly<Record<string, readonly [file: string, place: string[], written: string[]]>>;
  readonly condition?: Condition;
}

const t2i = golden('family/llamagen/golden_t2i.safetensors');
function text(): TextCondition {
  const [, places, width] = t2i.cond.shape;
  const rows = (t2i.cond.data as Float32Array).slice(0, places * width);
  const mask = Uint8Array.from(Array.from(t2i.cond_mask.data, Number).slice(0, places));
  return {
    features: new Tensor('float32', rows, [places, width]),
    mask: new Tensor('bool', mask, [places]),
  };
}

const vq = family('llamagen/vq/vq_ds4_P.pt');
const gpt = (of: string, ar: string, written: string, place = 'model'): Case => ({
  family: of,
  source: { tokenizer: family('llamagen/vq'), ar: family(path.dirname(ar)) },
  official: {
    [written.startsWith('t2i') ? 'vq_ds4_t2i.pt' : 'vq_ds4_c2i.pt']: [vq, ['model'], ['model']],
    [written]: [family(ar), place === '' ? [] : [place], ['model']],
  },
});

const cases: Readonly<Record<string, Case>> = {
  'LlamaGen, classes': gpt('LlamaGen', 'llamagen/gpt_c2i/c2i_P.pt', 'c2i_2x40_32.pt'),
  'LlamaGen, fewer key heads': gpt('LlamaGen', 'llamagen/gpt_gqa/consolidated.pth', 'c2i_1x32_16.pt', ''),
  'LlamaGen, texts': {
    ...gpt('LlamaGen', 'llamagen/gpt_t2i/t2i_P.pt', 't2i_2x32_16.pt', 'module'),
    condition: text(),
  },
  'PAR, four regions': gpt('PAR', 'par/g4/PAR-P-4x.pt', 'PAR-2x48-4x.pt'),
  'PAR, sixteen regions': gpt('PAR', 'par/g16/PAR-P-16x.pt', 'PAR-2x24-16x.pt'),
  VAR: {
    family: 'VAR',
    source: family('var'),
    official: {
      'vae_ch32v80z8.pth': [family('var/vae_ch32v80z8.pth'), [], []],
      'var_d2.pth': [family('var/var_d2.pth'), [], []],
    },
  },
  FlexVAR: {
    family: 'FlexVAR',
    source: family('flexvar'),
    settings: { scales: [1, [2, 3], [3, 4], [4, 6]], max_pn: 3, invalid_ids: [4] },
    official: {
      'FlexVAE.pth': [family('flexvar/FlexVAE.pth'), ['model'], ['model']],
      'FlexVARd3.pth': [family('flexvar/FlexVARd3-epo7.pth'), ['trainer', 'var_wo_ddp'], []],
    },
  },
  ...Object.fromEntries(
    ['softvq', 'vq', 'ae'].map((kind) => [
      `SoftVQ, ${kind}`,
      {
        family: 'SoftVQ',
        source: family(`softvq/${kind}`),
        official: {
          'model.safetensors': [family(`softvq/${kind}/model.safetensors`), [], []],
        },
      } satisfies Case,
    ]),
  ),
  'SoftVQ, kl, of a training run': { family: 'SoftVQ', source: family('softvq/kl'), official: {} },
  DetailFlow: { family: 'DetailFlow', source: fixtures('A'), official: {} },
};

let folder: string;
let backend: Backend;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'family-bundles-'));
  backend = await createNodeBackend({ threads: 1 });
});
afterAll(async () => {
  await backend.close();
  await rm(folder, { recursive: true });
});

/** Of one model: what it draws, restores and encodes, as plain numbers. */
async function behaviour(source: ModelSource, condition: Condition, settings?: ConfigObject) {
  const opened = await openFamilyModel(source, { settings });
  const side = opened.tokenizer.imageSize;
  const { scales } = opened.tokenizer.config as { scales?: { rows: number; columns: number }[] };
  const last = scales?.[scales.length - 1];
  const width = last ? (side / last.rows) * last.columns : side;
  const images = new Tensor(
    'float32',
    Float32Array.from({ length: 3 * side * width }, (_, i) => Math.sin(i / 7)),
    [1, 3, side, width],
  );
  if (opened.tokenizer.previews === 'none' || !opened.ar) {
    const latents = await opened.createLatentTokenizer?.({ backend }).encodeLatents(images);
    await opened.close();
    return { latents: Array.from(latents?.data ?? []) };
  }
  await opened.close();
  const model = await load(source, { backend, settings });
  let tokens: Tensor<'int32'> | undefined;
  for await (const step of model.generate({ labels: [condition], seed: 3 })) tokens = await step.tokens();
  const codes = await model.encode(images);
  const pixels = await model.decode(tokens as Tensor<'int32'>);
  await model.dispose();
  return {
    tokens: Array.from((tokens as Tensor<'int32'>).data),
    codes: Array.from(codes.data),
    pixels: Array.from(pixels.data),
    cfg: model.cfg,
  };
}

async function stateDictIn(file: string, place: readonly string[]) {
  const tree = await openFolder(path.dirname(file));
  const dicts = await openStateDicts(tree, path.basename(file));
  return { weights: dicts.at(place) as Weights, close: dicts.close };
}

/** Buffers that hold statistics of the training, which are forgotten, and what training alone uses. */
const forgotten = /codebook_used$|ema_vocab_hit_SV$/;
/** What a released file may lack or have besides, since nobody uses it. */
const unused =
  /codebook_used|freqs_t_|mask_token|decoder\.model\.patch_embed|repa_model|projection\.|freqs_cis/;

describe.each(Object.entries(cases))('%s', (name, one) => {
  const at = (what: string) => path.join(folder, `${name.replaceAll(/\W+/g, '-')}-${what}`);
  const condition = one.condition ?? 1;

  test('to a bundle, which holds everything, and draws the same', async () => {
    const card = await convert(one.source, at('bundle'), { settings: one.settings, license: 'MIT' });
    expect(card.family).toBe(one.family === 'DetailFlow' ? undefined : one.family);
    const opened = await openFamilyModel(at('bundle'));
    expect(opened).toMatchObject({ family: one.family, card: { license: 'MIT' } });
    await opened.close();
    expect(await behaviour(at('bundle'), condition)).toEqual(
      await behaviour(one.source, condition, one.settings),
    );
  });

  test('and back to the files of its family', async () => {
    const files = await convertToReleased(at('bundle'), at('files'));
    expect(readdirSync(at('files'), { recursive: true })).toEqual(expect.arrayContaining(files));
    expect(files).toEqual(expect.arrayContaining(Object.keys(one.official)));
    expect(await behaviour(at('files'), condition)).toEqual(
      await behaviour(one.source, condition, one.settings),
    );
    for (const [written, [file, place, writtenPlace]] of Object.entries(one.official)) {
      const official = await stateDictIn(file, place);
      const ours = await stateDictIn(path.join(at('files'), written), writtenPlace);
      const isPlain = written.endsWith('.safetensors');
      const names = (weights: Weights) =>
        [...weights.keys()].filter((key) => !(isPlain || key === 'freqs_cis') || !unused.test(key)).sort();
      expect(names(ours.weights)).toEqual(names(official.weights));
      for (const key of names(official.weights)) {
        const [a, b] = [official.weights.get(key), ours.weights.get(key)];
        // FlexVAR's mask belongs to the list of the training, and is made again for the one at hand.
        if (one.family === 'FlexVAR' && key === 'attn_bias_for_masking') continue;
        expect(b?.shape, key).toEqual(a?.shape);
        if (forgotten.test(key)) continue;
        // The bundle has widened what was stored in 16 bits.
        const [known, found] = [await readFloat32(a as Weight), await readFloat32(b as Weight)];
        expect(Buffer.compare(Buffer.from(known.buffer), Buffer.from(found.buffer)), key).toBe(0);
        if (a?.dtype === 'i64') expect(b?.dtype, key).toBe('i64');
      }
      await Promise.all([official.close(), ours.close()]);
    }
  });

  test('nothing is left behind where something lies already', async () => {
    await expect(convertToReleased(at('bundle'), at('files'))).rejects.toMatchObject({
      code: 'io',
      file: at('files'),
    });
    expect(readdirSync(folder).filter((entry) => entry.startsWith('.'))).toEqual([]);
  });
});

describe('what is wrong with a bundle', () => {
  const bundle = (name: string) => path.join(folder, `${name}-bundle`);
  const changed = async (from: string, change: (card: never) => void) => {
    const target = await mkdtemp(path.join(folder, 'changed-'));
    await cp(bundle(from), target, { recursive: true });
    const card = JSON.parse(await readFile(path.join(target, 'config.json'), 'utf8'));
    change(card as never);
    await writeFile(path.join(target, 'config.json'), JSON.stringify(card));
    return target;
  };

  type Card = { family: string; tokenizer: { config: never }; ar: { config: never } };
  test.each<[string, string, (card: Card) => void, RegExp]>([
    ['a family that nobody knows', 'VAR', (card) => Object.assign(card, { family: 'XAR' }), /"XAR".*VAR/],
    [
      'the card of another family',
      'VAR',
      (card) => Object.assign(card, { family: 'LlamaGen' }),
      /ar\.safetensors: tok_embeddings/,
    ],
    [
      'a size of another model',
      'PAR-four-regions',
      (card) => Object.assign(card.ar.config, { hiddenDim: 64 }),
      /config\.json: ar\.config\.hiddenDim: is 64, of the weights beside it 128/,
    ],
    [
      'a size of another model, deep inside',
      'VAR',
      (card) => Object.assign((card.tokenizer.config as { encoder: object }).encoder, { blocks: 2 }),
      /tokenizer\.config\.encoder\.blocks/,
    ],
    [
      'scales that do not fit',
      'VAR',
      (card) => Object.assign(card.ar.config, { scales: [{ rows: 1, columns: 1 }] }),
      /ar\.safetensors.*66 places/,
    ],
    [
      'no grid',
      'LlamaGen-classes',
      (card) => Object.assign(card.ar.config, { tokens: undefined }),
      /ar\.safetensors.*imageSize/,
    ],
  ])('%s', async (_, from, change, message) => {
    const target = await changed(from, change as (card: never) => void);
    await expect(openFamilyModel(target)).rejects.toThrow(message);
    await expect(openFamilyModel(target)).rejects.toMatchObject({ name: 'DetailFlowError' });
  });

  test('halves that were swapped', async () => {
    const target = await changed('VAR', () => {});
    await cp(path.join(bundle('VAR'), 'ar.safetensors'), path.join(target, 'tokenizer.safetensors'));
    await expect(openFamilyModel(target)).rejects.toThrow(/tokenizer\.safetensors/);
  });
});
