import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Weight, weightFromArray } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { writeNpz } from '@detailflow/data';
import { describe, expect, test } from 'vitest';
import {
  cliFailure,
  cliJson,
  codeRows,
  inRepository,
  npy,
  pixels,
  saveNpy,
  testFolder,
} from '../../../../tests/cli';
import { expectClose, floats, golden, goldenJson } from '../../../../tests/golden';

const at = testFolder();
const file = (name: string) => inRepository(`tests/fixtures/golden/family/${name}`);
const vq = ['--tokenizer', file('llamagen/vq')];

/** A model, its golden values, and runs by the options that the official sampler was given. */
interface Case {
  readonly name: string;
  readonly model: readonly string[];
  readonly values: string;
  readonly noise: string;
  readonly labels: string;
  readonly runs: Readonly<Record<string, readonly string[]>>;
}

const choice = (one: Record<string, number>) => [
  ...['--cfg', `${one.cfg_scale ?? one.cfg}`, '--top-k', `${one.top_k}`, '--top-p', `${one.top_p || 1}`],
  ...(one.temperature === undefined ? [] : ['--temperature', `${one.temperature}`]),
  ...(one.cfg_interval === undefined || one.cfg_interval < 0
    ? []
    : ['--cfg-interval', `${one.cfg_interval}`]),
];

const gpt = (set: string, json: string, ar: string, cfg: number): Case => {
  const { sampling } = goldenJson(`family/${json}/golden.json`)[set];
  return {
    ...{ name: set, model: [...vq, '--ar', file(ar)], noise: 'noise', labels: 'gen_labels' },
    values: `family/${json}/golden_${set}.safetensors`,
    runs: {
      greedy: ['--greedy', '--cfg', `${cfg}`],
      greedy_interval: ['--greedy', '--cfg', `${cfg}`, '--cfg-interval', `${sampling.interval}`],
      sampled: choice(sampling.sampled),
    },
  };
};

const scale = goldenJson('family/var/golden.json').config;
const flex = goldenJson('family/flexvar/golden.json').config;
const cases: Case[] = [
  gpt('c2i', 'llamagen', 'llamagen/gpt_c2i', 2),
  gpt('par_g4', 'par', 'par/g4/PAR-P-4x.pt', 1.5),
  gpt('par_g16', 'par', 'par/g16', 1.5),
  {
    name: 'VAR',
    model: ['--model', file('var')],
    ...{ values: 'family/var/golden_var.safetensors', noise: 'gen.noise', labels: 'gen.labels' },
    runs: {
      greedy: ['--cfg', `${scale.greedy_cfg}`, '--top-k', '1', '--top-p', '1'],
      sampled: choice(scale.sampled),
      plain: ['--cfg', `${scale.plain_cfg}`, '--top-k', '0', '--top-p', '1', '--guidance', 'growing'],
    },
  },
];

describe.each(cases)('$name', ({ name, model, values: from, noise, labels, runs }) => {
  const values = golden(from);
  const noiseFile = saveNpy(at(`${name}-noise.npy`), floats(values[noise]), values[noise].shape);

  test.each(Object.entries(runs))('generate draws the tokens of %s', async (run, options) => {
    const codes = at(`${name}-${run}.npy`);
    const classes = Array.from(values[labels].data).join();
    const drawn = ['--class', classes, '--noise', noiseFile, ...options];
    await cliJson('generate', ...model, ...drawn, '--save-tokens', codes, '--out', at(`${name}-${run}`));
    expect((await codeRows(codes)).flat()).toEqual(Array.from(values[`gen.${run}.tokens`].data));
  });
});

describe('FlexVAR', () => {
  const values = golden('family/flexvar/golden_var.safetensors');
  const runs = Object.entries<Record<string, number & number[] & boolean>>(flex.runs);

  test.each(runs)('generate draws the tokens of %s', async (run, one) => {
    const codes = at(`flexvar-${run}.npy`);
    const tokens = values[`gen.${run}.tokens`];
    const classes = Array.from(values['gen.labels'].data).slice(0, tokens.shape[0]).join();
    const found = values[`gen.${run}.noise`];
    const noise = found && ['--noise', saveNpy(at(`flexvar-${run}-noise.npy`), floats(found), found.shape)];
    const rules = {
      ...(one.max_pn !== undefined && { max_pn: one.max_pn }),
      ...(one.invalid_ids !== undefined && { invalid_ids: one.invalid_ids }),
    };
    const settings = at(`flexvar-${run}.json`);
    writeFileSync(settings, JSON.stringify(rules));
    const guidance = one.used_llamagen_cfg ? ['--guidance', 'constant'] : [];
    const options = [
      '--scales',
      (one.pn as number[]).join(),
      '--settings',
      settings,
      ...choice(one),
      ...guidance,
    ];
    const args = ['--class', classes, ...(noise ?? []), ...options, '--save-tokens', codes];
    await cliJson('generate', '--model', file('flexvar'), ...args, '--out', at(`flexvar-${run}`));
    expect((await codeRows(codes)).flat()).toEqual(Array.from(tokens.data));
  });
});

describe('tokenizers', () => {
  const pairs = [
    ['VAR', ['--tokenizer', file('var/vae_ch32v80z8.pth')], 'family/var/golden_vae.safetensors', 'rec.s4'],
    [
      'FlexVAR',
      ['--tokenizer', file('flexvar/FlexVAE.pth')],
      'family/flexvar/golden_vae.safetensors',
      'rec.s4',
    ],
    ['LlamaGen', vq, 'family/llamagen/golden_vq.safetensors', 'dec.pixels'],
  ] as const;
  const codesOf = { VAR: 'enc.codes', FlexVAR: 'enc.codes', LlamaGen: 'enc.indices' };

  test.each(pairs)(
    '%s: decode draws the golden pixels, encode and reconstruct take them',
    async (name, model, from, key) => {
      const values = golden(from);
      const found = values[codesOf[name]];
      const rows = name === 'LlamaGen' ? [2, 64] : found.shape;
      const codes = saveNpy(at(`${name}-codes.npy`), found.data as Int32Array, rows);
      const out = at(`${name}-pixels.npy`);
      await cliJson('decode', ...model, codes, '--out', out);
      const { data, shape } = await npy(out);
      const pixels = data as Float32Array;
      const expected = floats(values[key]);
      expectClose(pixels.slice(0, expected.length), expected);
      const within = pixels.map((x) => Math.min(1, Math.max(-1, x)));
      const given = saveNpy(at(`${name}-images.npy`), within, shape);
      const again = at(`${name}-again.npy`);
      await cliJson('encode', ...model, given, '--out', again);
      expect((await npy(again)).shape).toEqual(rows);
      const { images } = await cliJson('reconstruct', ...model, given, '--out', at(`${name}-strips`));
      expect(images).toHaveLength(rows[0]);
      for (const { steps } of images) {
        expect(steps.length).toBeGreaterThan(3);
        expect(Number.isFinite(steps[steps.length - 1].psnr)).toBe(true);
      }
    },
  );
});

test('previews: every scale, or complete rows', async () => {
  const model = ['--model', file('var')];
  const scales = at('scales.png');
  await cliJson('generate', ...model, '--class', '3', '--progressive', '--out', scales);
  const rows = at('rows.png');
  const raster = [...vq, '--ar', file('llamagen/gpt_c2i')];
  await cliJson('generate', ...raster, '--class', '3', '--progressive', '--out', rows);
  const [first, second] = [await pixels(scales), await pixels(rows)];
  const strip = (pictures: number, side: number) => [pictures * (side + 2) + 2, side + 4]; // 2 pixels between
  expect([first.width, first.height]).toEqual(strip(5, 12));
  expect([second.width, second.height]).toEqual(strip(8, 32));
});

test('FlexVAR draws along scales that are not square', async () => {
  const wide = at('wide.png');
  const codes = at('wide.npy');
  const args = ['--class', '3', '--scales', '1,2x3,3x4,4x6', '--save-tokens', codes];
  await cliJson('generate', '--model', file('flexvar'), ...args, '--out', wide);
  expect(await pixels(wide)).toMatchObject({ width: 24, height: 16 });
  expect((await npy(codes)).shape).toEqual([1, 1 + 6 + 12 + 24]);
  const out = at('wide-pixels.npy');
  await cliJson('decode', '--model', file('flexvar'), '--scales', '1,2x3,3x4,4x6', codes, '--out', out);
  expect((await npy(out)).shape).toEqual([1, 3, 16, 24]);
  const draw = ['generate', '--model', file('flexvar'), '--class', '3', '--out', at('never.png')];
  expect(await cliFailure(1, ...draw, '--scales', '2x3,4x6')).toMatch(/FlexVARd3-epo7\.pth.*pos_start/);
});

test('inspect says which family, and verifies', async () => {
  const report = await cliJson('inspect', file('var'), '--verify');
  expect(report).toMatchObject({ kind: 'official', family: 'VAR', ar: { config: { depth: 2, dim: 36 } } });
  expect(report.verified.faults).toEqual([]);
  const alone = await cliJson('inspect', file('flexvar/FlexVAE.pth'));
  expect(alone).toMatchObject({ family: 'FlexVAR' });
  expect(alone.ar).toBeUndefined();
});

test('a grid that no file says is asked for, and taken from --settings', async () => {
  const folder = at('bare');
  mkdirSync(folder);
  const weights = path.join(folder, 'consolidated.pth');
  copyFileSync(file('llamagen/gpt_gqa/consolidated.pth'), weights);
  const model = [...vq, '--ar', weights];
  const text = await cliFailure(1, 'inspect', ...model);
  expect(text).toMatch(/consolidated\.pth.*"heads"/s);
  const settings = at('grid.json');
  writeFileSync(settings, '{"heads": 4}');
  expect(await cliFailure(1, 'inspect', ...model, '--settings', settings)).toMatch(
    /"imageSize" \(256, 384 or 512/,
  );
  writeFileSync(settings, '{"heads": 4, "imageSize": 32}');
  const report = await cliJson('inspect', ...model, '--settings', settings);
  expect(report).toMatchObject({ family: 'LlamaGen', ar: { config: { tokens: 64 } } });
});

describe('what does not belong together', () => {
  const detailflow = (half: string) => inRepository(`tests/fixtures/golden/A/${half}`);
  const [vae, transformer] = [file('var/vae_ch32v80z8.pth'), file('var/var_d2.pth')];
  const otherSettings = at('other.json');
  writeFileSync(otherSettings, '{"n_layer": 12}');
  const pair = (tokenizer: string, ar: string) => ['--tokenizer', tokenizer, '--ar', ar];

  test.each([
    [
      'a DetailFlow AR model with a VAR tokenizer',
      pair(vae, detailflow('ar')),
      /vae_ch32v80z8\.pth is of VAR.*A\/ar.*of DetailFlow/,
    ],
    [
      'a VAR model with a DetailFlow tokenizer',
      pair(detailflow('tokenizer'), transformer),
      /of DetailFlow.*var_d2\.pth of VAR/,
    ],
    [
      'a VAR model with a LlamaGen tokenizer',
      pair(file('llamagen/vq'), transformer),
      /vq_ds4_P\.pt is of LlamaGen.*var_d2\.pth of VAR/,
    ],
    [
      'a FlexVAR model with a LlamaGen tokenizer',
      pair(file('llamagen/vq'), file('flexvar/FlexVARd3-epo7.pth')),
      /FlexVARd3-epo7\.pth.*vq_ds4_P\.pt/,
    ],
    [
      'a PAR model with a DetailFlow tokenizer',
      pair(detailflow('tokenizer'), file('par/g4')),
      /of DetailFlow.*PAR-P-4x\.pt of PAR/,
    ],
    [
      'swapped files',
      pair(transformer, vae),
      /var_d2\.pth: is a transformer of VAR.*vae_ch32v80z8\.pth.*swapped/,
    ],
    [
      'swapped folders',
      pair(file('llamagen/gpt_c2i'), file('llamagen/vq')),
      /c2i_P\.pt.*vq_ds4_P\.pt.*swapped/,
    ],
    ['a transformer alone', ['--tokenizer', file('par/g4')], /PAR-P-4x\.pt.*given as tokenizer/],
    [
      'scales that do not fit',
      [...pair(vae, transformer), '--scales', '1,2,3'],
      /var_d2\.pth.*66 places.*vae_ch32v80z8\.pth have 14/,
    ],
    [
      'settings of another model',
      [...pair(file('llamagen/vq'), file('llamagen/gpt_c2i')), '--settings', otherSettings],
      /c2i_P\.pt: n_layer: its settings say 12, its weights are of 2/,
    ],
  ])('%s', async (_, model, message) => {
    expect(await cliFailure(1, 'inspect', ...model)).toMatch(message);
  });

  test('options that the family does not have', async () => {
    const draw = ['generate', '--model', file('var'), '--class', '1', '--out', at('never.png')];
    expect(await cliFailure(2, ...draw, '--cfg-interval', '3')).toMatch(/guidance of VAR cannot end/);
    const measure = [
      'eval',
      'generation',
      '--model',
      file('var'),
      '--data',
      'shapes:24x32',
      '--features',
      'x',
    ];
    expect(await cliFailure(2, ...measure, '--cfg-interval', '3', '--out', at('never'))).toMatch(
      /guidance of VAR cannot end/,
    );
    expect(await cliFailure(2, ...draw, '--gradual-cfg')).toMatch(/VAR has constant, growing/);
    expect(await cliFailure(2, ...draw, '--guidance', 'up')).toMatch(/--guidance "up"/);
    expect(await cliFailure(2, ...draw, '--guidance', 'growing', '--gradual-cfg')).toMatch(/give one of/);
    expect(await cliFailure(2, ...draw, '--scales', '1,x')).toMatch(/--scales/);
    const model = ['--model', inRepository('tests/fixtures/fashion-ref'), '--scales', '1,2'];
    expect(await cliFailure(2, 'generate', ...model, '--class', '1', '--out', at('never.png'))).toMatch(
      /settings/,
    );
  });
});

async function saveSafetensors(target: string, weights: Readonly<Record<string, Weight>>): Promise<void> {
  const entries = Object.entries(weights).map(([name, weight]) => ({ ...weight, name }));
  const { header, tensors } = encodeSafetensors(entries);
  writeFileSync(
    target,
    Buffer.concat([header, ...(await Promise.all(tensors.map(({ entry }) => entry.read())))]),
  );
}

describe('a model for texts', () => {
  const values = golden('family/llamagen/golden_t2i.safetensors');
  const model = [...vq, '--ar', file('llamagen/gpt_t2i')];
  const noise = saveNpy(at('t2i-noise.npy'), floats(values.noise), values.noise.shape);
  const texts = async (name: string, features: string, mask?: string) => {
    const target = at(`${name}.safetensors`);
    const array = (from: string) => {
      const { shape, data } = values[from];
      return weightFromArray(from, shape, Float32Array.from(data as ArrayLike<number>, Number));
    };
    const named = { features: array(features), ...(mask !== undefined && { mask: array(mask) }) };
    await saveSafetensors(target, named);
    return target;
  };
  const draw = async (features: string, ...options: string[]) => {
    const codes = at('t2i-codes.npy');
    const args = ['--text-features', features, '--noise', noise, ...options, '--save-tokens', codes];
    const report = await cliJson('generate', ...model, ...args, '--out', at('t2i-pictures'));
    return { report, tokens: (await codeRows(codes)).flat() };
  };
  const { sampled, interval } = goldenJson('family/llamagen/golden.json').t2i.sampling;

  test.each([
    ['greedy', ['--greedy', '--cfg', '3'], 't5_embs', 't5_mask'],
    ['greedy_interval', ['--greedy', '--cfg', '3', '--cfg-interval', `${interval}`], 't5_embs', 't5_mask'],
    ['sampled', choice(sampled), 't5_embs', 't5_mask'],
    ['greedy_rightpad', ['--greedy', '--cfg', '3', '--no-left-padding'], 't5_embs', 't5_mask'],
    ['greedy_nomask', ['--greedy', '--cfg', '3'], 'cond', undefined],
  ])('generate draws the tokens of %s', async (run, options, features, mask) => {
    const { report, tokens } = await draw(await texts(run, features, mask), ...options);
    expect(tokens).toEqual(Array.from(values[`gen.${run}.tokens`].data));
    expect(report.images).toMatchObject([{ text: 0 }, { text: 1 }, { text: 2 }]);
  });

  test('features of a .npz file', async () => {
    const { shape } = values.t5_embs;
    const target = at('texts.npz');
    writeFileSync(
      target,
      writeNpz({
        features: { data: floats(values.t5_embs), shape },
        mask: {
          data: Int32Array.from(values.t5_mask.data as ArrayLike<number>, Number),
          shape: shape.slice(0, 2),
        },
      }),
    );
    const { tokens } = await draw(target, '--greedy', '--cfg', '3');
    expect(tokens).toEqual(Array.from(values['gen.greedy.tokens'].data));
  });

  test('what is wrong is said', async () => {
    const never = ['--out', at('never.png')];
    const good = await texts('good', 't5_embs', 't5_mask');
    const fail = (code: 1 | 2, ...args: string[]) =>
      cliFailure(code, 'generate', ...model, ...never, ...args);
    expect(await fail(2)).toMatch(/a text model without features.*t2i_P\.pt.*--text-features/);
    expect(await fail(2, '--class', '1')).toMatch(/t2i_P\.pt.*draws for texts/);
    expect(await fail(1, '--text-features', await texts('odd', 'noise'))).toMatch(
      /odd\.safetensors.*\[B, T, 20\]/,
    );
    expect(await fail(1, '--text-features', await texts('odd-mask', 't5_embs', 'noise'))).toMatch(/mask/);
    const empty = at('empty.safetensors');
    await saveSafetensors(empty, { other: weightFromArray('other', [1], new Float32Array(1)) });
    expect(await fail(1, '--text-features', empty)).toMatch(/no array "features" \(it has other\)/);
    expect(await fail(2, '--text-features', at('texts.txt'))).toMatch(/\.npz or \.safetensors/);
    expect(await fail(2, '--no-left-padding')).toMatch(/--no-left-padding/);
    const classes = ['generate', ...vq, '--ar', file('llamagen/gpt_c2i'), ...never];
    expect(await cliFailure(2, ...classes, '--text-features', good)).toMatch(/c2i_P\.pt.*draws for classes/);
    expect(await cliFailure(1, 'vary', ...model, good, '--keep', '1', ...never)).toMatch(/draws for texts/);
  });
});

test('convert, inspect and back; export of a part', async () => {
  const bundle = at('var-bundle');
  await cliJson('convert', '--model', file('var'), '--out', bundle, '--license', 'MIT');
  expect(await cliJson('inspect', bundle)).toMatchObject({
    kind: 'bundle',
    family: 'VAR',
    card: { license: 'MIT' },
  });
  const back = await cliJson('convert', '--model', bundle, '--layout', 'released', '--out', at('var-files'));
  expect(back.files).toEqual(['vae_ch32v80z8.pth', 'var_d2.pth', 'config.json']);
  expect(await cliJson('inspect', at('var-files'))).toMatchObject({ kind: 'official', family: 'VAR' });
  const never = ['--layout', 'released', '--out', at('never')];
  expect(await cliFailure(2, 'convert', '--model', bundle, '--name', 'x', ...never)).toMatch(
    /--name is for a bundle/,
  );
  const report = await cliJson('export', '--model', bundle, '--part', 'decoder', '--out', at('decoder.onnx'));
  expect(report).toMatchObject({
    part: 'decoder',
    inputs: [
      { name: 'codes', dtype: 'i32', shape: '[batch, 66]' },
      { name: 'counts', shape: '[5]' },
    ],
    outputs: [{ name: 'pixels', shape: '[batch, 3, 12, 12]' }],
  });
  const none = ['export', '--model', bundle, '--out', at('never.onnx')];
  expect(await cliFailure(1, ...none)).toMatch(/VAR has no part "generator".*encoder, decoder, inputs, step/);
  expect(await cliFailure(1, ...none, '--part', 'constructor')).toMatch(/no part "constructor"/);
});

test('scales that make no square: squares are refused before any work, and pictures are drawn whole', async () => {
  const model = ['--model', file('flexvar'), '--scales', '1,2x3,4x6'];
  const wide = at('wide.png');
  await cliJson('generate', ...model, '--class', '1', '--out', wide);
  const { width, height } = await pixels(wide);
  expect([width, height]).toEqual([24, 16]);
  const square = /FlexVAE\.pth.*16 pixels high and 24 wide/;
  for (const args of [
    ['generate', ...model, '--class', '1', '--eval-size', '32', '--out', at('never.png')],
    ['encode', ...model, wide, '--out', at('never.npy')],
    ['reconstruct', ...model, wide, '--out', at('never')],
    ['vary', ...model, wide, '--keep', '1', '--out', at('never.png')],
    ['eval', 'tokenizer', ...model, '--data', 'shapes:24x32', '--all-images', '--out', at('never')],
  ]) {
    expect(await cliFailure(1, ...args), args[0]).toMatch(square);
  }
});

test('damaged files are named', async () => {
  const folder = at('damaged');
  mkdirSync(folder);
  for (const name of ['config.json', 'vae_ch32v80z8.pth']) {
    copyFileSync(file(`var/${name}`), path.join(folder, name));
  }
  const whole = readFileSync(file('var/var_d2.pth'));
  const broken = path.join(folder, 'var_d2.pth');
  writeFileSync(broken, whole.subarray(0, whole.length / 2));
  expect(await cliFailure(1, 'inspect', folder)).toContain('var_d2.pth');
  // A pickle that would run a command in Python: it is no model, and nothing runs.
  writeFileSync(broken, '\x80\x02cos\nsystem\nX\x04\x00\x00\x00echo\x85R.', 'latin1');
  expect(await cliFailure(1, 'inspect', folder)).toContain('var_d2.pth');
  writeFileSync(broken, whole);
  copyFileSync(broken, path.join(folder, 'var_d3.pth'));
  expect(await cliFailure(1, 'inspect', folder)).toMatch(
    /var_d2\.pth and .*var_d3\.pth are both a transformer of VAR/,
  );
});

test('eval measures tokenizers and generated pictures of a family', async () => {
  const data = ['--data', 'shapes:24x32', '--all-images'];
  const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];
  const model = [...vq, '--ar', file('llamagen/gpt_c2i')];
  const figures = await cliJson(
    'eval',
    'tokenizer',
    ...vq,
    ...data,
    ...network,
    '--out',
    at('eval-tokenizer'),
  );
  expect(figures.images).toBe(24);
  expect(figures.restorations.map((one: { tokens: number }) => one.tokens)).toEqual([16, 32, 48, 64]);
  for (const one of figures.restorations) expect(one.frechet).toBeGreaterThan(0);
  const draw = ['--count', '22', '--guidance', 'constant', '--out', at('eval-generation')];
  const drawn = await cliJson('eval', 'generation', ...model, ...data, ...network, ...draw);
  expect(drawn.rows.map(({ cfg }: { cfg: number }) => cfg)).toEqual([2]);
  expect(drawn.rows[0].frechet).toBeGreaterThan(0);
  const noisy = ['eval', 'tokenizer', ...vq, ...data, '--noise', '0', '--out', at('eval-noisy')];
  expect(await cliFailure(1, ...noisy)).toMatch(/vq_ds4_P\.pt.*only tokenizers of DetailFlow/);
});

test.each([
  { name: 'VAR', tokenizer: ['--model', file('var')], ar: [], side: 12 },
  { name: 'FlexVAR', tokenizer: ['--model', file('flexvar')], ar: [], side: 24 },
  { name: 'PAR', tokenizer: vq, ar: ['--ar', file('par/g4')], side: 32 },
])('eval measures a tokenizer and generated pictures of $name', async ({ name, tokenizer, ar, side }) => {
  const network = ['--features', inRepository('packages/model-fashion-32/classifier.safetensors')];
  const measure = (what: string, size: number, ...options: string[]) => {
    const data = ['--data', `shapes:24x${size}`, '--all-images', '--eval-size', '32'];
    return cliJson(
      'eval',
      what,
      ...tokenizer,
      ...data,
      ...network,
      ...options,
      '--out',
      at(`${what}-${name}`),
    );
  };
  const figures = await measure('tokenizer', side);
  expect(figures.images).toBe(24);
  expect(figures.restorations.length).toBeGreaterThan(1);
  for (const one of figures.restorations) expect(one.frechet).toBeGreaterThan(0);
  const drawn = await measure('generation', 32, ...ar, '--count', '22', '--guidance', 'constant');
  expect(drawn.rows).toHaveLength(1);
  expect(drawn.rows[0].frechet).toBeGreaterThan(0);
});
