import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { cli, cliFailure, cliJson, testFolder } from '../../../../tests/cli';

const at = testFolder();
const shortened = (...more: string[]) => [
  ...['--set', 'tokenizer.steps=2', '--set', 'tokenizer.batch=4', '--set', 'tokenizer.microBatch=4'],
  ...['--set', 'tokenizer.warmup=0', '--set', 'tokenModel.steps=2', '--set', 'tokenModel.batch=4'],
  ...['--set', 'tokenModel.microBatch=4', '--set', 'tokenModel.warmup=0', '--set', 'data.views=center'],
  ...['--set', 'validation={"every":9,"images":4}', ...more],
];

test('a model of another family, by a preset with other sizes', async () => {
  const tower = '{"channels":[32,32],"blocks":1,"latentChannels":8}';
  const small = [
    `tokenizer.model={"imageSize":8,"encoder":${tower},"decoder":${tower},"codebookSize":16,"codeDim":4}`,
    'tokenModel.model={"dim":16,"layers":1,"heads":2,"hiddenDim":32,"groupSize":4}',
    'replicas=1',
  ].flatMap((setting) => ['--set', setting]);
  const par = ['train', 'all', '--family', 'par', '--config', 'par-32', '--data', 'shapes:24x8'];
  const made = await cliJson(...par, '--out', at('par'), ...small, ...shortened());
  const card = JSON.parse(readFileSync(at('par/bundle/config.json'), 'utf8'));
  expect(card).toMatchObject({ family: 'PAR', ar: { config: { groupSize: 4, arrangement: 'regions' } } });
  const inits = ['--init', `${made.bundle}`, '--tokenizer', `${made.bundle}`];
  await cliJson(...par, '--out', at('par-on'), ...inits, ...small, ...shortened());
  const bundled = await cliJson('train', 'bundle', '--run', at('par'), '--out', at('par-model'));
  expect(bundled.steps).toEqual({ tokenizer: 2, ar: 2 });
  const drawn = ['generate', '--model', at('par-model'), '--class', '1', '--out', at('par.png')];
  expect(await cliJson(...drawn)).toBeDefined();
});

test.each<[1 | 2, string[], RegExp]>([
  [1, ['--family', 'maskgit', '--config', 'tiny-32'], /"detailflow".*"maskgit"/],
  [1, ['--family', 'llamagen', '--config', 'var-32'], /"var".*"llamagen"/],
  [1, ['--config', 'par-32', '--set', 'tokenModel.model.groupSize=9'], /tokenModel\.model.*groupSize/],
  [1, ['--config', 'llamagen-32', '--set', 'tokenizer.degradation=0.1'], /degradation.*no setting/],
  [2, ['--family', 'var', '--init', '@detailflow/model-fashion-32'], /--family var needs --config/],
  [2, ['--config', 'par-33'], /par-32, var-32/],
])('exit code %i: train all %j', async (code, more, message) => {
  expect(
    await cliFailure(code, 'train', 'all', '--data', 'shapes:24x32', '--out', at('bad'), ...more),
  ).toMatch(message);
});

test('a model of another family is no beginning', async () => {
  const start = ['train', 'tokenizer', '--config', 'var-32', '--init', '@detailflow/model-fashion-32'];
  const { code, stderr } = await cli([...start, '--data', 'shapes:24x32', '--out', at('mixed')]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/tokenizer\.model\.\w+: the tokenizer that was given has .* the settings say/);
});
