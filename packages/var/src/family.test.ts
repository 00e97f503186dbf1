import { readFileSync } from 'node:fs';
import { type ConfigObject, type FileTree, fileTree } from '@detailflow/checkpoint';
import { bytesSource } from '@detailflow/core';
import { describe, expect, test } from 'vitest';
import { flexvarFamily, varFamily } from './family';

const fixtures = new URL('../../../tests/fixtures/golden/family/', import.meta.url);
const read = (name: string) => new Uint8Array(readFileSync(new URL(name, fixtures)));
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** A folder in memory, by names of files in the fixtures or bytes. */
function tree(files: Readonly<Record<string, string | Uint8Array>>, config?: ConfigObject): FileTree {
  const sources = Object.entries(files).map(([name, content]) => {
    const bytes = typeof content === 'string' ? read(content) : content;
    return [name, bytesSource(bytes, `memory/${name}`)] as const;
  });
  return fileTree(
    'memory',
    new Map([...sources, ...(config ? [['config.json', bytesSource(json(config))] as const] : [])]),
  );
}

const scales = { patch_nums: [1, 2, 3, 4, 6] };
const vae = tree({ 'vae.pth': 'var/vae_ch32v80z8.pth' });
const transformer = tree({ 'var.pth': 'var/var_d2.pth' });
const flexVae = tree({ 'FlexVAE.pth': 'flexvar/FlexVAE.pth' });
const flexTransformer = tree({ 'flex.pth': 'flexvar/FlexVARd3-epo7.pth' });

test('each knows its own files, together and alone', async () => {
  const both = (tokenizer: FileTree, ar?: FileTree) =>
    Promise.all([varFamily, flexvarFamily].map((family) => family.recognise({ tokenizer, ar })));
  expect(await both(vae, transformer)).toEqual([true, false]);
  expect(await both(flexVae, flexTransformer)).toEqual([false, true]);
  expect(await both(vae, flexTransformer)).toEqual([false, false]);
  expect(await both(vae)).toEqual([true, false]);
  expect(await both(flexVae)).toEqual([false, true]);
});

test('VAR: sizes from the weights, scales from the configuration', async () => {
  const model = await varFamily.open({ tokenizer: vae, ar: transformer, settings: scales });
  expect(model.ar).toMatchObject({ schedule: [1, 4, 9, 16, 36], classes: 11, sampling: { cfg: 1.5 } });
  expect(model.tokenizer).toMatchObject({
    imageSize: 12,
    previewCounts: [1, 5, 14, 30, 66],
    previews: 'scales',
  });
  // Tables and masks that can be made again are no parameters.
  expect([...(model.ar?.weights.keys() ?? [])]).not.toContain('attn_bias_for_masking');
  await model.close();
});

test('FlexVAR out of a checkpoint of its training, along any list', async () => {
  const settings = { scales: [1, [2, 3], [4, 6]], max_pn: 3, invalid_ids: [4] };
  const model = await flexvarFamily.open({ tokenizer: flexVae, ar: flexTransformer, settings });
  expect(model.ar).toMatchObject({ schedule: [1, 6, 24], config: { largestDrawn: 3, invalidCodes: [4] } });
  await model.close();
  const falling = { scales: [1, 2, 4, 3, 6] };
  const fallen = await flexvarFamily.open({ tokenizer: flexVae, ar: flexTransformer, settings: falling });
  expect(fallen.ar).toMatchObject({ schedule: [1, 4, 16, 9, 36] });
  await fallen.close();
  const official = await flexvarFamily.open({ tokenizer: flexVae, ar: flexTransformer });
  expect(official.tokenizer.tokens).toBe(1 + 4 + 9 + 16 + 25 + 49 + 100 + 169 + 256);
  await official.close();
});

test('VAR: codes by cosine similarity, where settings say so', async () => {
  for (const settings of [
    { ...scales, vae: { using_znorm: true } },
    { ...scales, using_znorm: true },
  ]) {
    const model = await varFamily.open({ tokenizer: vae, ar: transformer, settings });
    expect(model.tokenizer.config).toMatchObject({ isCosine: true });
    const written = model.releasedFiles?.().find(({ path }) => path === 'config.json');
    expect(written).toMatchObject({ json: { vae: { using_znorm: true, quant_resi: 0.5 } } });
    await model.close();
  }
  const usual = await varFamily.open({
    ...{ tokenizer: vae, ar: transformer },
    settings: { ...scales, using_znorm: false },
  });
  expect(usual.tokenizer.config).not.toHaveProperty('isCosine');
  await usual.close();
});

test('pictures that are not square have a width', async () => {
  const model = await flexvarFamily.open({
    ...{ tokenizer: flexVae, ar: flexTransformer },
    settings: { scales: [1, [2, 3], [4, 6]] },
  });
  expect(model).toMatchObject({ pictureSize: 16, pictureWidth: 24 });
  await model.close();
});

describe('what is refused', () => {
  const files = { tokenizer: vae, ar: transformer };
  test.each<[string, ConfigObject, RegExp]>([
    ['scales that no file says', {}, /66 places.*setting "scales"/],
    ['scales of another model', { scales: [1, 2, 3] }, /var\.pth.*66 places.*vae\.pth have 14 on 3/],
    ['as many places on fewer scales', { scales: [1, 4, 7] }, /on 5 scales \(lvl_embed\).*66 on 3/],
    ['as many places in another order', { scales: [1, 2, 3, 6, 4] }, /vae\.pth.*6 x 6, 4 x 4.*the last one/],
    ['scales that do not grow', { scales: [1, 2, 4, 3, 6] }, /3 x 3 comes after 4 x 4.*the last one/],
    ['a scale twice', { scales: [1, 2, 2, 6] }, /2 x 2 comes after 2 x 2/],
    ['a side that falls', { scales: [1, [2, 3], [4, 2], 6] }, /4 x 2 comes after 2 x 3/],
    ['a scale that is wider than the last', { scales: [1, 2, 3, [2, 8], 6] }, /2 x 8, 6 x 6.*the last one/],
    ['no list', { scales: 'many' }, /the scales are/],
    ['a depth of another model', { ...scales, depth: 16 }, /depth.*16/],
    ['a distance of codes that is none', { ...scales, using_znorm: 'yes' }, /using_znorm/],
    ['maps of growing sizes', { ...scales, same_shape: false }, /same_shape/],
  ])('%s', async (_, settings, message) => {
    await expect(varFamily.open({ ...files, settings })).rejects.toMatchObject({
      message: expect.stringMatching(message),
    });
  });

  test('swapped halves, and a transformer alone', async () => {
    const swapped = varFamily.open({ tokenizer: transformer, ar: vae, settings: scales });
    await expect(swapped).rejects.toThrow(/var\.pth.*vae\.pth.*swapped/);
    await expect(varFamily.open({ model: transformer })).rejects.toThrow(/var\.pth.*without its tokenizer/);
  });

  test('a folder with two transformers', async () => {
    const model = tree({
      'a.pth': 'var/var_d2.pth',
      'b.pth': 'var/var_d2.pth',
      'vae.pth': 'var/vae_ch32v80z8.pth',
    });
    await expect(varFamily.open({ model, settings: scales })).rejects.toThrow(/a\.pth and .*b\.pth are both/);
  });

  test('a truncated file beside a good one is named, not left out', async () => {
    const half = read('var/var_d2.pth');
    const model = tree({ 'var.pth': half.subarray(0, half.length / 2), 'vae.pth': 'var/vae_ch32v80z8.pth' });
    const named = { file: expect.stringContaining('var.pth') };
    await expect(varFamily.recognise({ model })).rejects.toMatchObject(named);
  });
});
