import { spawnSync } from 'node:child_process';
import { existsSync, openSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  cli,
  cliFailure,
  cliJson,
  codeRows,
  fashion,
  inRepository,
  pixels,
  testFolder,
} from '../../../../tests/cli';
import { load } from '../load';

const at = testFolder();
const boxed = inRepository('packages/model-fashion-32/model');

describe('commands', () => {
  test.each<[RegExp, string[]]>([
    [/^detailflow: there is no command "genrate"; did you mean generate\?\n/, ['genrate', '--class', '1']],
    [/^detailflow: there is no command "decdoe"; did you mean decode\?\n/, ['help', 'decdoe']],
    [/^detailflow: there is no command "draw"\n\n[\s\S]*Commands:\n {2}generate/, ['draw']],
    [
      /there is no option --clas; did you mean --class\?\nSee: detailflow generate --help/,
      ['generate', '--clas=3'],
    ],
  ])('%s', async (message, args) => {
    expect(await cliFailure(2, ...args)).toMatch(message);
  });

  test('--class may be given several times', async () => {
    const args = ['--class', 'bag', '--class=ankle boot,0', '--out', at('classes')];
    const { images } = await cliJson('generate', '--model', boxed, ...args);
    expect(images.map((image: { name: string }) => image.name)).toEqual(['bag', 'ankle boot', 'T-shirt/top']);
  });
});

test('guidance is what the card recommends, here as in a program, unless --cfg is given', async () => {
  const draw = async (name: string, ...more: string[]) => {
    const tokens = at(`${name}.npy`);
    const args = ['--class', '9', '--seed', '7', '--save-tokens', tokens, '--out', at(`${name}.png`)];
    const { cfg } = await cliJson('generate', '--model', boxed, ...args, ...more);
    return { cfg, rows: await codeRows(tokens) };
  };
  const [recommended, two, other] = [
    await draw('recommended'),
    await draw('two', '--cfg', '2'),
    await draw('other', '--cfg', '1.5'),
  ];
  expect(recommended).toEqual(two);
  expect(recommended.cfg).toBe(2);
  expect(other.cfg).toBe(1.5);
  expect(other.rows).not.toEqual(two.rows);
  await using model = await load(boxed);
  for await (const step of model.generate({ labels: [9], seed: 7 })) {
    if (step.count === step.total) expect([Array.from((await step.tokens()).data, Number)]).toEqual(two.rows);
  }
  // A model without a card.
  expect((await cliJson('generate', ...fashion, '--class', '9', '--out', at('plain.png'))).cfg).toBe(1.5);
});

test('inspect lists the classes and the guidance that is recommended', async () => {
  const { card } = await cliJson('inspect', boxed);
  expect(card).toMatchObject({ recipe: { cfg: 2 }, classNames: expect.arrayContaining(['ankle boot']) });
  const { stdout } = await cli(['inspect', boxed]);
  expect(stdout).toMatch(
    /^classes:\n {2}0 {2}T-shirt\/top\n[\s\S]*\n {2}9 {2}ankle boot\nrecommended CFG: 2 /m,
  );
});

describe('--scale', () => {
  /** Whether every pixel of `small` is a square of `scale` pixels in `large`. */
  async function expectScaled(large: string, small: string, scale: number): Promise<void> {
    const [big, plain] = [await pixels(large), await pixels(small)];
    expect([big.width, big.height]).toEqual([scale * plain.width, scale * plain.height]);
    const expected = Buffer.alloc(big.data.length);
    for (let y = 0; y < big.height; y++) {
      for (let x = 0; x < big.width; x++) {
        const from = 3 * (Math.floor(y / scale) * plain.width + Math.floor(x / scale));
        plain.data.copy(expected, 3 * (y * big.width + x), from, from + 3);
      }
    }
    expect(big.data.equals(expected)).toBe(true);
  }

  test('writes larger pictures and draws the same ones', async () => {
    const run = async (name: string, ...args: string[]) => {
      await cliJson(...args, '--out', at(`small-${name}`));
      await cliJson(...args, '--scale', '3', '--out', at(`large-${name}`));
    };
    const generate = ['generate', ...fashion, '--class', '4,6'];
    await run('strips.png', ...generate, '--progressive', '--grid');
    await expectScaled(at('large-strips.png'), at('small-strips.png'), 3);
    const picture = at('picture.png');
    await cliJson(...generate.slice(0, -1), '4', '--out', picture);

    await run('restored', 'reconstruct', ...fashion, picture, '--tokens', '4,32');
    const strip = 'picture.png';
    await expectScaled(at(`large-restored/${strip}`), at(`small-restored/${strip}`), 3);
    await run('varied.png', 'vary', ...fashion, picture, '--keep', '8', '--count', '2');
    await expectScaled(at('large-varied.png'), at('small-varied.png'), 3);
    await cliJson('encode', ...fashion, picture, '--out', at('codes.npy'));
    await run('decoded.png', 'decode', ...fashion, at('codes.npy'));
    await expectScaled(at('large-decoded.png'), at('small-decoded.png'), 3);
  });

  test('is for pictures alone', async () => {
    const args = ['decode', ...fashion, 'codes.npy', '--scale', '2', '--out', at('x.npy')];
    expect(await cliFailure(2, ...args)).toMatch(/--scale is for pictures/);
  });
});

test('an unusable device is answered with the option to give', async () => {
  const args = ['generate', ...fashion, '--class', '1', '--device', 'cuda', '--out', at('cuda.png')];
  const message = await cliFailure(1, ...args);
  expect(message).toMatch(/the device "cuda" cannot be used: .*; or give --device cpu\.\n$/s);
});

// In a process of its own, whose output goes to a file.
test.skipIf(!existsSync('/dev/full'))('output that has no room is told in a sentence', () => {
  for (const args of [['--help'], ['--version'], ['inspect', '--model', boxed, '--json']]) {
    const { status, stderr } = spawnSync(
      process.execPath,
      [inRepository('packages/detailflow/dist/cli.js'), ...args],
      {
        stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
        encoding: 'utf8',
      },
    );
    expect([status, stderr]).toEqual([
      1,
      expect.stringMatching(/^detailflow: what it says cannot be written: ENOSPC.*\n$/),
    ]);
  }
});
