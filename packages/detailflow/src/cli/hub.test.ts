import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  cli,
  cliFailure,
  cliJson,
  codeRows,
  fashion,
  goldenBoth,
  inRepository,
  testFolder,
} from '../../../../tests/cli';
import { testHub } from '../../../../tests/hub-environment';
import { siglipFolder } from '../../../../tests/siglip-folder';
import { load } from '../load';
import { releasedModels } from '../released-models';

const at = testFolder();
const { hub, drawn } = testHub(at, {
  '': 'tests/fixtures/fashion-ref',
  'golden/tokenizer/': 'tests/fixtures/golden/A/tokenizer',
  'golden/ar/': 'tests/fixtures/golden/A/ar',
  'bundle/': 'packages/model-fashion-32/model',
});
beforeAll(() => {
  hub.add('unused/huge.safetensors', new Uint8Array(1000), { large: true });
});

describe('a model on the hub', () => {
  test('draws what it draws from disk; only what is needed is fetched, and once', async () => {
    const local = await drawn(fashion, 'local');
    expect(await drawn(['--model', 'hf:acme/tiny'], 'first')).toEqual(local);
    const fetched = [...hub.files.keys()].filter((file) => hub.transfers(file) > 0);
    expect(fetched).toContain('tokenizer/config.json');
    expect(fetched.some((file) => /^(golden|bundle|files|unused)/.test(file))).toBe(false);
    const counts = fetched.map((file) => hub.transfers(file));
    expect(await drawn(['--model', 'hf:acme/tiny'], 'second')).toEqual(local);
    process.env.HF_HUB_OFFLINE = '1';
    const asked = hub.seen.length;
    expect(await drawn(['--model', 'hf:acme/tiny@main'], 'offline')).toEqual(local);
    expect(hub.seen.length).toBe(asked);
    expect(fetched.map((file) => hub.transfers(file))).toEqual(counts);
  });

  test('as a folder of an official model, as its two halves, and mixed with folders here', async () => {
    const local = await cliJson('inspect', ...goldenBoth('A'));
    const [, tokenizer, , ar] = goldenBoth('A');
    const far = ['hf:acme/tiny/golden/tokenizer', 'hf:acme/tiny/golden/ar'];
    for (const args of [
      ['hf:acme/tiny/golden'],
      ['--model', 'hf:acme/tiny/golden'],
      ['--tokenizer', far[0], '--ar', far[1]],
      ['--tokenizer', tokenizer, '--ar', far[1]],
      ['--tokenizer', far[0], '--ar', ar],
    ]) {
      const { tokenizer: one, ar: two } = await cliJson('inspect', ...args);
      expect({ ...one, file: '' }).toEqual({ ...local.tokenizer, file: '' });
      expect({ ...two, file: '' }).toEqual({ ...local.ar, file: '' });
    }
  });

  test('from a web server', async () => {
    const out = at('web.npy');
    const args = ['--class', '3', '--seed', '5', '--save-tokens', out, '--out', at('web.png')];
    const address = `${hub.endpoint}/acme/tiny/resolve/main/bundle/`;
    const { code, stderr } = await cli(['generate', '--model', address, ...args]);
    expect(code).toBe(0);
    expect(stderr).toContain('only the length is checked');
    expect(await codeRows(out)).toEqual(
      await drawn(['--model', inRepository('packages/model-fashion-32/model')], 'disk'),
    );
  });

  test('by ranges, with nothing kept', async () => {
    const large = [...hub.files].filter(([, { isLarge }]) => isLarge).map(([file]) => file);
    const before = large.map((file) => hub.transfers(file));
    const out = at('partial.npy');
    const args = [
      '--class',
      '3',
      '--seed',
      '5',
      '--save-tokens',
      out,
      '--out',
      at('partial.png'),
      '--partial',
    ];
    const { code, stderr } = await cli(['generate', '--model', 'hf:acme/tiny/golden', ...args]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining('read by ranges') });
    expect(await codeRows(out)).toEqual(await drawn(goldenBoth('A'), 'whole'));
    expect(large.map((file) => hub.transfers(file))).not.toEqual(before);
    const kept = readdirSync(process.env.HF_HOME as string, { recursive: true, encoding: 'utf8' });
    expect(kept.filter((file) => /\.(pt|safetensors)$/.test(file))).toEqual([]);
    expect(kept.some((file) => file.endsWith('config.json'))).toBe(true);
    const evaluation = [
      'eval',
      'generation',
      '--model',
      'hf:acme/tiny',
      '--partial',
      '--features',
      'x',
      '--data',
      'y',
    ];
    expect(await cliFailure(2, ...evaluation, '--out', at('none'))).toContain('--partial');
  });

  test('in a program', async () => {
    const model = await load('hf:acme/tiny');
    expect(model.detailflow?.tokenModel?.config.classes).toBe(10);
    await model.dispose();
  });
});

test('data and networks are fetched as well', async () => {
  hub.add('bad.npz', new TextEncoder().encode('no archive'));
  const args = [
    '--model',
    'hf:acme/tiny',
    '--features',
    `${hub.endpoint}/acme/tiny/resolve/main/config.json`,
  ];
  const said = await cliFailure(
    1,
    'eval',
    'generation',
    ...args,
    '--data',
    'hf:acme/tiny/bad.npz',
    '--out',
    at('eval'),
  );
  expect(said).toContain('config.json');
  expect(hub.transfers('bad.npz')).toBe(1);
});

describe('training', () => {
  const tower = { width: 8, heads: 2, layers: 1, mlpWidth: 12, patchSize: 8, positionGrid: 2 };
  const settings = {
    ...{ preset: 'tiny-32', replicas: 1, seed: 7, name: 'far' },
    data: { views: 'center' },
    tokenizer: {
      model: {
        ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
        ...{ encoder: tower, decoder: tower },
      },
      ...{ steps: 2, batch: 2, microBatch: 2, warmup: 0 },
      ...{ pretrained: { encoder: true }, alignment: { weight: 0.5 }, repa: { layer: 0, width: 8 } },
    },
    tokenModel: { model: { dim: 8, layers: 1, heads: 2 }, steps: 2, batch: 2, microBatch: 2, warmup: 0 },
    validation: { every: 2, images: 2, generate: 2 },
  };
  const log = (out: string, stage: string) => readFileSync(at(`${out}/${stage}/log.jsonl`), 'utf8');
  const run = (part: string, out: string, ...more: string[]) => [
    ...['train', part, '--config', at('far.json'), '--out', at(out), ...more],
  ];
  const networks = (folder: string) =>
    ['siglip', 'alignment', 'features'].flatMap((name) => [`--${name}`, folder]);
  const parquet = inRepository('tests/fixtures/parquet/shapes');

  beforeAll(async () => {
    writeFileSync(at('far.json'), JSON.stringify(settings));
    const siglip = await siglipFolder(at('siglip'), { sizes: { patchSize: 8 } });
    for (const [folder, name] of [
      [siglip, 'siglip'],
      [parquet, 'shapes'],
    ])
      for (const file of readdirSync(folder))
        hub.add(`${name}/${file}`, readFileSync(path.join(folder, file)), { large: !file.endsWith('.json') });
  });

  test('takes images and networks from there, and makes of them what it makes of those here', async () => {
    const here = await cli([...run('all', 'here', '--data', parquet, ...networks(at('siglip'))), '--json']);
    expect(here.code, here.stderr).toBe(0);
    expect(here.stderr).toMatch(/^\d+ of \d+ held-out images are among the training images, too/m); // some are alike
    const far = await cli([
      ...run('all', 'far', '--data', 'hf:acme/tiny/shapes', ...networks('hf:acme/tiny/siglip')),
      '--json',
    ]);
    expect({ ...far, stdout: '' }).toEqual({ code: 0, stdout: '', stderr: expect.any(String) });
    for (const stage of ['tokenizer', 'ar']) expect(log('far', stage)).toBe(log('here', stage));
    expect(hub.transfers('siglip/model.safetensors')).toBe(1);
    expect(log('far', 'ar')).toContain('frechet');
  });

  test('begins with a model, a file or a state dict from there', async () => {
    const official = at('here/official/tokenizer');
    const [file] = readdirSync(path.join(official, 'checkpoints'));
    for (const name of readdirSync(official, { recursive: true, encoding: 'utf8' })) {
      if (!statSync(path.join(official, name)).isFile()) continue;
      const bytes = readFileSync(path.join(official, name));
      hub.add(`start/${name.split(path.sep).join('/')}`, bytes, { large: name.endsWith('.pt') });
    }
    const losses = ['siglip', 'alignment'].flatMap((name) => [`--${name}`, at('siglip')]);
    const data = ['--data', parquet, ...losses];
    const here = await cli(run('tokenizer', 'start-here', ...data, '--init', official));
    expect(here).toMatchObject({ code: 0, stderr: expect.stringContaining('pretrained changes nothing') });
    for (const [i, start] of [
      ['hf:acme/tiny/start'],
      [`hf:acme/tiny/start/checkpoints/${file}`],
      ['hf:acme/tiny/start', '--init-key', 'model'],
      [`${hub.endpoint}/acme/tiny/resolve/main/start/checkpoints/${file}`],
    ].entries()) {
      const { code, stderr } = await cli(run('tokenizer', `start-${i}`, ...data, '--init', ...start));
      expect({ code, stderr }).toMatchObject({ code: 0 });
      expect(log(`start-${i}`, 'tokenizer'), start.join(' ')).toBe(log('start-here', 'tokenizer'));
    }
    expect(log('start-here', 'tokenizer')).not.toBe(log('here', 'tokenizer'));
    const wrong = (code: 1 | 2, ...start: string[]) =>
      cliFailure(code, ...run('tokenizer', 'wrong', ...data, '--init', ...start));
    expect(await wrong(2, 'hf:acme/tiny/bundle', '--init-key', 'model')).toContain('has no checkpoints/*.pt');
    expect(await wrong(1, 'hf:acme/tiny/start/checkpoints/none.pt')).toContain('none.pt');
    expect(await wrong(1, 'hf:acme/none')).toContain('there is no such repository');
  });
});

describe('what goes wrong', () => {
  test.each([
    ['hf:acme', 2, 'is no address on the hub'],
    ['hf:acme/none', 1, 'there is no such repository'],
    ['hf:acme/tiny@v7', 1, 'there is no such revision'],
    ['hf:acme/tiny/none', 1, 'config.json'],
  ] as const)('%s', async (model, code, message) => {
    expect(await cliFailure(code, 'inspect', '--model', model)).toContain(message);
  });

  test('gated, offline', async () => {
    hub.hubFault = () => [403, { 'x-error-code': 'GatedRepo' }];
    expect(await cliFailure(1, 'inspect', 'hf:acme/tiny')).toContain('grants access on request');
    process.env.HF_HUB_OFFLINE = '1';
    expect(await cliFailure(1, 'inspect', 'hf:acme/tiny')).toContain('HF_HUB_OFFLINE');
  });
});

describe('released models', () => {
  test('are listed with size and licence', async () => {
    const { models } = await cliJson('models');
    expect(models).toEqual(releasedModels);
    expect(
      models.map(({ license, bytes }: { license: string; bytes: number }) => [license, bytes > 5e9]),
    ).toEqual(Array(3).fill(['Apache-2.0', true]));
  });

  test('are asked for by their repository', async () => {
    expect(await cliFailure(1, 'inspect', 'detailflow-16')).toContain('hf:ByteVisionLab/DetailFlow-16');
    expect(hub.seen.at(-1)?.url).toContain('/ByteVisionLab/DetailFlow-16');
    await expect(load('detailflow-64')).rejects.toMatchObject({ code: 'not-found' });
  });
});
