import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { readBundle } from '@detailflow/checkpoint';
import { openFolder, writeBundle } from '@detailflow/checkpoint/node';
import { readFloat32, type Weight, weightFromArray } from '@detailflow/core';
import { tokenizerParameters } from '@detailflow/tokenizer';
import { afterAll, expect, test } from 'vitest';
import { type ConvertOptions, convert } from './convert';
import { openModel } from './model-source';

const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-convert-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => path.join(folder, name);
const golden = (set: string) => {
  const part = (name: string) =>
    fileURLToPath(new URL(`../../../tests/fixtures/golden/${set}/${name}`, import.meta.url));
  return { tokenizer: part('tokenizer'), ar: part('ar') };
};
const classNames = Array.from({ length: 10 }, (_, i) => `class ${i}`);

test('the bundle holds exactly the weights the model needs, bit for bit', async () => {
  const progress: number[] = [];
  let total = 0;
  const seven = classNames.slice(0, 7);
  const card = await convert(golden('B'), at('deep/er/bundle'), {
    name: 'B',
    classNames: seven,
    onProgress(state) {
      progress.push(state.done);
      total = state.total;
    },
  });
  expect(card).toMatchObject({
    format: 'detailflow',
    version: 1,
    name: 'B',
    license: 'unknown',
    classNames: seven,
  });
  expect(progress).toEqual([...progress].sort((a, b) => a - b));
  expect(progress[progress.length - 1]).toBe(total);

  const official = await openModel(golden('B'));
  const bundle = await readBundle(await openFolder(at('deep/er/bundle')));
  expect(bundle.card).toEqual(card);
  for (const part of ['tokenizer', 'ar'] as const) {
    const [before, after] = [official[part]?.weights, bundle[part]];
    const left = [...(before?.keys() ?? [])].filter((name) => !after?.has(name));
    expect(left, 'only statistics of the training are left out').toEqual(
      part === 'tokenizer' ? ['quantize.codebook_used'] : [],
    );
    for (const [name, weight] of after ?? []) {
      const original = before?.get(name);
      if (!original) throw new Error(`${name} came from nowhere`);
      expect(weight.shape, name).toEqual(original.shape);
      expect(await readFloat32(weight), name).toEqual(await readFloat32(original));
    }
  }
  await official.close();
  await bundle.close();
});

test('what the card of a bundle says is kept unless said anew', async () => {
  await convert(golden('A'), at('first'), { name: 'A', license: 'MIT', attribution: 'someone', classNames });
  const card = await convert(at('first'), at('second'), { name: 'A, smaller', dtype: 'f16' });
  expect(card).toMatchObject({ name: 'A, smaller', license: 'MIT', attribution: 'someone', classNames });
  expect(card.recipe).toBeUndefined();
  const recommended = await convert(at('second'), at('third'), { subject: 'things', cfg: 2.5 });
  expect(recommended).toMatchObject({ name: 'A, smaller', subject: 'things', recipe: { cfg: 2.5 } });
  expect(await convert(at('third'), at('fourth'))).toMatchObject({ subject: 'things', recipe: { cfg: 2.5 } });
  for (const cfg of [-1, Number.NaN]) {
    await expect(convert(at('third'), at('wrong'), { cfg })).rejects.toThrow(/recipe\.cfg/);
  }
});

test('a decoder of other sizes takes the place of the own one where it learned the same codes', async () => {
  await convert(golden('A'), at('own'), { name: 'A', license: 'MIT', classNames });
  const own = await openModel(at('own'));
  const { config, weights } = own.tokenizer;
  const shorter = { ...config, decoder: { ...config.decoder, layers: config.decoder.layers - 1 } };
  const written = (changes: Partial<typeof config>, name?: string) => {
    const changed = async (key: string, weight: Weight): Promise<[string, Weight]> => {
      if (key !== name) return [key, weight];
      const numbers = await readFloat32(weight);
      numbers[numbers.length - 1] += 1e-6;
      return [key, weightFromArray(key, weight.shape, numbers)];
    };
    const specs = tokenizerParameters(shorter).map(({ name: key }) =>
      changed(key, weights.get(key) as Weight),
    );
    return Promise.all(specs).then((entries) =>
      writeBundle(
        at('other'),
        {
          ...{ name: 'other', license: 'MIT' },
          tokenizer: { config: { ...shorter, ...changes }, weights: new Map(entries) },
        },
        { overwrite: true },
      ),
    );
  };

  const bias = 'decoder.to_pixel.model.bias';
  await written({}, bias);
  const card = await convert(at('own'), at('exchanged'), { decoder: at('other') });
  expect(card).toMatchObject({ name: 'A', license: 'MIT', classNames });
  const exchanged = await openModel(at('exchanged'));
  expect(exchanged.tokenizer.config).toEqual(shorter);
  expect(exchanged.ar?.config).toEqual(own.ar?.config);
  const [before, after] = await Promise.all(
    [own, exchanged].map(({ tokenizer }) => readFloat32(tokenizer.weights.get(bias) as Weight)),
  );
  expect(after.at(-1)).not.toBe(before.at(-1));
  expect(after.slice(0, -1)).toEqual(before.slice(0, -1));
  await exchanged.close();

  const refused = (other: ConvertOptions['decoder'] = at('other')) =>
    expect(convert(at('own'), at('refused'), { decoder: other })).rejects;
  for (const name of [
    'quantize.embedding.weight',
    'quant_conv.bias',
    'encoder.latent_tokens',
    'refine_conv.weight',
  ]) {
    await written({}, name);
    await refused().toMatchObject({ code: 'weights', entry: name });
  }
  await written({ groupSize: 1, causalTokens: 1 });
  await refused().toMatchObject({ code: 'config', entry: 'groupSize' });
  expect(readdirSync(folder)).not.toContain('refused');
  await own.close();
});

test('a tokenizer alone has no class names', async () => {
  const { tokenizer } = golden('A');
  const card = await convert({ tokenizer }, at('alone'));
  expect(card.ar).toBeUndefined();
  expect(card.name).toBe('DetailFlow model');
  await expect(convert({ tokenizer }, at('named'), { classNames })).rejects.toThrow(
    '10 class names are given, the model has no classes',
  );
  await expect(convert(golden('A'), at('named'), { classNames: ['a'] })).rejects.toThrow(
    '1 class names are given, the model has 10 classes',
  );
  expect(readdirSync(folder)).not.toContain('named');
});

test('stopped half-way, it leaves nothing behind', async () => {
  const controller = new AbortController();
  const reason = new Error('stop');
  const stopped = convert(golden('A'), at('stopped'), {
    signal: controller.signal,
    onProgress({ done, total }) {
      if (done > total / 2) controller.abort(reason);
    },
  });
  await expect(stopped).rejects.toBe(reason);
  expect(readdirSync(folder).filter((name) => name.includes('stopped'))).toEqual([]);
});
