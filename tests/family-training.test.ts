import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createNodeBackend } from '@detailflow/backend-node';
import { llamagenTraining, parTraining } from '@detailflow/llamagen/trainable';
import { parseRunSettings, type RunSettings, type TrainableFamily } from '@detailflow/train';
import { bundleRun, readSnapshot, type TrainOptions, train, trainClassifier } from '@detailflow/train/node';
import { varTraining } from '@detailflow/var/trainable';
import { load, openFamilyModel } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

type Settings = Record<string, unknown>;

/** What an action throws. */
const refused = (action: Promise<unknown>): Promise<unknown> =>
  action.then(
    () => undefined,
    (error: unknown) => error,
  );

const families = [llamagenTraining, parTraining, varTraining];
const tower = { channels: [32, 32], blocks: 1, latentChannels: 8 };
const vq = { encoder: tower, decoder: tower, codebookSize: 24, codeDim: 4 };
const gpt = { dim: 16, layers: 2, heads: 2, hiddenDim: 32 };
const models: Record<string, { tokenizer: Settings; ar: Settings; schedule: number[] }> = {
  llamagen: { tokenizer: { ...vq, imageSize: 8 }, ar: gpt, schedule: Array(16).fill(1) },
  par: { tokenizer: { ...vq, imageSize: 8 }, ar: { ...gpt, groupSize: 4 }, schedule: [1, 1, 1, 1, 4, 4, 4] },
  var: {
    tokenizer: { ...vq, scales: [1, 2, 4] },
    ar: { depth: 2, dim: 16, heads: 2 },
    schedule: [1, 4, 16],
  },
};

const settingsOf = (name: string, over: { tokenizer?: Settings; tokenModel?: Settings } = {}): Settings => ({
  ...{ family: name, name: `tiny-${name}`, seed: 5, replicas: 1 },
  data: { fit: 'crop', heldOut: 0.2, flip: true, views: 'center+mirror' },
  tokenizer: {
    model: models[name].tokenizer,
    ...{ steps: 6, batch: 4, microBatch: 2, learningRate: 1e-3, clip: 1, averageDecay: 0.9 },
    revival: { every: 2, until: 0.8, patience: 2 },
    ...over.tokenizer,
  },
  tokenModel: {
    model: models[name].ar,
    ...{ steps: 5, batch: 4, microBatch: 4, learningRate: 1e-3, weightDecay: 0.05, averageDecay: 0.9 },
    ...{ labelDropout: 0.3, dropPath: 0.3 },
    ...over.tokenModel,
  },
  classifier: { widths: [4, 4, 4], features: 8, steps: 2, batch: 8 },
  checkpoints: { every: 2, keep: 2 },
  validation: { every: 4, images: 4 },
});

const parsed = (name: string, over?: Parameters<typeof settingsOf>[1]): RunSettings =>
  parseRunSettings(settingsOf(name, over), { families });

let home: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'family-training-'));
});
afterAll(async () => rm(home, { recursive: true }));

const options = (settings: RunSettings, out: string, over: Partial<TrainOptions> = {}): TrainOptions => ({
  ...{ part: 'all', data: 'shapes:24x8', out: path.join(home, out) },
  createBackend: ({ threads }) => createNodeBackend({ threads }),
  ...settings,
  ...over,
});

describe.each(families)('a run of $name', ({ name, family }: TrainableFamily) => {
  const at = (out: string) => `${name}-${out}`;
  const fileOf = (out: string, ...parts: string[]) => path.join(home, at(out), ...parts);

  test('ends with a model that draws; one that is stopped and resumed is the same to the last bit', async () => {
    await train(options(parsed(name), at('whole')));
    for (let stop = 0; stop < 2; stop++) {
      const controller = new AbortController();
      let steps = 0;
      const stopped = train(
        options(parsed(name), at('stopped'), {
          ...{ resume: true, signal: controller.signal },
          onProgress: ({ stage }) => {
            if (stage !== 'codes' && ++steps >= 4) controller.abort(new Error('stop'));
          },
        }),
      );
      await expect(stopped).rejects.toThrow('stop');
    }
    await train(options(parsed(name), at('stopped'), { resume: true }));
    for (const [stage, step] of [
      ['tokenizer', 6],
      ['ar', 5],
    ]) {
      const [log, other] = await Promise.all(
        ['whole', 'stopped'].map((out) => readFile(fileOf(out, `${stage}`, 'log.jsonl'), 'utf8')),
      );
      expect(log).toBe(other);
      expect(log.trim().split('\n')).toHaveLength(Number(step));
      const checkpoint = path.join('checkpoints', `step-${String(step).padStart(9, '0')}.safetensors`);
      const [a, b] = await Promise.all(
        ['whole', 'stopped'].map((out) => readSnapshot(fileOf(out, `${stage}`, checkpoint))),
      );
      expect(Object.keys(a.tensors)).toEqual(Object.keys(b.tensors));
      for (const [key, { data }] of Object.entries(a.tensors)) expect(data, key).toEqual(b.tensors[key].data);
    }
    expect(await readFile(fileOf('whole', 'report.html'), 'utf8')).toContain('Loss by position');

    const backend = await createNodeBackend({ threads: 1 });
    const model = await load(fileOf('whole', 'bundle'), { backend });
    expect(model.family).toBe(family);
    expect(model.tokenModel?.schedule).toEqual(models[name].schedule);
    const steps = [];
    for await (const step of model.generate({ labels: [0, 7], seed: 3, cfg: 1.5 })) steps.push(step);
    expect((await steps[steps.length - 1].pixels()).dims).toEqual([2, 3, 8, 8]);
    await model.dispose();
    await backend.close();
  }, 500_000);

  test('any checkpoint becomes a bundle, which trains on, and whose tokenizer serves another run', async () => {
    const made = await bundleRun({ run: fileOf('whole'), out: fileOf('bundled'), step: 4, families });
    expect(made.steps).toEqual({ tokenizer: 6, ar: 4 });
    const error = await refused(bundleRun({ run: fileOf('whole'), out: fileOf('unknown') }));
    expect(error).toMatchObject({ code: 'config', entry: 'family', message: expect.stringContaining(name) });

    const opened = await openFamilyModel(fileOf('bundled'));
    const settings = parsed(name, { tokenModel: { steps: 1 } });
    const initial = { tokenizer: opened.tokenizer, ar: opened.ar };
    await train(options(settings, at('next'), { initial, tokenizer: opened.tokenizer }));
    const [before, after] = await Promise.all(
      ['bundled', 'next/bundle'].map(async (out) => {
        const one = await openFamilyModel(fileOf(out));
        const bytes = await one.tokenizer.weights.get('quantize.embedding.weight')?.read();
        await one.close();
        return bytes;
      }),
    );
    expect(before).toEqual(after);
    const foreign = { ...opened.tokenizer, config: { ...opened.tokenizer.config, codeDim: 5 } };
    expect(await refused(train(options(settings, at('foreign'), { tokenizer: foreign })))).toMatchObject({
      code: 'config',
      entry: 'tokenizer.model.codeDim',
    });
    await opened.close();
  }, 500_000);

  test('what only DetailFlow has is refused', async () => {
    const run = (over: Partial<TrainOptions>) =>
      refused(train(options(parsed(name), at('whole'), { resume: true, ...over })));
    const official = { code: 'unsupported', message: expect.stringContaining(name) };
    expect(await run({ part: 'ar', codes: ['nowhere'] })).toMatchObject(official);
    expect(await run({ part: 'codes', saveCodes: path.join(home, 'codes') })).toMatchObject(official);
    expect(await run({ family: undefined })).toMatchObject({ code: 'config', entry: 'family' });
  }, 500_000);
});

test('a perceptual and an adversarial loss, and a classifier of the same pictures', async () => {
  const plain = parsed('llamagen');
  const file = path.join(home, 'judge.safetensors');
  const { part: _, ...how } = options(plain, 'judge');
  const { data, createBackend } = how;
  await trainClassifier({ ...plain, data, createBackend, out: file });
  const settings = parsed('llamagen', {
    tokenizer: {
      perceptual: { network: 'classifier', weight: 0.1, warmup: 2 },
      adversarial: { start: 3, weight: 0.1, adaptive: true, width: 8, layers: 1 },
    },
  });
  await train(options(settings, 'losses', { part: 'tokenizer', lossNetworks: { classifier: file } }));
  const log = await readFile(path.join(home, 'losses', 'tokenizer', 'log.jsonl'), 'utf8');
  const lines = log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines[0].extra).toEqual({ perceptual: 0 });
  expect(lines[5].extra).toEqual({ perceptual: expect.any(Number), adversarial: expect.any(Number) });
  expect(lines[5].extra.perceptual).toBeGreaterThan(0);
  expect(lines[5].adversary.discriminator).toBeGreaterThan(0);
  expect(lines[0]).not.toHaveProperty('adversary');
}, 500_000);

describe('settings', () => {
  const parse = (value: unknown, family?: string) => () =>
    parseRunSettings(value, { families, family, file: 'mine.json' });
  const bad = (entry: string, message: RegExp) =>
    expect.objectContaining({ code: 'config', entry, message: expect.stringMatching(message) });

  test('presets say their family; what has none is of DetailFlow, or of the family that is asked for', () => {
    for (const { name, presets } of families) {
      for (const preset of Object.keys(presets)) {
        expect(parse({ preset })().config).toMatchObject({ family: name, name: preset });
        expect(parse({ preset }, name)().family?.name).toBe(name);
      }
      const { family: _, ...plain } = settingsOf(name);
      expect(parse(plain, name)()).toEqual(parse(settingsOf(name))());
    }
    expect(parse({ preset: 'tiny-32' })()).not.toHaveProperty('family');
    expect(parse({ preset: 'tiny-32', family: 'detailflow' }, 'detailflow')().config).toMatchObject({
      name: 'tiny-32',
    });
  });

  test('what is read is read again the same', () => {
    for (const { name } of families) {
      const { config } = parse(settingsOf(name))();
      const { tokenizer, tokenModel } = config;
      const again = settingsOf(name, {
        tokenizer: { model: tokenizer.model },
        tokenModel: { model: tokenModel.model },
      });
      expect(JSON.stringify(parse(again)().config)).toBe(JSON.stringify(config));
    }
  });

  test('families that do not fit', () => {
    expect(parse({ preset: 'tiny-33' })).toThrow(bad('preset', /llamagen-32.*var-32/));
    expect(parse({ ...settingsOf('par'), family: 'maskgit' })).toThrow(
      bad('family', /detailflow, llamagen, par, var/),
    );
    expect(parse(settingsOf('par'), 'maskgit')).toThrow(bad('family', /"par".*"maskgit"/));
    expect(parse({ preset: 'par-32' }, 'llamagen')).toThrow(bad('family', /"par".*"llamagen"/));
    expect(parse({ preset: 'par-32', family: 'llamagen' })).toThrow(
      bad('family', /"llamagen".*preset is "par"/),
    );
    expect(parse({ preset: 'tiny-32' }, 'var')).toThrow(bad('family', /"detailflow".*"var"/));
    expect(parse({ preset: 'tiny-32', family: 'var' })).toThrow(bad('family', /preset is "detailflow"/));
  });

  test.each<[string, string, Settings, string, RegExp]>([
    ['llamagen', 'tokenizer', { degradation: 0.2 }, 'tokenizer.degradation', /no setting here/],
    ['llamagen', 'tokenizer', { correction: 0.3 }, 'tokenizer.correction', /no setting here/],
    ['var', 'tokenizer', { alignment: { weight: 1 } }, 'tokenizer.alignment', /no setting here/],
    ['par', 'tokenModel', { correction: 0.3 }, 'tokenModel.correction', /no setting here/],
    ['var', 'tokenizer', { entropyRatio: 0.1 }, 'tokenizer.entropyRatio', /no setting here/],
    ['var', 'tokenModel', { dropout: 0.1 }, 'tokenModel.dropout', /no setting here/],
    ['llamagen', 'tokenModel', { dropout: 0.1 }, 'tokenModel.dropPath', /takes the place of dropout/],
    ['llamagen', 'tokenizer', { batch: 5 }, 'tokenizer.batch', /multiple of microBatch/],
  ])('%s: %s %j', (name, section, over, entry, message) => {
    expect(parse(settingsOf(name, { [section]: over }))).toThrow(bad(entry, message));
  });

  test.each<[string, Settings, string, RegExp]>([
    ['llamagen', { tokens: 16 }, 'tokenizer.model.tokens', /no setting here/],
    [
      'llamagen',
      { encoder: { ...tower, patchSize: 4 } },
      'tokenizer.model.encoder.patchSize',
      /no setting here/,
    ],
    ['llamagen', { encoder: { ...tower, channels: [32, 40] } }, 'tokenizer.model', /40 channels.*32 groups/],
    [
      'llamagen',
      { decoder: { ...tower, channels: [32] } },
      'tokenizer.model',
      /shrinks 2 times.*grows 1 times/,
    ],
    ['par', { imageSize: 9 }, 'tokenizer.model', /9 must be a multiple of 2/],
    ['par', { codebookSize: 0 }, 'tokenizer.model.codebookSize', /whole number from 1/],
    ['var', { scales: [1, 2, 4, 3] }, 'tokenizer.model.scales', /last is square and the largest/],
    ['var', { scales: [1, 3, 2, 4] }, 'tokenizer.model.scales', /each larger than the one before/],
    ['var', { scales: [4] }, 'tokenizer.model.scales', /two or more/],
    ['var', { scales: [1, [2, 4]] }, 'tokenizer.model.scales', /last is square/],
    ['var', { scales: 'small' }, 'tokenizer.model', /sides/],
    ['var', { imageSize: 32 }, 'tokenizer.model.scales', /no image of 32/],
    ['var', { codeDim: 4, isNormalised: true }, 'tokenizer.model.isNormalised', /only false/],
    ['var', { refinement: { kind: 'each', count: 2 } }, 'tokenizer.model.refinement.count', /there are 3/],
    ['var', { refinement: { kinds: 'each' } }, 'tokenizer.model.refinement.kinds', /no setting here/],
    [
      'var',
      { encoder: { ...tower, channels: [32, 40] } },
      'tokenizer.model.channels',
      /40 cannot be divided/,
    ],
    ['var', { quantKernel: 2 }, 'tokenizer.model.quantKernel', /odd number/],
  ])('%s: tokenizer.model %j', (name, model, entry, message) => {
    const over = { tokenizer: { model: { ...models[name].tokenizer, ...model } } };
    expect(parse(settingsOf(name, over))).toThrow(
      expect.objectContaining({ entry, message: expect.stringMatching(message) }),
    );
  });

  test.each<[string, Settings, string, RegExp]>([
    ['par', { groupSize: 3 }, 'tokenModel.model', /multiples of groupSize/],
    ['par', { groupSize: 8 }, 'tokenModel.model', /cannot be cut into 8 regions/],
    ['par', { groupSize: undefined }, 'tokenModel.model.groupSize', /whole number from 1/],
    ['llamagen', { groupSize: 4 }, 'tokenModel.model.groupSize', /no setting here/],
    ['llamagen', { heads: 3 }, 'tokenModel.model', /heads \(3\)/],
    ['var', { layers: 2 }, 'tokenModel.model.layers', /no setting here/],
    ['var', { heads: 3 }, 'tokenModel.model.heads', /must divide dim/],
    ['var', { depth: 5000 }, 'tokenModel.model.depth', /at most 1024/],
  ])('%s: tokenModel.model %j', (name, model, entry, message) => {
    const over = { tokenModel: { model: { ...models[name].ar, ...model } } };
    expect(parse(settingsOf(name, over))).toThrow(bad(entry, message));
  });
});

test('presets of one size: parameters within 10 % of tiny-32, the same images seen by the same recipe', async () => {
  const { tokenModelParameters } = await import('@detailflow/ar-model');
  const { parseTrainingConfig } = await import('@detailflow/train');
  const { tokenizerParameters } = await import('@detailflow/tokenizer');
  const count = (specs: readonly { readonly shape: readonly number[] }[]) =>
    specs.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const own = parseTrainingConfig({ preset: 'tiny-32' });
  const [tokenizer, ar] = [
    count(tokenizerParameters(own.tokenizer.model)),
    count(tokenModelParameters({ ...own.tokenModel.model, classes: 10 })),
  ];
  for (const family of families) {
    for (const preset of Object.keys(family.presets)) {
      const { config } = parseRunSettings({ preset }, { families });
      const made = family.tokenizer(config.tokenizer.model);
      const gpt = family.tokenModel(config.tokenModel.model, { tokenizer: made, classes: 10 });
      expect(made.imageSize).toBe(own.tokenizer.model.imageSize);
      expect(made.codebookSize).toBe(own.tokenizer.model.codebookSize);
      expect(Math.abs(count(made.specs) / tokenizer - 1), preset).toBeLessThan(0.1);
      expect(Math.abs(count(gpt.specs) / ar - 1), preset).toBeLessThan(0.1);
      for (const half of ['tokenizer', 'tokenModel'] as const) {
        const seen = ({ batch, recipe }: (typeof config)[typeof half]) => {
          const { schedule, optimiser, learningRate, averageDecay } = recipe;
          return { batch, schedule, optimiser, learningRate, averageDecay };
        };
        expect(seen(config[half])).toEqual(seen(own[half]));
      }
      expect(config.data).toEqual(own.data);
    }
  }
});
