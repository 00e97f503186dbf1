import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  cli,
  cliFailure,
  cliJson,
  codeRows,
  fashion,
  goldenBoth,
  goldenTokenizer,
  inRepository,
  names,
  npy,
  pixels,
  testFolder,
} from '../../../../tests/cli';
import { goldenJson } from '../../../../tests/golden';

const at = testFolder();

describe('help', () => {
  test('of the program: on request, and with exit code 2 where a command is missing', async () => {
    const help = await cli(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    for (const name of ['generate', 'encode', 'decode', 'reconstruct', 'inspect', 'convert']) {
      expect(help.stdout).toMatch(new RegExp(`^  ${name} +\\w`, 'm'));
    }
    for (const same of [['-h'], ['help'], ['help', '--help']]) expect(await cli(same)).toEqual(help);
    expect(await cli([])).toMatchObject({ code: 2, stdout: help.stdout });
    expect(await cli(['draw'])).toMatchObject({ code: 2, stdout: '' });
    const { version } = JSON.parse(await readFile(inRepository('packages/detailflow/package.json'), 'utf8'));
    for (const same of ['--version', '-v']) {
      expect(await cli([same])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
    }
  });

  test.each<[string, string[]]>([
    [
      'generate',
      [
        'model',
        'tokenizer',
        'ar',
        'class',
        'count',
        'seed',
        'cfg',
        'gradual-cfg',
        'temperature',
        'top-k',
        'top-p',
        'greedy',
        'tokens',
        'progressive',
        'grid',
        'device',
        'threads',
        'save-tokens',
        'noise',
        'out',
        'json',
      ],
    ],
    ['encode', ['tokenizer', 'tokens', 'out', 'json']],
    ['decode', ['tokenizer', 'tokens', 'size', 'out', 'json']],
    ['reconstruct', ['tokenizer', 'tokens', 'out', 'json']],
    ['inspect', ['model', 'tokenizer', 'ar', 'json']],
    ['convert', ['model', 'tokenizer', 'ar', 'out', 'dtype', 'class-names', 'overwrite', 'json']],
  ])('of %s names every option and gives examples', async (command, options) => {
    const { code, stdout, stderr } = await cli([command, '--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    if (command === 'decode') {
      for (const same of [
        ['help', command],
        [command, '-h'],
        ['-h', command],
      ]) {
        expect((await cli(same)).stdout).toBe(stdout);
      }
    }
    for (const option of options) expect(stdout).toMatch(new RegExp(`^  --${option}( [A-Z]|  )`, 'm'));
    expect(stdout).toMatch(new RegExp(`Examples:\n  detailflow ${command} `));
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThan(120);
  });
});

describe('inspect', () => {
  test('says what official checkpoints hold', async () => {
    const report = await cliJson('inspect', ...goldenBoth('A'));
    const { tokenizer, ar } = goldenJson('A/golden.json');
    expect(report.kind).toBe('official');
    expect(report.tokenizer.config).toMatchObject({
      tokens: 32,
      groupSize: 4,
      codebookSize: 128,
      imageSize: 64,
    });
    expect(report.ar.config).toMatchObject({ classes: 10, vocabularySize: 128 });
    expect(report.ar.parameters).toBe(ar.parameters);
    // Besides the parameters a checkpoint holds statistics of the codebook.
    expect(report.tokenizer.parameters).toBeGreaterThanOrEqual(tokenizer.parameters);
    expect(await cliJson('inspect', ...goldenTokenizer('A'))).not.toHaveProperty('ar');
  });

  test('prints the same for people, and takes a folder as its argument', async () => {
    const { code, stdout, stderr } = await cli(['inspect', fashion[1]]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^official checkpoint\n/);
    expect(stdout).toMatch(/^tokenizer: [\d,]+ parameters in \d+ tensors \(f32\), .*0002870\.pt$/m);
    expect(stdout).toMatch(/^ {2}codebookSize: 1024$/m);
  });

  test('refuses what is no model', async () => {
    await mkdir(at('empty'));
    expect(await cliFailure(1, 'inspect', at('empty'))).toMatch(/empty: there is neither/);
    expect(await cliFailure(1, 'inspect', at('missing'))).toMatch(/missing: cannot be opened/);
    expect(await cliFailure(2, 'inspect')).toMatch(/give --tokenizer DIR or --model DIR/);
    expect(await cliFailure(2, 'inspect', at('empty'), ...fashion)).toMatch(/give one model/);
  });
});

describe('convert', () => {
  const names10 = 'T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot';
  const draw = async (name: string, model: string[], label: string) => {
    const [codes, out] = [at(`${name}.npy`), at(`${name}.png`)];
    const report = await cliJson(
      'generate',
      ...model,
      '--class',
      label,
      '--seed',
      '3',
      '--save-tokens',
      codes,
      '--out',
      out,
    );
    return { report, rows: await codeRows(codes), png: await readFile(out) };
  };
  const full = ['--model', at('bundles/full')];

  beforeAll(async () => {
    const about = [
      '--name',
      'Fashion',
      '--license',
      'MIT',
      '--attribution',
      'Fashion-MNIST',
      '--class-names',
      names10,
    ];
    const report = await cliJson('convert', ...fashion, ...about, '--out', full[1]);
    expect(report.card).toMatchObject({
      format: 'detailflow',
      name: 'Fashion',
      license: 'MIT',
      attribution: 'Fashion-MNIST',
    });
  });

  test('fp32: a bundle draws, encodes and decodes exactly as the checkpoints', async () => {
    expect(await names(full[1])).toEqual(['ar.safetensors', 'config.json', 'tokenizer.safetensors']);
    const [official, bundle] = [await draw('official', fashion, '9'), await draw('bundle', full, '9')];
    expect(bundle.rows).toEqual(official.rows);
    expect(bundle.png.equals(official.png)).toBe(true);
    const codes = [];
    for (const [i, model] of [fashion, full].entries()) {
      await cliJson('encode', ...model, at('official.png'), '--out', at(`codes-${i}.npy`));
      await cliJson('decode', ...model, at(`codes-${i}.npy`), '--out', at(`pixels-${i}.npy`));
      codes.push([await codeRows(at(`codes-${i}.npy`)), (await npy(at(`pixels-${i}.npy`))).data]);
    }
    expect(codes[0]).toEqual(codes[1]);
  });

  test('class names can be used, in any case, and unknown ones are answered with the list', async () => {
    const { report, rows } = await draw('named', full, 'Ankle Boot');
    expect(report.images).toEqual([{ file: at('named.png'), class: 9, name: 'ankle boot', seed: 3 }]);
    expect(rows).toEqual((await draw('numbered', full, '9')).rows);
    const message = await cliFailure(2, 'generate', ...full, '--class', 'sock', '--out', at('sock.png'));
    expect(message).toMatch(/there is no class "sock": T-shirt\/top, trouser, .*, ankle boot/);
    expect(await cliJson('inspect', full[1])).toMatchObject({ kind: 'bundle', card: { name: 'Fashion' } });
  });

  test('fp16: half the size, nearly the same picture', async () => {
    const half = ['--model', at('bundles/half')];
    await cliJson('convert', ...full, '--dtype', 'fp16', '--out', half[1]);
    const size = async (model: string[]) => (await stat(`${model[1]}/tokenizer.safetensors`)).size;
    expect((await size(half)) / (await size(full))).toBeLessThan(0.52);
    const report = await cliJson('inspect', half[1]);
    expect(report).toMatchObject({
      card: { name: 'Fashion', license: 'MIT' },
      tokenizer: { dtypes: ['f16'] },
      ar: { dtypes: ['f16'] },
    });
    await draw('one', full, 'bag');
    const decoded: Buffer[] = [];
    await cliJson('encode', ...full, at('one.png'), '--out', at('one-codes.npy'));
    for (const model of [full, half]) {
      await cliJson('decode', ...model, at('one-codes.npy'), '--out', at('one-decoded.png'));
      decoded.push((await pixels(at('one-decoded.png'))).data);
    }
    expect(Math.max(...decoded[0].map((byte, i) => Math.abs(byte - decoded[1][i])))).toBeLessThanOrEqual(4);
    expect((await draw('half', half, 'bag')).rows).toHaveLength(1);
  });

  test('what is there stays, unless it is a bundle and --overwrite is given', async () => {
    const target = at('bundles/taken');
    const convert = (...args: string[]) => ['convert', ...goldenTokenizer('A'), '--out', target, ...args];
    await cliJson(...convert());
    const before = await readFile(`${target}/tokenizer.safetensors`);
    expect(await cliFailure(1, ...convert('--dtype', 'fp16'))).toMatch(/taken: it exists already/);
    expect((await readFile(`${target}/tokenizer.safetensors`)).equals(before)).toBe(true);
    await cliJson(...convert('--dtype', 'fp16', '--overwrite'));
    expect((await stat(`${target}/tokenizer.safetensors`)).size).toBeLessThan(0.6 * before.length);
    expect((await names(at('bundles'))).filter((name) => name.startsWith('.'))).toEqual([]);

    await mkdir(at('private'));
    await writeFile(at('private/diary.txt'), 'dear');
    const message = await cliFailure(1, 'convert', ...fashion, '--overwrite', '--out', at('private'));
    expect(message).toMatch(/only a bundle is replaced, and this folder holds "diary\.txt"/);
    expect(await names(at('private'))).toEqual(['diary.txt']);
    // A tokenizer alone cannot draw.
    const args = ['--model', target, '--class', '1', '--out', at('none.png')];
    expect(await cliFailure(1, 'generate', ...args)).toMatch(/no AR part/);
  });

  test('wrong usage', async () => {
    const refused = ['--out', at('bundles/refused')];
    expect(await cliFailure(2, 'convert', ...fashion)).toMatch(/--out is missing/);
    expect(await cliFailure(2, 'convert', ...refused)).toMatch(/give --tokenizer DIR or --model DIR/);
    expect(await cliFailure(2, 'convert', ...fashion, '--dtype', 'int3', ...refused)).toMatch(
      /give one of fp32, fp16/,
    );
    expect(await cliFailure(2, 'convert', ...fashion, '--class-names', 'a,b', ...refused)).toMatch(
      /2 class names are given, the model has 10 classes/,
    );
    expect(await names(at('bundles'))).not.toContain('refused');
  });
});

describe('Ctrl-C', () => {
  test('stops a long run, keeps finished pictures whole, and leaves nothing half-written', async () => {
    const out = at('long');
    const { code, stdout, stderr } = await cli(
      ['generate', ...fashion, '--class', '0-9', '--count', '400', '--out', out],
      {
        async interrupt() {
          while ((await names(out)).length === 0) await delay(10);
        },
      },
    );
    expect({ code, stdout, stderr }).toEqual({
      code: 130,
      stdout: '',
      stderr: 'detailflow generate: stopped\n',
    });
    const files = await names(out);
    expect(files.length, 'of 4000 pictures').toBeLessThan(2000);
    for (const file of files) {
      expect(file).toMatch(/^\d{4}-class\d-seed\d+\.png$/);
      expect(await pixels(`${out}/${file}`)).toMatchObject({ width: 32, height: 32 });
    }
  });

  test('leaves no file where there was to be one', async () => {
    await mkdir(at('sheet'));
    const args = ['--class', '0-9', '--count', '400', '--grid', '--out', at('sheet/grid.png')];
    const tokens = ['--save-tokens', at('sheet/tokens.npy')];
    const { code, stderr } = await cli(['generate', ...fashion, ...args, ...tokens], {
      interrupt: (ready) => ready.then(() => delay(1000)),
    });
    expect({ code, stderr }).toEqual({ code: 130, stderr: 'detailflow generate: stopped\n' });
    expect(await names(at('sheet'))).toEqual([]);
  });

  test.each<[string, () => string[]]>([
    ['encode', () => ['--out', at('ended.npy'), ...Array(3000).fill(at('plain.png'))]],
    ['reconstruct', () => ['--out', at('ended'), ...Array(3000).fill(at('plain.png'))]],
    [
      'vary',
      () => ['--keep', '4', '--count', '8', '--out', at('ended'), ...Array(300).fill(at('plain.png'))],
    ],
  ])('%s ends with 130 too, and SIGTERM with 143', async (command, args) => {
    await cliJson('generate', ...fashion, '--class', '6', '--out', at('plain.png'));
    for (const [kind, expected] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      const outcome = await cli([command, ...fashion, ...args()], { interrupt: (ready) => ready, kind });
      expect(outcome).toEqual({ code: expected, stdout: '', stderr: `detailflow ${command}: stopped\n` });
      expect(await names(at('ended'))).toEqual(expect.not.arrayContaining([expect.stringMatching(/^\./)]));
    }
  });
});

test('nothing but results on standard output, and no progress without a terminal', async () => {
  const { code, stdout, stderr } = await cli([
    'generate',
    ...fashion,
    '--class',
    '6',
    '--out',
    at('plain.png'),
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(/^1 picture in \d+\.\d\d s: .*plain\.png\n$/);
});

test('a reader of standard output that goes away is no fault', async () => {
  const inspect = await cli(['inspect', ...fashion], { deaf: true });
  expect(inspect).toEqual({ code: 0, stdout: '', stderr: '' });
});

test('a target that cannot be written is an error of one line', async () => {
  await writeFile(at('file'), '');
  const args = ['generate', ...fashion, '--class', '0', '--tokens', '4', '--out'];
  expect(await cliFailure(1, ...args, at('file'))).toMatch(/file: is a file; give a folder/);
  expect(await cliFailure(1, ...args, at('file/below.png'))).toMatch(/below\.png: cannot be written/);
  await mkdir(at('folder.png'));
  expect(await cliFailure(1, ...args, at('folder.png'))).toMatch(/folder\.png: is a folder/);
});
