import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
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
import { siglipFolder } from '../../../../tests/siglip-folder';
import { StandInHub } from '../../../../tests/stand-in-hub';
import { load } from '../load';
import { releasedModels } from '../released-models';

const at = testFolder();
const hub = new StandInHub();
const variables = ['HF_ENDPOINT', 'HF_HOME', 'HF_HUB_CACHE', 'HF_TOKEN', 'HF_HUB_OFFLINE'] as const;
const before = variables.map((name) => [name, process.env[name]] as const);

/** Puts a folder of the repository into the hub. */
function publish(folder: string, prefix = '') {
  const root = inRepository(folder);
  for (const file of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (!statSync(path.join(root, file)).isFile()) continue;
    const large = /\.(safetensors|pt)$/.test(file);
    hub.add(prefix + file.split(path.sep).join('/'), readFileSync(path.join(root, file)), { large });
  }
}

beforeAll(async () => {
  await hub.start();
  publish('tests/fixtures/fashion-ref');
  publish('tests/fixtures/golden/A/tokenizer', 'golden/tokenizer/');
  publish('tests/fixtures/golden/A/ar', 'golden/ar/');
  publish('packages/model-fashion-32/model', 'bundle/');
  publish('tests/fixtures/golden/family/llamagen/vq', 'files/vq/');
  publish('tests/fixtures/golden/family/llamagen/gpt_c2i', 'files/c2i/');
  hub.add('unused/huge.safetensors', new Uint8Array(1000), { large: true });
});
afterAll(async () => {
  await hub.stop();
  for (const [name, value] of before) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
});
let home = 0;
beforeEach(() => {
  for (const name of variables) delete process.env[name];
  Object.assign(process.env, { HF_ENDPOINT: hub.endpoint, HF_HOME: at(`home-${home++}`) });
  hub.hubFault = () => undefined;
});

async function drawn(model: readonly string[], name: string): Promise<number[][]> {
  const tokens = at(`${name}.npy`);
  await cliJson(
    'generate',
    ...model,
    '--class',
    '3',
    '--seed',
    '5',
    '--save-tokens',
    tokens,
    '--out',
    at(`${name}.png`),
  );
  return codeRows(tokens);
}

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

describe('push', () => {
  const model = inRepository('packages/model-fashion-32/model');
  afterEach(() => hub.writes.objects.clear());

  test('puts a model on the hub, from where it is loaded and draws as before', async () => {
    const address = 'hf:acme/tiny/pushed';
    const listed = await cli(['push', model, address, '--dry-run']);
    expect(listed).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/would be sent .*MB\n(.|\n)*ar\.safetensors/),
    });
    expect([...hub.files.keys()].some((file) => file.startsWith('pushed/'))).toBe(false);
    process.env.HF_TOKEN = 'hf_x';
    const sent = await cliJson('push', model, address, '--message', 'First');
    expect(sent.commit).toBe(hub.commit);
    expect(hub.writes.commits.at(-1)).toMatchObject({ summary: 'First' });
    const again = await cli(['push', model, address]);
    expect(again.stdout).toContain(`nothing has changed since commit ${hub.commit}`);
    expect(await drawn(['--model', address], 'from-hub')).toEqual(
      await drawn(['--model', model], 'from-disk'),
    );
  });

  test('stops by Ctrl-C in the middle of a file, and the branch is as it was', async () => {
    process.env.HF_TOKEN = 'hf_x';
    const before = hub.commit;
    hub.writes.uploadFault = () => ({ stallAfter: 1 });
    const begun = hub.writes.uploads;
    const stopped = await cli(['push', model, 'hf:acme/tiny/stopped'], {
      interrupt: async (ready) => {
        await ready;
        await vi.waitFor(() => expect(hub.writes.uploads).toBeGreaterThan(begun), { timeout: 60_000 });
      },
    });
    hub.writes.uploadFault = () => undefined;
    expect(stopped).toMatchObject({ code: 130, stderr: expect.stringContaining('push: stopped') });
    expect(hub.commit).toBe(before);
  });

  test('says what is missing', async () => {
    process.env.HF_HUB_DISABLE_IMPLICIT_TOKEN = '1';
    expect(await cliFailure(1, 'push', model, 'hf:acme/tiny')).toContain('set HF_TOKEN');
    delete process.env.HF_HUB_DISABLE_IMPLICIT_TOKEN;
    process.env.HF_TOKEN = 'hf_x';
    expect(await cliFailure(1, 'push', model, 'hf:acme/none')).toMatch(/no such repository.*--create/);
    expect(await cliFailure(1, 'push', model, 'hf:acme/tiny', '--create')).toContain('is there already');
    hub.writes.token = 'hf_owner';
    expect(await cliFailure(1, 'push', model, 'hf:acme/tiny/else')).toMatch(/lacks the right/);
    hub.writes.token = undefined;
    for (const [args, message] of [
      [[model], /which folder/],
      [['hf:acme/tiny', model], /folder first/],
      [[model, 'hf:acme'], /no address/],
      [[model, 'hf:acme/tiny', 'more'], /not expected/],
      [[model, 'hf:acme/tiny', '--private'], /--create/],
    ] as const)
      expect(await cliFailure(2, 'push', ...args)).toMatch(message);
  });
});

describe('a file of weights by its address', () => {
  const family = 'tests/fixtures/golden/family/llamagen';
  const [vq, c2i] = [`${family}/vq/vq_ds4_P.pt`, `${family}/gpt_c2i/c2i_P.pt`].map(inRepository);
  const web = () => `${hub.endpoint}/acme/tiny/resolve/main/files`;
  const far = () => ['hf:acme/tiny/files', web()];
  const halves = (root: string) => ['--tokenizer', `${root}/vq/vq_ds4_P.pt`, '--ar', `${root}/c2i/c2i_P.pt`];
  const args = (name: string) => [
    ...['--class', '3', '--seed', '5', '--save-tokens', at(`${name}.npy`), '--out', at(`${name}.png`)],
  ];
  const kept = () =>
    readdirSync(process.env.HF_HOME as string, { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.pt'),
    );

  test('is a half of a model, from the hub and from a web server, as the same file here', async () => {
    const local = await drawn(['--tokenizer', vq, '--ar', c2i], 'local-files');
    expect(await drawn(halves('hf:acme/tiny/files'), 'far-0')).toEqual(local);
    expect(await drawn(['--tokenizer', vq, '--ar', 'hf:acme/tiny@main/files/c2i/c2i_P.pt'], 'mixed')).toEqual(
      local,
    );
    const [, tokenizer, , ar] = halves(web());
    const sha256 = createHash('sha256').update(readFileSync(vq)).digest('hex');
    const { code, stderr } = await cli([
      ...['generate', '--tokenizer', `${tokenizer}#sha256=${sha256}`, '--ar', `${ar}?download=true`],
      ...args('far-1'),
    ]);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining('only the length is checked'),
    });
    expect(await codeRows(at('far-1.npy'))).toEqual(local);
    for (const root of far()) {
      const model = await load({ tokenizer: `${root}/vq/vq_ds4_P.pt`, ar: `${root}/c2i/c2i_P.pt` });
      expect(model.family).toBe('LlamaGen');
      await model.dispose();
    }
  });

  test('is read by ranges', async () => {
    const { code, stderr } = await cli([
      'generate',
      ...halves('hf:acme/tiny/files'),
      '--partial',
      ...args('ranges'),
    ]);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringContaining('c2i_P.pt: read by ranges'),
    });
    expect(kept()).toEqual([]);
    expect(await codeRows(at('ranges.npy'))).toEqual(
      await drawn(['--tokenizer', vq, '--ar', c2i], 'whole-files'),
    );
  });

  test('that is not there is told by its name', async () => {
    for (const more of [[], ['--partial']]) {
      const wrong = (tokenizer: string) =>
        cliFailure(1, 'generate', '--tokenizer', tokenizer, '--ar', c2i, ...more, ...args('wrong'));
      expect(await wrong('hf:acme/tiny/files/vq/vq_ds5.pt')).toMatch(
        /files\/vq\/vq_ds5\.pt: there is no such file; beside it lie config\.json, vq_ds4_P\.pt/,
      );
      expect(await wrong(`${web()}/vq/vq_ds5.pt`)).toMatch(/files\/vq\/vq_ds5\.pt: there is no such file/);
    }
    process.env.HF_HUB_OFFLINE = '1';
    expect(await cliFailure(1, 'generate', ...halves('hf:acme/tiny/files'), ...args('wrong'))).toContain(
      'HF_HUB_OFFLINE',
    );
    expect(await cliFailure(1, 'generate', ...halves(web()), ...args('wrong'))).toContain(
      'network is not used',
    );
  });

  test('with another content than its hash is refused, as is a folder with a hash', async () => {
    const [, tokenizer, , ar] = halves(web());
    const wrong = (code: 1 | 2, pinned: string) =>
      cliFailure(code, 'generate', '--tokenizer', pinned, '--ar', ar, ...args('pinned'));
    expect(await wrong(1, `${tokenizer}#sha256=${'0'.repeat(64)}`)).toContain('does not have the hash');
    expect(kept()).toEqual([]);
    expect(await wrong(2, `${web()}/vq#sha256=${'0'.repeat(64)}`)).toContain('address of a folder');
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
