import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readFloat32 } from '@detailflow/core';
import { readNpy } from '@detailflow/data';
import { beforeAll, expect, test } from 'vitest';
import { cli, cliFailure, cliJson, inRepository, testFolder } from '../../../../tests/cli';
import { siglipFolder } from '../../../../tests/siglip-folder';
import { tensorBoardEvents } from '../../../../tests/tensorboard-events';
import { openModel } from '../model-source';

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
  expect(await failure(...run('ar', 'run'))).toMatch(
    /codes\.json: there are no codes; make them first \(detailflow train codes\)/,
  );
});

test('a run that would measure by images which its beginning was trained on is refused', async () => {
  await cliJson(...run('tokenizer', 'earlier'));
  const split = JSON.parse(readFileSync(at('earlier/held-out.json'), 'utf8'));
  for (const [i, flag] of ['--init', '--tokenizer'].entries()) {
    const part = flag === '--init' ? 'tokenizer' : 'codes';
    const later = [flag, at('earlier/bundle'), '--set', 'seed=8'];
    const refused = await cli([...run(part, `refused${i}`, ...later)]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      /^detailflow train: .*earlier.*held out other images of a set of 60.*data\.heldOut 0\.05, data\.splitSeed 7/m,
    );
    await cliJson(...run(part, `same${i}`, ...later, '--set', 'data.splitSeed=7'));
    const again = JSON.parse(readFileSync(at(`same${i}/held-out.json`), 'utf8'));
    expect(again.list).toEqual(split.list);
  }
  // Nothing is known of another set.
  const elsewhere = run('tokenizer', 'elsewhere', '--init', at('earlier/bundle'), '--set', 'seed=8');
  await cliJson(...elsewhere.map((word) => (word === 'shapes:60x16' ? 'shapes:50x16' : word)));
});

test('a bundle does not take a tokenizer that was trained on images which the run measures by', async () => {
  await cliJson(...run('tokenizer', 'before'));
  await cliJson(...run('tokenizer', 'other-split', '--set', 'seed=8'));
  const bundle = ['train', 'bundle', '--run', at('other-split'), '--out', at('other-model')];
  expect(await cliFailure(1, ...bundle, '--tokenizer', at('before/bundle'))).toMatch(
    /before.*held out other images of a set of 60.*data\.heldOut 0\.05, data\.splitSeed 7/,
  );
  expect(existsSync(at('other-model'))).toBe(false);
  await cliJson(...run('tokenizer', 'same-split', '--set', 'seed=8', '--set', 'data.splitSeed=7'));
  const same = ['train', 'bundle', '--run', at('same-split'), '--out', at('same-model')];
  await cliJson(...same, '--tokenizer', at('before/bundle'));
});

test('a folder of a run numbers itself, and --resume goes on in the newest of its name', async () => {
  const name = 'numbered/%03d-mine';
  const first = await cliJson(...run('tokenizer', name, '--stop-after', '0.001s'));
  expect(first.stopped).toEqual({ stage: 'tokenizer' });
  const second = await cli(run('tokenizer', name, '--stop-after', '0.001s'));
  expect(second.stderr).toContain(`the run is in ${at('numbered/001-mine')}`);
  expect((await cliJson(...run('tokenizer', name, '--resume'))).bundle).toBe(at('numbered/001-mine/bundle'));
  expect((await cliJson(...run('codes', name))).report).toContain(at('numbered/001-mine'));
  expect(readdirSync(at('numbered'))).toEqual(['000-mine', '001-mine']);
  expect(await cliFailure(2, ...run('tokenizer', 'a%d/%d'))).toMatch(/--out .*one number, in the last part/);
  expect(existsSync(at('a%d'))).toBe(false);
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
  [
    ['train', 'all', '--data', 'x', '--out', 'y', '--step', '3'],
    /--step is for train bundle, not for train all/,
  ],
  [
    ['train', 'ar', '--data', 'x', '--out', 'y', '--overwrite'],
    /--overwrite is for train bundle, not for train ar/,
  ],
  [
    ['train', 'bundle', '--run', 'x', '--out', 'y', '--data', 'z'],
    /--data is for a training, not for train bundle/,
  ],
  [['train', 'bundle', '--run', 'x', '--out', 'y', '--step', '1.5'], /--step/],
  [run('classifier', 'x', '--resume'), /--resume is not for train classifier/],
  [run('classifier', 'x', '--stop-after', '1h'), /--stop-after is not for train classifier/],
  [['train', 'everything'], /classifier, tokenizer, codes, ar, all, bundle/],
  [run('tokenizer', 'x', '--codes', 'y'), /--codes is of no use here/],
  [run('codes', 'x', '--codes', 'y'), /--codes is of no use here/],
  [run('tokenizer', 'x', '--save-codes', 'y'), /--save-codes is of no use here/],
  [run('all', 'x', '--codes', 'z', '--save-codes', 'y'), /--save-codes is of no use here/],
  [run('ar', 'x', '--codes-shard', '9'), /--codes-shard is of no use here/],
  [run('all', 'x', '--features', 'y'), /--features is of no use here: .*validation\.generate, which is 0/],
  [
    run('tokenizer', 'x', '--features', 'y', '--set', 'validation.generate=9'),
    /--features is of no use here: .*while an AR model learns/,
  ],
])('%j is refused', async (args, message) => {
  expect(await cliFailure(2, ...args)).toMatch(message);
});

const shortened = (...more: string[]) => [
  ...['--set', 'tokenizer.steps=2', '--set', 'tokenizer.batch=4', '--set', 'tokenizer.microBatch=4'],
  ...['--set', 'tokenizer.warmup=0', '--set', 'tokenModel.steps=2', '--set', 'tokenModel.batch=4'],
  ...['--set', 'tokenModel.microBatch=4', '--set', 'tokenModel.warmup=0', '--set', 'data.views=center'],
  ...['--set', 'validation={"every":9,"images":4}', ...more],
];

test('a model in a package is the start of one for pictures of other classes, by its own sizes', async () => {
  const start = ['train', 'all', '--init', '@detailflow/model-fashion-32', '--data', 'shapes:40x32'];
  const made = await cli([...start, '--out', at('fine'), ...shortened(), '--json']);
  expect(made.stderr).toMatch(
    /^\S*ar\.safetensors: class 0 is ".*" of the model to begin with and ".*" of these images.*\n$/,
  );
  expect(JSON.parse(made.stdout).bundle).toBe(at('fine/bundle'));
  const [before, after] = await Promise.all(
    ['@detailflow/model-fashion-32', at('fine/bundle')].map((bundle) => weightsOf(bundle)),
  );
  const name = 'encoder.latent_tokens';
  const distance = before.get(name)?.map((x, i) => Math.abs(x - (after.get(name)?.[i] ?? Number.NaN)));
  expect(Math.max(...(distance ?? [Number.NaN]))).toBeLessThan(1e-3); // two steps of at most 1e-4
  const card = JSON.parse(readFileSync(at('fine/bundle/config.json'), 'utf8'));
  expect(card.tokenizer.config.tokens).toBe(64);
  const more = ['--tokenizer', at('fine/bundle'), ...shortened('--set', 'tokenModel.model.layers=3')];
  expect(await failure(...start, '--out', at('strict'), ...more)).toMatch(
    /AR model to begin with does not fit.*layers\.3\.attention_norm\.weight is of no use here.*--lenient/,
  );
  // Told before the tokenizer is trained, too.
  const both = [...start, '--out', at('early'), ...shortened('--set', 'tokenModel.model.layers=3')];
  expect(await failure(...both)).toMatch(/AR model to begin with does not fit/);
  expect(existsSync(at('early/tokenizer'))).toBe(false);
  const taken = await cli([...start, '--out', at('lenient'), '--lenient', ...more]);
  expect(taken.code).toBe(0);
});

test('weights of a file are a start too, by state dict; what does not fit is named, at most ten times', async () => {
  const file = at('run/official/tokenizer/checkpoints/0000002.pt');
  await cliJson(...run('tokenizer', 'from-file', '--init', file, '--init-key', 'model'));
  const other = await failure(
    ...run('tokenizer', 'other', '--init', file, '--set', 'tokenizer.model.codebookDim=4'),
  );
  expect(other).toMatch(/quant_conv\.weight is \[8,16\], must be \[4,16\]/);
  const deep = '{"width":32,"heads":2,"layers":1,"mlpWidth":32,"patchSize":8,"positionGrid":2}';
  const many = await failure(
    ...run('tokenizer', 'deep', '--init', file, '--set', `tokenizer.model.encoder=${deep}`),
  );
  expect(many.match(/must be \[/g)).toHaveLength(10);
  expect(many).toMatch(/and \d+ more/);
  expect(await cliFailure(1, ...run('tokenizer', 'key', '--init', file, '--init-key', 'ema'))).toMatch(
    /no state dict "ema"/,
  );
  expect(await cliFailure(2, ...run('tokenizer', 'two', '--init', `${file},${file}`))).toMatch(/already/);
  expect(await cliFailure(2, ...run('tokenizer', 'lone', '--lenient'))).toMatch(/--init/);
});

test('codes go to the official training and come back, from two crop ranges; others are refused', async () => {
  const views = (range: number) => ['--set', 'data.views=ten-crop', '--set', `data.cropRanges=[${range}]`];
  const made = (out: string, range: number) =>
    run('codes', out, '--tokenizer', at('model'), '--save-codes', at(`${out}-official`), ...views(range));
  await cliJson(...made('codes-110', 1.25));
  await cliJson(...made('codes-105', 1.125));
  const folder = at('codes-110-official');
  expect(readdirSync(folder).sort()).toEqual(['tiny-32.json', 'tiny-3216_codes', 'tiny-3216_labels']);
  const { dtype, shape } = readNpy(readFileSync(`${folder}/tiny-3216_codes/0.npy`));
  expect([dtype, shape]).toEqual(['int64', [1, 10, 8, 3]]);
  expect(JSON.parse(readFileSync(`${folder}/tiny-32.json`, 'utf8'))).toMatchObject({
    ar_image_size: 16,
    ar_token_num: 8,
  });

  const few = [
    '--set',
    'tokenModel.steps=3',
    '--set',
    'tokenModel.batch=4',
    '--set',
    'tokenModel.microBatch=4',
  ];
  const learn = (out: string, ...more: string[]) =>
    run('ar', out, '--tokenizer', at('model'), ...few, '--set', 'tokenModel.warmup=0', ...more);
  const both = ['--codes', folder, '--codes', at('codes-105-official')];
  await cliJson(...learn('from-official', ...both));
  // The same codes give the same run, wherever they lie.
  await cliJson(...learn('codes-110', ...views(1.25)));
  await cliJson(...learn('again', '--codes', folder));
  const [own, official] = ['codes-110', 'again'].map((out) =>
    readFileSync(at(`${out}/ar/log.jsonl`), 'utf8'),
  );
  expect(official).toBe(own);

  writeFileSync(
    `${folder}/tiny-3216_codes/1.npy`,
    readFileSync(`${folder}/tiny-3216_codes/0.npy`).subarray(0, 500),
  );
  expect(await failure(...learn('cut', '--codes', folder))).toMatch(/1\.npy/);
  const text = readFileSync(`${at('codes-105-official')}/tiny-32.json`, 'utf8');
  writeFileSync(
    `${at('codes-105-official')}/tiny-32.json`,
    text.replace('"codebook_size": 32', '"codebook_size": 64'),
  );
  expect(await failure(...learn('foreign', '--codes', at('codes-105-official')))).toMatch(
    /codebook_size.*is 64.*need 32/,
  );
});

test('only the decoder learns, or what is not frozen', async () => {
  const decoder = ['--set', 'tokenizer.finetuneDecoder=true'];
  await cliJson(...run('tokenizer', 'decoder', '--init', at('model'), ...decoder));
  const [before, after] = await Promise.all(['model', 'decoder/bundle'].map((name) => weightsOf(at(name))));
  for (const [name, values] of before) {
    if (name.endsWith('k_proj.bias')) continue; // their gradients are zero but for rounding
    const isSame = values.every((x, i) => x === after.get(name)?.[i]);
    expect(isSame, name).toBe(!/decoder\.|post_quant_conv/.test(name));
  }
  // Of what is frozen there are no running means: what is validated, kept and exported takes the parameters themselves.
  const means = ['--set', 'tokenModel.averageDecay=0.5', '--set', 'tokenModel.frozen=["tok_embeddings"]'];
  const ar = (steps: number) => [
    ...run(
      'all',
      'frozen',
      '--tokenizer',
      at('decoder/bundle'),
      ...means,
      ...(steps > 1 ? ['--resume'] : []),
    ),
    ...['--set', `tokenModel.steps=${steps}`, '--set', 'tokenModel.batch=4', '--set', 'tokenModel.warmup=0'],
    ...['--set', 'tokenModel.microBatch=4', '--set', 'validation={"every":1,"images":4}'],
  ];
  const tables: Float32Array[] = [];
  for (const steps of [1, 2]) {
    await cliJson(...ar(steps));
    const weights = await weightsOf(at('frozen/bundle'), 'ar');
    tables.push(
      weights.get('tok_embeddings.weight') as Float32Array,
      weights.get('norm.weight') as Float32Array,
    );
  }
  expect(tables[2]).toEqual(tables[0]);
  expect(tables[3]).not.toEqual(tables[1]);
  // A name that is nobody's would freeze nothing.
  for (const section of ['tokenizer', 'tokenModel'])
    expect(await failure(...run('all', section, '--set', `${section}.frozen=["encodr"]`))).toMatch(
      `${section}.frozen: "encodr" is no parameter and no part of the model`,
    );
});

test('pictures that are drawn while a model learns are judged as eval judges them', async () => {
  const network = await siglipFolder(at('network'), { sizes: { patchSize: 8 } });
  const learned = [
    ...['--set', 'tokenModel.steps=4', '--set', 'tokenModel.batch=4', '--set', 'tokenModel.microBatch=4'],
    ...['--set', 'tokenModel.warmup=0', '--set', 'tokenModel.averageDecay=0.5', '--set', 'data.views=center'],
    ...['--set', 'tokenModel.learningRate=0.02', '--set', 'data.heldOut=0.2'],
  ];
  const drawn = ['--set', 'validation={"every":2,"images":4,"generate":6}', '--features', network];
  const ar = (out: string, ...more: string[]) =>
    run('all', out, '--tokenizer', at('judged-tokenizer/bundle'), ...learned, ...more);
  await cliJson(...run('tokenizer', 'judged-tokenizer', '--set', 'data.heldOut=0.2'));
  await cliJson(...ar('judged', ...drawn));
  const lines: Record<string, unknown>[] = readFileSync(at('judged/ar/log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.map((line) => [line.step, line.drawn])).toEqual([
    [0, undefined],
    [1, 6],
    [2, undefined],
    [3, 6],
  ]);
  const found = lines.flatMap(({ frechet }) => (frechet as number) ?? []);
  expect(found[0]).not.toBe(found[1]);

  // TensorBoard is told the same.
  const events = await tensorBoardEvents(at('judged/ar/events.out.tfevents.0.detailflow'));
  const told = events.flatMap(({ step, summary }) =>
    (summary?.value ?? [])
      .filter(({ tag }: { tag: string }) => tag === 'frechet' || tag === 'drawn')
      .map(({ tag, simple_value: value }: { tag: string; simple_value: number }) => [step, tag, value]),
  );
  expect(told).toEqual([
    [1, 'frechet', Math.fround(found[0])],
    [1, 'drawn', 6],
    [3, 'frechet', Math.fround(found[1])],
    [3, 'drawn', 6],
  ]);
  expect(readdirSync(at('judged/ar/pictures')).filter((name) => name.endsWith('.png'))).toHaveLength(2);

  await cliJson(
    'train',
    'bundle',
    '--run',
    at('judged'),
    '--out',
    at('judged-last'),
    '--step',
    '4',
    '--tokenizer',
    at('judged-tokenizer/bundle'),
  );
  const { rows, real } = await cliJson(
    ...['eval', 'generation', '--model', at('judged-last'), '--data', 'shapes:60x16', '--features', network],
    ...['--count', '6', '--cfg', '1.5', '--out', at('judged-eval')],
  );
  const { data } = JSON.parse(readFileSync(at('judged-last/config.json'), 'utf8'));
  expect(real).toBe(data.heldOut.heldOut);
  expect(rows[0].frechet / found[1]).toBeCloseTo(1, 5);

  // A judge that is missing is missed before hours of training, and one picture is none.
  expect(await cliFailure(1, ...ar('unjudged', ...drawn.slice(0, 2)))).toMatch(
    /validation\.generate.*needs a network that judges pictures/,
  );
  expect(existsSync(at('unjudged'))).toBe(false);
  expect(await cliFailure(1, ...ar('one', '--set', 'validation.generate=1'))).toMatch(/one picture/);
});

test('images that are cut off stop a run before it begins; whole ones then have its folder', async () => {
  const whole = readFileSync(inRepository('tests/fixtures/parquet/pages/snappy.parquet'));
  writeFileSync(at('set.parquet'), whole.subarray(0, Math.floor(whole.length / 2)));
  const training = ['train', 'tokenizer', '--config', at('settings.json'), '--data', at('set.parquet')];
  const cut = await cli([...training, '--out', at('cut-off')]);
  expect(cut).toMatchObject({ code: 1, stdout: '' });
  expect(cut.stderr).toMatch(/set\.parquet: is no sound Parquet file/);
  expect(readdirSync(at('cut-off'), { recursive: true, encoding: 'utf8' }).join()).not.toMatch(
    /checkpoints|bundle|log\.jsonl|codes/,
  );
  writeFileSync(at('set.parquet'), whole);
  const made = await cliJson(...training, '--out', at('cut-off'));
  expect(made.data.images).toBe(40);
});

test.each([
  [['--set', 'steps'], 2, /--set "steps": give a setting and its value/],
  [['--set', 'tokenizer.stepps=3'], 1, /tokenizer\.stepps: is no setting here/],
  [['--set', 'tokenizer.steps=3', '--set', 'tokenizer.steps=4'], 2, /given twice/],
  [['--set', 'tokenizer.sizes={"imageSize":13}'], 1, /images of 13 pixels; the nearest sizes are 8 and 16/],
  [['--set', 'tokenizer.frozen=7', '--set', 'tokenizer.frozen.x=1'], 2, /"frozen" is given as a value/],
  [['--set', 'tokenizer.frozen=["x"]', '--set', 'tokenizer.frozen.y=1'], 2, /"frozen" is given as a value/],
  [['--init', '@detailflow/model-fashion-32', '--init-key', 'ema'], 2, /has no checkpoints\/\*\.pt/],
  [['--set', 'tokenizer.frozen=7'], 1, /tokenizer\.frozen: must be a list of texts/],
  [['--set', 'tokenModel.imageSize=15'], 1, /tokenModel\.imageSize.*15 pixels/],
])('%j is refused', async (more, code, message) => {
  expect(await cliFailure(code as 1, ...run('tokenizer', 'x', ...(more as string[])))).toMatch(
    message as RegExp,
  );
});

/** What a command says that fails after it has looked at its images. */
async function failure(...args: string[]): Promise<string> {
  const { code, stderr } = await cli(args);
  expect(code).toBe(1);
  return stderr;
}

async function weightsOf(
  bundle: string,
  half: 'tokenizer' | 'ar' = 'tokenizer',
): Promise<Map<string, Float32Array>> {
  const opened = await openModel(bundle);
  const values = new Map<string, Float32Array>();
  for (const [name, weight] of opened[half]?.weights ?? []) values.set(name, await readFloat32(weight));
  await opened.close();
  return values;
}
