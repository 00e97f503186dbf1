import { readdirSync, writeFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { cliFailure, cliJson, testFolder } from '../../../../tests/cli';

const at = testFolder();
const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
const settings = {
  ...{ preset: 'tiny-32', replicas: 1, seed: 7 },
  tokenizer: {
    model: {
      ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
      ...{ encoder: tower, decoder: tower },
    },
    ...{ steps: 2, batch: 4, microBatch: 4, warmup: 0 },
  },
  tokenModel: { model: { dim: 16, layers: 1, heads: 2 } },
  classifier: { widths: [4, 4, 4], features: 8, steps: 2, batch: 8 },
  validation: { every: 9, images: 4 },
};
const run = (part: string, out: string, ...more: string[]) => [
  ...['train', part, '--config', at('settings.json'), '--data', 'shapes:60x16', '--out', at(out), ...more],
];
beforeAll(() => writeFileSync(at('settings.json'), JSON.stringify(settings)));

test('a run that stops by itself says so, goes on, and its checkpoint becomes a model to begin with', async () => {
  const stopped = await cliJson(...run('tokenizer', 'run', '--stop-after', '0.001s'));
  expect(stopped).toMatchObject({ stopped: { stage: 'tokenizer' } });
  expect(stopped).not.toHaveProperty('bundle');
  expect(await cliJson(...run('tokenizer', 'run', '--resume', '--stop-after', '1h30m'))).toMatchObject({
    bundle: at('run/bundle'),
  });
  const made = await cliJson('train', 'bundle', '--run', at('run'), '--out', at('model'), '--step', '2');
  expect(made).toEqual({ bundle: at('model'), steps: { tokenizer: 2 } });
  expect(await cliFailure(1, 'train', 'bundle', '--run', at('run'), '--out', at('model'))).toMatch(/exists/);
  await cliJson('train', 'bundle', '--run', at('run'), '--out', at('model'), '--overwrite');
  await cliJson(...run('tokenizer', 'next', '--init', at('model')));
});

test('a classifier lies in the folder of its run', async () => {
  const found = await cliJson(...run('classifier', 'judge/deep'));
  expect(found.file).toBe(at('judge/deep/classifier.safetensors'));
  expect(readdirSync(at('judge/deep'))).toEqual(['classifier.safetensors']);
});

test.each([
  [run('tokenizer', 'x', '--stop-after', 'soon'), /--stop-after "soon"/],
  [run('tokenizer', 'x', '--stop-after', '0s'), /--stop-after "0s"/],
  [run('tokenizer', 'x', '--stop-after', '10'), /--stop-after "10"/],
  [['train', 'bundle', '--out', 'x'], /--run is missing/],
  [['train', 'bundle', '--run', 'x', '--out', 'y', '--step', '1.5'], /--step/],
  [['train', 'everything'], /classifier, tokenizer, codes, ar, all, bundle/],
])('%j is refused', async (args, message) => {
  expect(await cliFailure(2, ...args)).toMatch(message);
});
