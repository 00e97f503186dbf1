import { readdirSync } from 'node:fs';
import { readFloat32 } from '@detailflow/core';
import { openFamilyModel } from 'detailflow';
import { beforeAll, describe, expect, test } from 'vitest';
import { cli, cliFailure, cliJson, testFolder } from './cli';

// Training of other families that begins with loose files, as they are released: a tokenizer alone, an AR model alone, both.

const at = testFolder();
const tower = { channels: [32, 32], blocks: 1, latentChannels: 8 };
const gpt = { dim: 16, layers: 1, heads: 2, hiddenDim: 32 };
const vq = { imageSize: 8, encoder: tower, decoder: tower, codebookSize: 16, codeDim: 4 };
const scaled = { scales: [1, 2, 4], encoder: tower, decoder: tower, codebookSize: 16, codeDim: 8 };
const systems = {
  llamagen: { tokenizer: vq, ar: gpt },
  par: { tokenizer: vq, ar: { ...gpt, groupSize: 4 } },
  var: { tokenizer: scaled, ar: { dim: 16, depth: 1, heads: 2 } },
};

describe.each(Object.entries(systems))('%s', (family, { tokenizer, ar }) => {
  const name = (what: string) => at(`${family}-${what}`);
  const settings = [
    ...[`tokenizer.model=${JSON.stringify(tokenizer)}`, `tokenModel.model=${JSON.stringify(ar)}`],
    ...['tokenizer', 'tokenModel'].flatMap((half) =>
      ['steps=2', 'batch=4', 'microBatch=4', 'warmup=0'].map((one) => `${half}.${one}`),
    ),
    ...['replicas=1', 'data.views=center', 'validation={"every":9,"images":4}'],
  ].flatMap((setting) => ['--set', setting]);
  const run = (part: string, out: string, ...more: string[]) => [
    ...['train', part, '--family', family, '--config', `${family}-32`, '--data', 'shapes:24x8'],
    ...['--out', name(out), ...settings, ...more],
  ];
  /** The files of weights of the released layout. */
  const files: Record<'vq' | 'ar', string> = { vq: '', ar: '' };
  beforeAll(async () => {
    await cliJson(...run('all', 'first'));
    await cliJson('convert', '--model', name('first/bundle'), '--layout', 'released', '--out', name('files'));
    const all = readdirSync(name('files'), { recursive: true, encoding: 'utf8' })
      .filter((file) => /\.(pt|pth)$/.test(file))
      .map((file) => `${name('files')}/${file}`);
    expect(all).toHaveLength(2);
    for (const file of all)
      files[/vq|vae|tokenizer/.test(file.slice(name('files').length)) ? 'vq' : 'ar'] = file;
  });

  async function weightsOf(bundle: string, half: 'tokenizer' | 'ar'): Promise<Record<string, number[]>> {
    const model = await openFamilyModel(bundle);
    const found: Record<string, number[]> = {};
    for (const [one, weight] of model[half]?.weights ?? []) found[one] = [...(await readFloat32(weight))];
    await model.close();
    expect(Object.keys(found).length).toBeGreaterThan(5);
    return found;
  }

  test('a tokenizer alone: the same run as from the bundle', async () => {
    await cliJson(...run('tokenizer', 'from-file', '--init', files.vq));
    await cliJson(...run('tokenizer', 'from-bundle', '--init', name('first/bundle')));
    await cliJson(...run('tokenizer', 'from-nothing'));
    const [file, bundle, nothing] = await Promise.all(
      ['from-file', 'from-bundle', 'from-nothing'].map((out) =>
        weightsOf(name(`${out}/bundle`), 'tokenizer'),
      ),
    );
    expect(file).toEqual(bundle);
    expect(file).not.toEqual(nothing);
  });

  test('both', async () => {
    await cliJson(...run('all', 'both-files', '--init', `${files.vq},${files.ar}`));
    await cliJson(...run('all', 'both-bundle', '--init', name('first/bundle')));
    for (const half of ['tokenizer', 'ar'] as const) {
      expect(await weightsOf(name('both-files/bundle'), half)).toEqual(
        await weightsOf(name('both-bundle/bundle'), half),
      );
    }
  });

  test('what does not fit is named, and it is no beginning of DetailFlow', async () => {
    const { code, stderr } = await cli([
      ...['train', 'tokenizer', '--family', family, '--config', `${family}-32`, '--data', 'shapes:24x32'],
      ...['--out', name('other'), '--init', files.vq],
    ]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/does not fit the settings: encoder\.conv_blocks/),
    });
    const plain = ['train', 'tokenizer', '--config', 'tiny-32', '--data', 'shapes:24x8'];
    expect(await cliFailure(1, ...plain, '--init', files.vq, '--out', name('plain'))).toMatch(
      /holds neither a tokenizer \(encoder\.latent_tokens\)/,
    );
    expect(await cliFailure(2, ...run('all', 'twice', '--init', `${files.vq},${files.vq}`))).toMatch(
      /already/,
    );
  });
});
