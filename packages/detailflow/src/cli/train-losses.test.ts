import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { cli, cliJson, inRepository, testFolder } from '../../../../tests/cli';
import { siglipFolder } from '../../../../tests/siglip-folder';
import { type smallVit, vitEntries, vitFile } from '../../../../tests/vit-file';

// Losses that the command line adds to the training of a tokenizer: what each needs, and that it goes on bit by bit.

const at = testFolder();
const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
const settings = {
  ...{ preset: 'tiny-32', replicas: 1, seed: 7 },
  tokenizer: {
    model: {
      ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32 },
      ...{ encoder: tower, decoder: tower },
    },
    ...{ steps: 5, batch: 4, microBatch: 2, warmup: 0 },
  },
  tokenModel: { model: { dim: 16, layers: 1, heads: 2 } },
  checkpoints: { every: 1, keep: 5 },
  validation: { every: 9, images: 4 },
};
const adversarial = { start: 1, weight: 0.2, consistency: 0.5 };
const run = (out: string, tokenizer: object, ...more: string[]) => [
  ...['train', 'tokenizer', '--config', at('settings.json'), '--data', 'shapes:60x16', '--out', at(out)],
  ...Object.entries(tokenizer).flatMap(([name, value]) => [
    '--set',
    `tokenizer.${name}=${JSON.stringify(value)}`,
  ]),
  ...more,
];
const steps = (out: string) =>
  readFileSync(at(`${out}/tokenizer/log.jsonl`), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

beforeAll(async () => {
  writeFileSync(at('settings.json'), JSON.stringify(settings));
  await vitFile(at('dino.safetensors'));
  await siglipFolder(at('tower'));
  await vitFile(at('nested.safetensors'), vitEntries('backbone.'));
});

test.each([
  ['dino', { adversarial: { ...adversarial, discriminator: 'dino' } }, ['--dino', 'dino.safetensors']],
  ['stylegan', { adversarial: { ...adversarial, discriminator: 'stylegan', width: 1 } }, []],
  [
    'maskbit',
    {
      adversarial: {
        ...{ ...adversarial, discriminator: 'maskbit', width: 4, layers: 2, norm: 'none' },
        ...{ loss: 'non-saturating', generatorLoss: 'non-saturating' },
      },
    },
    [],
  ],
  ['vit', { perceptual: { network: 'vit', warmup: 0 } }, ['--dino', 'nested.safetensors']],
  ['siglip', { perceptual: { network: 'siglip', features: 'last', warmup: 0 } }, ['--siglip', 'tower']],
] as const)(
  '%s: a run that goes on from its third step ends as it did',
  async (name, tokenizer, files) => {
    const more = files.map((word) => (word.startsWith('--') ? word : at(word)));
    const folder = at(`${name}/tokenizer/checkpoints`);
    await cliJson(...run(name, tokenizer, ...more));
    const log = steps(name);
    const trained = log.filter((line) => 'loss' in line);
    expect(trained).toHaveLength(5);
    if ('adversarial' in tokenizer)
      expect(trained.map(({ adversary }) => adversary !== undefined)).toEqual([
        false,
        true,
        true,
        true,
        true,
      ]);
    else expect(trained.every(({ extra }) => extra.perceptual > 0)).toBe(true);
    const checkpoints = readdirSync(folder).sort();
    const [last] = checkpoints.slice(-1);
    const whole = readFileSync(path.join(folder, last));
    for (const file of checkpoints.slice(checkpoints.findIndex((one) => /4\.safetensors$/.test(one))))
      rmSync(path.join(folder, file));
    const again = await cli([...run(name, tokenizer, ...more, '--resume')]);
    expect(again.code).toBe(0);
    expect(steps(name)).toEqual(log);
    expect(readFileSync(path.join(folder, last)).equals(whole)).toBe(true);
  },
  120_000,
);

test('a run goes on with the networks that it was begun with, whatever their files are called', async () => {
  const vit = { perceptual: { network: 'vit', warmup: 0 } };
  const other = vitEntries('backbone.').map((entry, i) =>
    i === 0 ? { ...entry, data: entry.data.map((x) => x + 1e-3) } : entry,
  );
  await vitFile(at('other.safetensors'), other);
  cpSync(at('vit'), at('vit-again'), { recursive: true });
  expect(await failure([...run('vit-again', vit, '--dino', at('other.safetensors')), '--resume'])).toMatch(
    /other\.safetensors: this is not the network that the run was begun with as "dino"/,
  );
  cpSync(at('nested.safetensors'), at('renamed.safetensors'));
  expect((await cli([...run('vit-again', vit, '--dino', at('renamed.safetensors')), '--resume'])).code).toBe(
    0,
  );
  cpSync(at('siglip'), at('siglip-again'), { recursive: true });
  cpSync(at('tower'), at('other-tower'), { recursive: true });
  writeFileSync(at('other-tower/more.json'), '{}');
  const siglip = { perceptual: { network: 'siglip', features: 'last', warmup: 0 } };
  const words = [...run('siglip-again', siglip, '--siglip', at('other-tower')), '--resume'];
  expect(await failure(words)).toMatch(/other-tower: this is not the network/);
  writeFileSync(at('vit-again/loss-networks.json'), '[');
  expect(await failure([...run('vit-again', vit, '--dino', at('nested.safetensors')), '--resume'])).toMatch(
    /loss-networks\.json: is damaged/,
  );
}, 120_000);

const damaged: Record<string, () => ReturnType<typeof vitEntries>> = {
  'nothing.safetensors': () => [{ name: 'other', shape: [1], data: new Float32Array(1) }],
  'missing.safetensors': () => vitEntries('').filter(({ name }) => name !== 'blocks.1.mlp.fc2.bias'),
  'shape.safetensors': () =>
    vitEntries('').map((entry) => (entry.name === 'norm.bias' ? { ...entry, shape: [8, 8] } : entry)),
  'foreign.safetensors': () => [
    ...vitEntries(''),
    { name: 'register_tokens', shape: [1, 1, 64], data: new Float32Array(64) },
  ],
  'positions.safetensors': () =>
    vitEntries('').map((entry) =>
      entry.name === 'pos_embed' ? { ...entry, shape: [1, 7, 64], data: new Float32Array(448) } : entry,
    ),
  'narrow.safetensors': () => vitEntries('', narrow),
};
const narrow: typeof smallVit = {
  ...{ imageSize: 8, patchSize: 4, width: 40, heads: 1, layers: 1, hiddenDim: 8, registers: 0 },
  ...{ feedForward: 'gelu', hasClass: true, positions: 'class-and-patches', isScaled: false },
};

/** What a run says that is refused once its images are known, without a word about the program. */
async function failure(args: readonly string[]): Promise<string> {
  const { code, stderr } = await cli(args);
  expect(code).toBe(1);
  expect(stderr).not.toMatch(/^\s+at /m);
  return stderr;
}

test.each([
  ['nothing.safetensors', /nothing\.safetensors: patch_embed\.proj\.weight: holds no vision transformer/],
  ['missing.safetensors', /missing\.safetensors: blocks\.1\.mlp\.fc2\.bias: is missing, must be \[64\]/],
  ['shape.safetensors', /shape\.safetensors: norm\.bias: is \[8,8\], must be \[64\]/],
  [
    'foreign.safetensors',
    /foreign\.safetensors: register_tokens: is part of a vision transformer of another form/,
  ],
  ['positions.safetensors', /positions\.safetensors: pos_embed: it has positions for 7 places/],
  ['narrow.safetensors', /narrow\.safetensors: a width of 40 is no multiple of 64/],
])('a wrong file for --dino is refused, and says why: %s', async (file, message) => {
  await vitFile(at(file), damaged[file]());
  const dino = { adversarial: { ...adversarial, discriminator: 'dino' } };
  expect(await failure(run(`wrong-${file}`, dino, '--dino', at(file)))).toMatch(message);
});

test('a loss without its file, and settings of another discriminator or network, are refused by name', async () => {
  const dino = { adversarial: { ...adversarial, discriminator: 'dino' } };
  const refused = async (tokenizer: object, message: RegExp, ...more: string[]) =>
    expect(await failure(run(`refused${runs++}`, tokenizer, ...more))).toMatch(message);
  let runs = 0;
  await refused(dino, /tokenizer\.adversarial\.discriminator: this loss needs a vision transformer.*"dino"/);
  await refused(
    { perceptual: { network: 'vit' } },
    /tokenizer\.perceptual\.network: this loss needs a vision/,
  );
  await refused(
    { perceptual: { network: 'siglip' } },
    /tokenizer\.perceptual\.network: this loss needs the vision/,
  );
  const logits = { perceptual: { network: 'vit', features: 'logits' } };
  await refused(logits, /tokenizer\.perceptual\.features: is logits, and/, '--dino', at('dino.safetensors'));
});

test('a network that no loss takes is told of', async () => {
  const network = inRepository('packages/model-fashion-32/classifier.safetensors');
  const { code, stderr } = await cli([...run('useless', {}), '--classifier', network, '--json']);
  expect({ code, stderr }).toEqual({
    code: 0,
    stderr: `no loss of these settings takes the network that is given as classifier: ${network} is not read\n`,
  });
});
