import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FileTree } from '@detailflow/checkpoint';
import { openFolder, writeBundle } from '@detailflow/checkpoint/node';
import { type ErrorCode, Tensor, type Weight } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { type CodeTokenizer, type SoftVqTokenizer, softvqFamily } from '@detailflow/softvq';
import { afterAll, describe, expect, test } from 'vitest';
import { refused } from './refused';
import {
  json,
  numbersOf,
  oddTokenizers,
  releasedFiles,
  safetensors,
  treeOf,
  weightsOf,
} from './softvq-models';

const golden = fileURLToPath(new URL('./fixtures/golden/', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-softvq-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const open = async (model: FileTree, settings?: Record<string, unknown>) =>
  (await softvqFamily.open({ model, settings })).close();
const name = 'four-codebooks';
const one = oddTokenizers[name];

/** The files of a configuration with arguments changed. */
const withArgs = async (of: string, args: Record<string, unknown>): Promise<FileTree> =>
  treeOf(of, {
    ...(await releasedFiles(oddTokenizers[of])),
    'config.json': json({ ...oddTokenizers[of].args, ...args }),
  });

/** The files of a configuration with weights changed. */
const withWeights = async (of: string, change: (weights: Weight[]) => Weight[]): Promise<FileTree> =>
  treeOf(of, {
    ...(await releasedFiles(oddTokenizers[of])),
    'model.safetensors': await safetensors(change(weightsOf(oddTokenizers[of]))),
  });

describe('arguments', () => {
  const cases: [string, Record<string, unknown>, ErrorCode, RegExp][] = [
    [name, { encoder_model: 'vit_base_patch16_clip_224.openai' }, 'unsupported', /encoder_model.*dinov2/s],
    [name, { decoder_model: 'vit_base_patch14_dinov2_movqv2' }, 'unsupported', /decoder_model/],
    [name, { encoder_model: undefined }, 'config', /encoder_model.*missing/s],
    [name, { enc_type: 'cnn' }, 'unsupported', /enc_type/],
    [name, { to_pixel: 'siren' }, 'unsupported', /to_pixel/],
    [name, { use_rope: true }, 'unsupported', /rope_mixed.*axial/s],
    [name, { use_rope: true, rope_mixed: true }, 'weights', /missing.*encoder\.freqs/],
    [name, { use_ape: false }, 'unsupported', /use_ape/],
    [name, { use_ape: 'yes' }, 'config', /use_ape/],
    [name, { tau: null }, 'config', /tau/],
    [name, { tau: 0 }, 'config', /tau/],
    [name, { vq_std: 0 }, 'config', /vq_std/],
    [name, { image_size: 20 }, 'config', /20 pixels do not consist/],
    [name, { image_size: 36 }, 'config', /pos_embed.*positions for 5 places/],
    [name, { image_size: 1e9 }, 'config', /image_size/],
    [name, { enc_patch_size: 0 }, 'config', /enc_patch_size/],
    [name, { enc_patch_size: 6 }, 'config', /positions for 5 places/],
    [name, { num_latent_tokens: 32 }, 'config', /num_latent_tokens.*is 32.*have 16/],
    [name, { codebook_embed_dim: 8 }, 'config', /codebook_embed_dim/],
    [name, { num_codebooks: 2 }, 'config', /num_codebooks/],
    [name, { codebook_size: 7 }, 'config', /codebook_size/],
    [name, { dec_cls_token: false }, 'weights', /cls_token.*dec_cls_token is false/],
    [name, { vq_model: 'KL-16' }, 'config', /vq_model.*kind "soft"/],
    ['registers-without-class', { dec_cls_token: true }, 'weights', /decoder\.model\.cls_token/],
  ];
  test.each(cases)('%s with %j', async (of, args, code, message) => {
    const tree = await withArgs(of, args);
    await refused(() => open(tree), code, message);
  });

  test('sizes that are not those of the name must be given, and must be those of the weights', async () => {
    const files = await releasedFiles(one);
    const { 'timm_vit.json': _, ...without } = files;
    await refused(() => open(treeOf('x', without)), 'config', /width is 12.*says 768.*timm_vit\.json/);
    for (const [change, message] of [
      [{ num_heads: 5 }, /12 cannot be divided into 5 heads/],
      [{ num_heads: 0 }, /num_heads/],
      [{ num_heads: 1, depth: 2 }, /layers are 1.*says 2/],
      [{ num_heads: 1, reg_tokens: 4 }, /registers are 0.*says 4/],
      [{ num_heads: 1, embed_dim: 24 }, /width is 12.*says 24/],
    ] as const) {
      const sizes = json({ ...one.sizes, encoder: change });
      await refused(() => open(treeOf('x', { ...files, 'timm_vit.json': sizes })), 'config', message);
    }
    await open(treeOf('x', without), { ...one.sizes });
  });

  test('a tokenizer without a class token, registers or rotary positions has no positions that fit', async () => {
    const files = await releasedFiles(one);
    const weights = weightsOf(one).filter((weight) => weight.name !== 'decoder.model.cls_token');
    const tree = treeOf('x', {
      ...files,
      'config.json': json({ ...one.args, dec_cls_token: false }),
      'model.safetensors': await safetensors(weights),
    });
    await refused(() => open(tree), 'unsupported', /decoder.*class token/);
  });
});

test.each([
  ['softvq', /softvq has continuous latents/],
  ['vq', /vq has codes of SoftVQ, for which there is no autoregressive model/],
])('%s with a transformer: why there is none', async (kind, message) => {
  const tokenizer = await openFolder(path.join(golden, 'family/softvq', kind));
  const ar = treeOf('gpt', {});
  await refused(() => softvqFamily.open({ tokenizer, ar }), 'unsupported', message);
});

describe('weights', () => {
  test('a weight that is missing, strange or of another shape is named', async () => {
    const gamma = 'decoder.model.blocks.0.ls2.gamma';
    const reshaped = (weights: Weight[], which: string, shape: number[]) =>
      weights.map((weight) =>
        weight.name === which
          ? { ...weight, shape, read: async () => new Uint8Array(4 * shape.reduce((a, b) => a * b, 1)) }
          : weight,
      );
    const changes: [(weights: Weight[]) => Weight[], RegExp, ErrorCode?][] = [
      [(all) => all.filter((weight) => weight.name !== gamma), /1 missing.*ls2\.gamma/],
      [(all) => all.filter((weight) => !weight.name.startsWith('quant_conv')), /quant_conv/],
      [(all) => all.filter((weight) => !weight.name.startsWith('post_quant_conv')), /post_quant_conv/],
      [(all) => [...all, { ...all[0], name: 'decoder.adaLN.weight' }], /not part of this model.*adaLN/],
      [(all) => reshaped(all, gamma, [13]), /misshapen.*ls2\.gamma/],
      [(all) => reshaped(all, 'quant_conv.weight', [5, 12]), /quant_conv\.weight/],
      [(all) => reshaped(all, 'encoder.model.blocks.0.mlp.fc1.weight', [50, 12]), /fc1.*50 rows/, 'config'],
      [(all) => reshaped(all, 'encoder.model.pos_embed', [1, 0, 12]), /pos_embed/],
      [(all) => reshaped(all, 'quantize.embedding', [5, 6, 4]), /num_codebooks.*is 4.*have 5/, 'config'],
    ];
    for (const [change, message, code = 'weights'] of changes) {
      const tree = await withWeights(name, change);
      await refused(() => open(tree), code, message);
    }
  });

  test('latents that cannot be divided among the codebooks', async () => {
    const files = await releasedFiles(one);
    const weights = weightsOf(one).map((weight) =>
      weight.name === 'quantize.embedding'
        ? { ...weight, shape: [3, 6, 4], read: async () => new Uint8Array(4 * 72) }
        : weight,
    );
    const tree = treeOf('x', {
      ...files,
      'config.json': json({ ...one.args, num_codebooks: 3 }),
      'model.safetensors': await safetensors(weights),
    });
    await refused(() => open(tree), 'config', /16 latents cannot be divided.*3 codebooks/);
  });

  test('swapped files: the configuration of one tokenizer with the weights of another', async () => {
    for (const other of Object.keys(oddTokenizers).filter((key) => key !== name)) {
      const tree = treeOf('swapped', {
        ...(await releasedFiles(one)),
        'model.safetensors': await safetensors(weightsOf(oddTokenizers[other])),
      });
      await expect(open(tree)).rejects.toMatchObject({ file: expect.stringMatching(/^swapped\//) });
    }
  });
});

describe('files', () => {
  test('truncated at any place', async () => {
    const files = await releasedFiles(one);
    const whole = files['model.safetensors'];
    for (const length of [0, 7, 9, 200, 5000, whole.length - 1]) {
      const cut = treeOf('x', { ...files, 'model.safetensors': whole.slice(0, length) });
      await refused(() => open(cut), 'format', /model\.safetensors/);
    }
    const training = await trainingFiles();
    const checkpoint = training['checkpoints/0000030.pt'];
    for (const length of [0, 100, 10_000, checkpoint.length >> 1, checkpoint.length - 1]) {
      const cut = { ...training, 'checkpoints/0000030.pt': checkpoint.slice(0, length) };
      await refused(() => open(treeOf('x', cut)), 'format', /0000030\.pt/);
    }
  });

  test('configurations that are no such thing', async () => {
    const files = await releasedFiles(one);
    for (const text of ['', '[]', '{"a":', 'null', '"x"']) {
      const bytes = new TextEncoder().encode(text);
      await refused(() => open(treeOf('x', { ...files, 'config.json': bytes })), 'format', /config\.json/);
      await refused(
        () => open(treeOf('x', { ...files, 'timm_vit.json': bytes })),
        'format',
        /timm_vit\.json/,
      );
    }
    const { 'config.json': _, ...without } = files;
    await refused(() => open(treeOf('x', without)), 'config', /config\.json or config\.yaml/);
    await refused(() => open(treeOf('x', { 'config.json': files['config.json'] })), 'io', /no weights/);
  });

  test('a training run without config.yaml says its arguments in the checkpoint; of several the newest counts', async () => {
    const { 'config.yaml': _, ...without } = await trainingFiles();
    const model = await softvqFamily.open({ model: treeOf('x', without) });
    expect(model.tokenizer.description).toBe('KL tokenizer, 16 latents of 12, 32 px');
    await model.close();
    const broken = { ...without, 'checkpoints/0000031.pt': new Uint8Array(3) };
    await refused(() => open(treeOf('x', broken)), 'format', /0000031\.pt/);
  });

  test('models of others are not recognised', async () => {
    for (const other of ['A/tokenizer', 'A/ar', 'family/llamagen/vq', 'family/var', 'family/flexvar']) {
      const model = await openFolder(path.join(golden, other));
      expect(await softvqFamily.recognise({ model }), other).toBe(false);
    }
  });

  test('an AR model beside it is refused, and both are named', async () => {
    const tokenizer = treeOf('soft', await releasedFiles(one));
    const ar = await openFolder(path.join(golden, 'A/ar'));
    await refused(() => softvqFamily.open({ tokenizer, ar }), 'unsupported', /A\/ar.*soft.*continuous/s);
  });
});

test('to a bundle and back: the same latents, bit for bit; a bundle of another family is not ours', async () => {
  const backend = createReferenceBackend();
  for (const key of Object.keys(oddTokenizers)) {
    const released = await softvqFamily.open({ model: treeOf(key, await releasedFiles(oddTokenizers[key])) });
    const target = path.join(folder, key);
    const { family, tokenizer } = released;
    await writeBundle(target, { family, name: key, license: 'none', tokenizer });
    const tree = await openFolder(target);
    expect(await softvqFamily.recognise({ model: tree })).toBe(true);
    const bundle = await softvqFamily.open({ model: tree });
    expect(bundle.card?.name).toBe(key);
    expect(bundle.tokenizer.config).toEqual(released.tokenizer.config);
    expect([...bundle.tokenizer.weights.keys()]).toEqual([...released.tokenizer.weights.keys()]);
    if (key === name) {
      const images = imagesOf(key, 1);
      const [a, b] = await Promise.all(
        [released, bundle].map(async (model) =>
          model.createLatentTokenizer?.({ backend }).encodeLatents(images),
        ),
      );
      expect(a?.data).toEqual(b?.data);
    }
    await Promise.all([released.close(), bundle.close()]);
  }
  const card = JSON.parse(readFileSync(path.join(folder, name, 'config.json'), 'utf8'));
  const changed = (change: object, family = card.family) => {
    const config = { ...card.tokenizer.config, ...change };
    return json({ ...card, family, tokenizer: { ...card.tokenizer, config } });
  };
  const weights = new Uint8Array(readFileSync(path.join(folder, name, 'tokenizer.safetensors')));
  const bundleOf = (change: object, family?: string) =>
    treeOf('b', { 'config.json': changed(change, family), 'tokenizer.safetensors': weights });
  expect(await softvqFamily.recognise({ model: bundleOf({}, 'VAR') })).toBe(false);
  const { encoder } = card.tokenizer.config;
  for (const [change, code] of [
    [{ kind: 'hard' }, 'config'],
    [{ tokens: 1e7 }, 'config'],
    [{ tokens: 12 }, 'weights'],
    [{ imageSize: 36 }, 'weights'],
    [{ imageSize: 19 }, 'config'],
    [{ temperature: -1 }, 'config'],
    [{ encoder: null }, 'config'],
    [{ encoder: { ...encoder, layers: 1e6 } }, 'config'],
    [{ encoder: { ...encoder, heads: 5 } }, 'config'],
    [{ encoder: { ...encoder, registers: 1e6 } }, 'config'],
    [{ encoder: { ...encoder, hasClass: false } }, 'unsupported'],
    [{ decoder: { ...encoder, positions: 'some' } }, 'config'],
    [{ isRotary: true }, 'weights'],
  ] as const) {
    await refused(() => open(bundleOf(change)), code, /./);
  }
});

describe('calls', () => {
  const imageSize = one.args.image_size as number;
  const opened = async (of: string) => {
    const model = await softvqFamily.open({ model: treeOf(of, await releasedFiles(oddTokenizers[of])) });
    return { model, backend: createReferenceBackend() };
  };

  test('images, latents and noise of other shapes', async () => {
    const { model, backend } = await opened(name);
    const tokenizer = model.createLatentTokenizer?.({ backend }) as SoftVqTokenizer;
    const float = (...dims: number[]) =>
      new Tensor('float32', new Float32Array(dims.reduce((a, b) => a * b, 1)), dims);
    const wrong = { code: 'shape' };
    await expect(tokenizer.encodeLatents(float(1, 3, 36, 36))).rejects.toMatchObject(wrong);
    await expect(tokenizer.encodeLatents(float(0, 3, imageSize, imageSize))).rejects.toMatchObject(wrong);
    await expect(tokenizer.encodeLatents(float(3, imageSize, imageSize))).rejects.toMatchObject(wrong);
    await expect(tokenizer.decodeLatents(float(1, 16, 5))).rejects.toMatchObject(wrong);
    await expect(tokenizer.decodeLatents(float(1, 8, 4))).rejects.toMatchObject(wrong);
    const broken = float(1, 16, 4);
    (broken.data as Float32Array)[7] = Number.NaN;
    await expect(tokenizer.decodeLatents(broken)).rejects.toThrow(/not finite/);
    await expect(tokenizer.decodeLatents([1] as never)).rejects.toMatchObject({ code: 'invalid-argument' });
    const noise = float(1, 16, 4);
    await expect(tokenizer.encodeLatents(imagesOf(name, 1), { noise })).rejects.toThrow(/not drawn/);
    await expect(
      tokenizer.encodeLatents(imagesOf(name, 1), { signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ name: 'AbortError' });
    await tokenizer.dispose();
    await expect(tokenizer.encodeLatents(imagesOf(name, 1))).rejects.toMatchObject({ code: 'closed' });
    await model.close();
  });

  test('latents have no codes to hand out', async () => {
    for (const of of [name, 'kl-giant', 'rotary-registers']) {
      const { model, backend } = await opened(of);
      await refused(() => model.createTokenizer({ backend }), 'unsupported', /no codes/);
      await model.close();
    }
  });

  test('codes: all of them, and only those of the codebook', async () => {
    const { model, backend } = await opened('registers-without-class');
    const tokenizer = model.createTokenizer({ backend }) as CodeTokenizer;
    const codes = (...values: number[]) => new Tensor('int32', Int32Array.from(values), [1, values.length]);
    expect(tokenizer).toMatchObject({ tokens: 7, codebookSize: 13, previews: 'none', imageSize: 16 });
    const images = imagesOf('registers-without-class', 1);
    const all = await tokenizer.encode(images);
    const some = await tokenizer.encode(images, { tokens: 3 });
    expect(Array.from(some.data as Int32Array)).toEqual(Array.from(all.data as Int32Array).slice(0, 3));
    expect((await tokenizer.decode(all, { size: 24 })).dims).toEqual([1, 3, 24, 24]);
    await expect(tokenizer.decode(all, { tokens: 3 })).rejects.toThrow(/needs all/);
    await expect(tokenizer.decode(codes(1, 2, 3))).rejects.toThrow(/needs all/);
    await expect(tokenizer.decode(codes(0, 0, 0, 0, 0, 0, 13))).rejects.toThrow(/13 is not in 0\.\.12/);
    await expect(tokenizer.decode(codes(0, 0, 0, -1, 0, 0, 0))).rejects.toThrow(/-1 is not/);
    await model.close();
  });
});

function imagesOf(of: string, batch: number): Tensor<'float32'> {
  const side = oddTokenizers[of].args.image_size as number;
  const dims = [batch, 3, side, side];
  return new Tensor('float32', numbersOf(of, dims), dims);
}

async function trainingFiles(): Promise<Record<string, Uint8Array>> {
  const read = (file: string) => new Uint8Array(readFileSync(path.join(golden, 'family/softvq/kl', file)));
  const files = ['config.yaml', 'timm_vit.json', 'checkpoints/0000030.pt'];
  return Object.fromEntries(files.map((file) => [file, read(file)]));
}
