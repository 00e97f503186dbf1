import { cpSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { cli, cliFailure, cliJson, testFolder } from '../../../../tests/cli';
import { classNumbers } from '../class-numbers';

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
  tokenModel: {
    model: { dim: 16, layers: 1, heads: 2, hiddenDim: 32 },
    ...{ steps: 2, batch: 4, microBatch: 4, warmup: 0 },
  },
  classifier: { widths: [4, 4, 4], features: 8, steps: 2, batch: 8 },
  validation: { every: 9, images: 4 },
};
// As a Mac writes the name of a folder: the letter, then its dots.
const decomposed = 'A\u0308pfel rot';
const composed = '\u00c4pfel rot';

const train = (part: string, data: string, out: string, ...more: string[]) => [
  ...['train', part, '--config', at('settings.json'), '--data', at(data), '--out', at(out), ...more],
];

async function pictures(root: string, classes: readonly string[], count = 8): Promise<void> {
  for (const [label, name] of classes.entries()) {
    for (let i = 0; i < count; i++) {
      const file = at(`${root}/${name}/${i}.png`);
      mkdirSync(dirname(file), { recursive: true });
      const background = { r: 80 * label, g: 20 * i, b: 100 };
      await sharp({ create: { width: 16, height: 16, channels: 3, background } })
        .png()
        .toFile(file);
    }
  }
}

beforeAll(async () => {
  writeFileSync(at('settings.json'), JSON.stringify(settings));
  await pictures('mine', ['cat', 'dog', decomposed]);
  // The same number of classes, of which one has gone and another come.
  cpSync(at('mine'), at('other'), { recursive: true });
  renameSync(at(`other/${decomposed}`), at('other/ant'));
  await pictures('parts/train', ['cat', 'dog'], 6);
  await pictures('parts/val', ['cat', 'dog'], 4);
  await cliJson(...train('all', 'mine', 'run'));
  await cliJson(...train('classifier', 'mine', 'run'));
  await cliJson(...train('classifier', 'other', 'judge'));
}, 120_000);

describe('pictures of classes that have other numbers', () => {
  const evaluate = async (data: string, network: string, out: string) => {
    const model = ['--model', at('run/bundle'), '--features', at(`${network}/classifier.safetensors`)];
    const args = ['--data', at(data), '--all-images', '--count', '6', '--out', at(out)];
    return (await cliJson('eval', 'generation', ...model, ...args)) as unknown as {
      accuracy?: number;
      rows: { agreement?: object; warnings: string[] }[];
    };
  };

  test('are not counted as those of the class with the same number', async () => {
    const own = await evaluate('mine', 'run', 'own');
    expect([typeof own.accuracy, typeof own.rows[0].agreement]).toEqual(['number', 'object']);
    expect(own.rows[0].warnings.join()).not.toMatch(/is not said/);
    // A network of other classes knows its own, and none that is asked of the model.
    const judged = await evaluate('other', 'judge', 'judged');
    expect([typeof judged.accuracy, judged.rows[0].agreement]).toEqual(['number', undefined]);
    expect(judged.rows[0].warnings.join()).toMatch(/class 0 is ".*" of the model and "ant" of the network/);
    const { stdout } = await cli([
      ...['eval', 'generation', '--model', at('run/bundle'), '--data', at('other'), '--all-images'],
      ...['--features', at('run/classifier.safetensors'), '--count', '6', '--out', at('real')],
    ]);
    expect(stdout).not.toMatch(/^accuracy of the network/m);
    expect(stdout).toMatch(/accuracy of the network on real images is not said: class 0 is/);
    const { rows } = JSON.parse(readFileSync(at('real/generation.json'), 'utf8'));
    expect(rows[0].agreement.byClass).toHaveLength(3);
    // Rows of the page are of the model's classes.
    const page = readFileSync(at('real/generation.html'), 'utf8');
    expect(page.includes('<td>dog</td>') && !page.includes('<td>ant</td>')).toBe(true);
  });

  test('begin with what was learned of another class, which is said', async () => {
    const begun = await cli(train('all', 'other', 'begun', '--init', at('run/bundle')));
    expect(begun).toMatchObject({ code: 0 });
    expect(begun.stderr).toMatch(/class 0 is .* of the model to begin with and "ant" of these images/);
    const same = await cli(train('all', 'mine', 'same', '--init', at('run/bundle')));
    expect(same).toMatchObject({ code: 0 });
    expect(same.stderr).not.toMatch(/to begin with/);
  });
});

test('of a source with a test part that part is measured, and called so', async () => {
  const args = ['eval', 'tokenizer', '--model', at('run/bundle'), '--data', at('parts'), '--tokens', '8'];
  const { stdout } = await cli([...args, '--all-images', '--out', at('part')]);
  expect(stdout).toContain(`${at('parts')} (held-out): 8 images of 2 classes`);
  const whole = await cli([...args.with(5, at('mine')), '--all-images', '--out', at('whole')]);
  expect(whole.stdout).toContain(`${at('mine')} (all): 24 images of 3 classes`);
});

test('a name with marks is found, whichever way it is written', async () => {
  for (const name of [composed, decomposed, composed.toLowerCase()]) {
    const out = ['--seed', '1', '--out', at('drawn.png')];
    expect(await cli(['generate', '--model', at('run/bundle'), '--class', name, ...out])).toMatchObject({
      code: 0,
    });
    expect(classNumbers([name], ['dog', decomposed])).toEqual([1]);
    expect(classNumbers([name], ['dog', composed])).toEqual([1]);
  }
  const wrong = ['generate', '--model', at('run/bundle'), '--class', 'Birnen', '--out', at('none.png')];
  expect(await cliFailure(2, ...wrong)).toMatch(/there is no class "Birnen"/);
});
