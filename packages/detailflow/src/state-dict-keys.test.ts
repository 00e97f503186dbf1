import { readFloat32, type Weights } from '@detailflow/core';
import { expect, test } from 'vitest';
import { cli, cliFailure, cliJson, inRepository, testFolder } from '../../../tests/cli';
import { openFamilyModel } from './open-family';

const at = testFolder();
const golden = inRepository('tests/fixtures/golden/A');
const trained = inRepository('tests/fixtures/fashion-ref');

const first = async (weights: Weights | undefined) => {
  const weight = weights?.get('output.weight');
  return weight && { dtype: weight.dtype, value: (await readFloat32(weight))[0] };
};

test('an official AR model is read as its averages, or as it is', async () => {
  const found = [];
  for (const arKey of [undefined, 'ema', 'model']) {
    const model = await openFamilyModel(golden, { settings: arKey === undefined ? {} : { arKey } });
    found.push(await first(model.ar?.weights));
    await model.close();
  }
  expect(found.map((one) => one?.dtype)).toEqual(['f32', 'f32', 'bf16']);
  expect(found[1]).toEqual(found[0]);
  const files = { tokenizer: `${golden}/tokenizer`, ar: `${golden}/ar` };
  const halves = await openFamilyModel(files, { settings: { arKey: 'model', tokenizerKey: 'model' } });
  expect(await first(halves.ar?.weights)).toEqual(found[2]);
  await halves.close();
});

test.each([
  [{ arKey: 'averages' }, golden, /^settings: arKey is "averages"; give model or ema/],
  [{ arkey: 'model' }, golden, /there is no "arkey"; tokenizerKey and arKey/],
  [{ tokenizerKey: 'ema' }, golden, /tokenizer.*no state dict.*"ema"/],
  [{ arKey: 'model' }, { tokenizer: `${golden}/tokenizer` }, /arKey chooses .*none is given/],
  [
    { arKey: 'model' },
    inRepository('packages/model-fashion-32/model'),
    /official checkpoints, and this is none/,
  ],
])('settings %j are refused', async (settings, source, message) => {
  await expect(openFamilyModel(source, { settings })).rejects.toThrow(message);
});

test('commands take the keys', async () => {
  await cliJson('convert', '--model', golden, '--ar-key', 'model', '--out', at('model'));
  await cliJson('convert', '--model', golden, '--out', at('ema'));
  const opened = await Promise.all(['model', 'ema'].map((name) => openFamilyModel(at(name))));
  const [plain, averages] = await Promise.all(opened.map(({ ar }) => first(ar?.weights)));
  expect(plain?.value).not.toBe(averages?.value);
  for (const one of opened) await one.close();
  const draw = ['generate', '--model', golden, '--class', '1', '--out', at('x.png')];
  expect(await cliFailure(2, ...draw, '--ar-key', 'both')).toMatch(/--ar-key/);
  const { code, stderr } = await cli(['inspect', '--model', at('ema'), '--ar-key', 'model']);
  expect([code, stderr]).toEqual([1, expect.stringContaining('this is none')]);
  const codes = ['train', 'codes', '--config', 'tiny-32', '--data', 'shapes:24x32', '--out', at('codes')];
  expect(await cliFailure(2, ...codes, '--tokenizer-key', 'model')).toMatch(/give that, too/);
  expect(
    await cliFailure(2, ...codes, '--tokenizer', trained, '--tokenizer-key', 'ema', '--queue', 'redis://x'),
  ).toMatch(/--tokenizer-key is not for --queue/);
});
