import { expect, test } from 'vitest';
import { cliFailure, cliJson, fashion, pixels, testFolder } from '../../../../tests/cli';

const at = testFolder();
const SIDE = 32;
/** Between the pictures of a strip, and around. */
const GAP = 2;

test('variations of a picture: what is kept, how many, and by which class', async () => {
  const boot = at('boot.png');
  await cliJson('generate', ...fashion, '--class', '9', '--seed', '3', '--out', boot);
  const strip = async (name: string, ...args: string[]) => {
    const out = at(`${name}.png`);
    await cliJson('vary', ...fashion, boot, '--out', out, ...args);
    return pixels(out);
  };
  const same = await strip('same', '--keep', '32', '--count', '2');
  const fresh = await strip('new', '--keep', '4', '--count', '2', '--class', '9', '--seed', '7');
  for (const { width, height } of [same, fresh])
    expect([width, height]).toEqual([3 * SIDE + 4 * GAP, SIDE + 2 * GAP]);
  // The two variations stand at the right end of the strip.
  const panel = ({ data, width }: typeof same, fromRight: number) =>
    Array.from({ length: SIDE * SIDE }, (_, i) => {
      const x = width - (fromRight + 1) * (SIDE + GAP) + (i % SIDE);
      return data[3 * ((GAP + Math.floor(i / SIDE)) * width + x)];
    });
  expect(panel(same, 0)).toEqual(panel(same, 1));
  expect(panel(fresh, 0)).not.toEqual(panel(fresh, 1));
});

test.each([
  [['--keep', '33'], /--keep 33: give a whole number from 0 to 32/],
  [[], /--keep/],
  [['--keep', '2', '--class', 'hat'], /hat/],
  [['--keep', '2', '--cfg', '3'], /--cfg guides towards --class: give that, too/],
])('%j is refused', async (args, message) => {
  expect(await cliFailure(2, 'vary', ...fashion, at('boot.png'), '--out', at('x.png'), ...args)).toMatch(
    message,
  );
});
