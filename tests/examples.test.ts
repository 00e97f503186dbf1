import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'detailflow-examples-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs an example into a folder of its own and returns what it printed and the files it made. */
async function example(name: string) {
  const out = path.join(folder, name);
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', path.join(root, 'examples', `${name}.ts`), out],
    { cwd: root },
  );
  expect(stderr).toBe('');
  return { out, stdout, files: readdirSync(out).sort() };
}

/** Size, mean brightness and contrast of (a part of) a picture, 0..255. */
async function look(file: string, part?: { left: number; top: number; width: number; height: number }) {
  const image = sharp(file);
  const { width, height } = await image.metadata();
  const pixels = await (part ? image.extract(part) : image).toColourspace('b-w').raw().toBuffer();
  const mean = pixels.reduce((sum, byte) => sum + byte, 0) / pixels.length;
  const deviation = Math.sqrt(pixels.reduce((sum, byte) => sum + (byte - mean) ** 2, 0) / pixels.length);
  return { width, height, mean, deviation };
}

test('generate: a preview and the finished picture', async () => {
  const { out, stdout, files } = await example('generate');
  expect(files).toEqual(['final.png', 'preview.png']);
  const [final, preview] = [await look(`${out}/final.png`), await look(`${out}/preview.png`)];
  expect(final).toMatchObject({ width: 256, height: 256 });
  expect(preview).toMatchObject({ width: 64, height: 64 });
  // A bright bag on black; the preview is the same picture, only coarser.
  expect(final.deviation).toBeGreaterThan(60);
  expect(Math.abs(final.mean - preview.mean)).toBeLessThan(25);
  expect(stdout).toMatch(/preview\.png: 8 of 64 tokens, 8 x 8 pixels\n.*final\.png: 64 of 64 tokens/);
});

test('reconstruct: a strip that comes closer to the original', async () => {
  const { out, stdout, files } = await example('reconstruct');
  expect(files).toEqual(['strip.png']);
  const strip = `${out}/strip.png`;
  expect(await look(strip)).toMatchObject({ width: 6 + 8 * 134, height: 140 });
  const decibels = [...stdout.matchAll(/([\d.]+) dB/g)].map((match) => Number(match[1]));
  expect(decibels).toHaveLength(7); // each at the size that so many tokens are worth
  expect(decibels[6]).toBeGreaterThan(18);
  const cell = (i: number) => look(strip, { left: 6 + i * 134, top: 6, width: 128, height: 128 });
  const [first, last, original] = [await cell(0), await cell(6), await cell(7)];
  expect(first.deviation).toBeLessThan(original.deviation / 2);
  expect(Math.abs(last.mean - original.mean)).toBeLessThan(15);
});

test('custom-pipeline: four pictures of four classes', async () => {
  const { out, stdout, files } = await example('custom-pipeline');
  expect(files).toEqual(['class-0.png', 'class-1.png', 'class-7.png', 'class-9.png']);
  for (const file of files) {
    const { width, height, deviation } = await look(`${out}/${file}`);
    expect([width, height]).toEqual([256, 256]);
    expect(deviation, file).toBeGreaterThan(40);
  }
  // Trousers are narrow and high, sneakers wide and low.
  const corner = { left: 0, top: 96, width: 40, height: 80 };
  const above = { left: 64, top: 8, width: 128, height: 40 };
  expect((await look(`${out}/class-1.png`, corner)).mean).toBeLessThan(30);
  expect((await look(`${out}/class-7.png`, above)).mean).toBeLessThan(30);
  expect(stdout.match(/tokens( \d+){6}/g)).toHaveLength(4);
});

test('cancel: stops at once, keeps the model usable, gives the memory back', async () => {
  const { out, stdout, files } = await example('cancel');
  expect(files).toEqual(['preview.png']);
  expect((await look(`${out}/preview.png`)).width).toBe(96);
  const [, used] = /16 of 64 tokens, (\d+) MB in use: cancelling/.exec(stdout) ?? [];
  const [, left] = /(-?\d+) MB in use after closing it/.exec(stdout) ?? [];
  expect(stdout).toMatch(/stopped after \d+ of 64 tokens\n/);
  const [, tokens] = /stopped after (\d+) of/.exec(stdout) ?? [];
  expect(Number(tokens)).toBe(16); // the step that was under way when it was cancelled, and no other
  expect(Number(left)).toBeLessThan(Number(used) / 2);
  expect(stdout).toMatch(/the model still works: 64 tokens/);
});

test('demo: every class, and how some of them grow', async () => {
  const { out, stdout, files } = await example('demo');
  expect(files).toEqual(['classes.png', 'coarse-to-fine.png']);
  expect(await look(`${out}/classes.png`)).toMatchObject({ width: 4 + 20 * 68, height: 4 + 8 * 68 });
  for (let row = 0; row < 8; row++) {
    for (let column = 0; column < 20; column++) {
      const cell = { left: 4 + column * 68, top: 4 + row * 68, width: 64, height: 64 };
      const { deviation } = await look(`${out}/classes.png`, cell);
      expect(deviation, `row ${row}, column ${column} shows something`).toBeGreaterThan(8);
    }
  }
  expect(await look(`${out}/coarse-to-fine.png`)).toMatchObject({ height: 5 * 136 });
  expect(stdout).toMatch(/angry-face, animal-face, .*, vehicle\n/);
  expect(stdout).toMatch(/the 160 pictures took \d+\.\d s/);
});
