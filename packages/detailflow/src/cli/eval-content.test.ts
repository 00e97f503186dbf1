import { mkdir, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { cliJson, inRepository, names, testFolder } from '../../../../tests/cli';

const at = testFolder();

/** Twelve images of the same names, sizes and times, whatever they show. */
async function writeImages(shift: number): Promise<void> {
  for (const [label, name] of ['a', 'b'].entries()) {
    await mkdir(at(`data/${name}`), { recursive: true });
    for (let i = 0; i < 6; i++) {
      const pixels = Buffer.from(
        Array.from({ length: 3072 }, (_, k) => (k * (i + 3) + shift * (k % 7) * (i + 1) + 90 * label) % 256),
      );
      const raw = { width: 32, height: 32, channels: 3 } as const;
      const file = at(path.join('data', name, `${i}.png`));
      await writeFile(file, await sharp(pixels, { raw }).png({ compressionLevel: 0 }).toBuffer());
      await utimes(file, 1e9, 1e9);
    }
  }
}

const evaluate = async (out: string): Promise<number> => {
  const network = inRepository('packages/model-fashion-32/classifier.safetensors');
  const args = ['--images', at('data'), '--data', 'shapes:30x32', '--features', network, '--out', at(out)];
  return (await cliJson('eval', 'images', ...args)).frechet;
};

test('kept features are not used for images that have changed and kept names, sizes and times', async () => {
  await writeImages(0);
  const first = await evaluate('one');
  expect(await evaluate('one')).toBe(first);
  expect(await names(at('one/kept'))).toHaveLength(3); // of the images, which of them can be read, and of those they are compared with
  await writeImages(5);
  const changed = await evaluate('one');
  expect(changed).not.toBe(first);
  expect(await evaluate('other')).toBe(changed);
  await writeImages(0);
  expect(await evaluate('one')).toBe(first);
}, 120_000);
