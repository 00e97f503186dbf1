import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import {
  cliFailure,
  cliJson,
  codeRows,
  cut,
  fashion,
  goldenBoth,
  goldenTokenizer,
  names,
  pixels,
  saveNpy,
  testFolder,
} from '../../../../tests/cli';
import { floats, golden, goldenJson } from '../../../../tests/golden';

const at = testFolder();

describe.each(['A', 'B'] as const)('golden AR model %s', (set) => {
  const values = golden(`${set}/golden_ar.safetensors`);
  const settings = goldenJson(`${set}/golden.json`).ar;
  const labels = Array.from(values['gen.labels'].data);
  const noise = values['gen.sampled.noise'];
  const noiseFile = saveNpy(at(`${set}-noise.npy`), floats(noise), noise.shape);

  test.each<[string, () => string[]]>([
    ['greedy', () => ['--greedy', '--cfg', `${settings.greedy.cfg_scale}`]],
    ['greedy_gradual', () => ['--greedy', '--gradual-cfg', '--cfg', `${settings.greedy.cfg_scale}`]],
    [
      'sampled',
      () => {
        const { cfg_scale, gradual_cfg, temperature, top_k, top_p } = settings.sampled;
        const flags = ['--noise', noiseFile, ...(gradual_cfg ? ['--gradual-cfg'] : [])];
        const numbers = { cfg: cfg_scale, temperature, 'top-k': top_k, 'top-p': top_p };
        return [...flags, ...Object.entries(numbers).flatMap(([name, value]) => [`--${name}`, `${value}`])];
      },
    ],
  ])('%s tokens', async (kind, options) => {
    const [out, codes] = [at(`${set}-${kind}`), at(`${set}-${kind}.npy`)];
    const args = ['--class', labels.join(), ...options(), '--save-tokens', codes, '--out', out];
    const report = await cliJson('generate', ...goldenBoth(set), ...args);
    expect((await codeRows(codes)).flat()).toEqual(Array.from(values[`gen.${kind}.tokens`].data));
    expect(report).toMatchObject({
      out,
      tokens: codes,
      device: 'cpu',
      tokensPerImage: values[`gen.${kind}.tokens`].shape[1],
    });
    expect(report.images.map((image: { class: number }) => image.class)).toEqual(labels);
    expect(report.images.map((image: { file: string }) => image.file)).toEqual(
      (await names(out)).map((name) => `${out}/${name}`),
    );
  });
});

/** Generates with the reference model and returns the report with the tokens of every picture. */
async function generate(name: string, ...args: string[]) {
  const codes = at(`${name}.npy`);
  const report = await cliJson('generate', ...fashion, ...args, '--save-tokens', codes);
  return { report, rows: await codeRows(codes) };
}

test('--count is per class, class by class, and picture i is the one of seed s + i, whatever its batch', async () => {
  const out = at('counted');
  // 20 pictures: more than go through the model at once.
  const { report, rows } = await generate(
    'counted',
    '--class',
    '7,3',
    '--count',
    '10',
    '--seed',
    '5',
    '--out',
    out,
  );
  expect(report.images.map((image: { class: number; seed: number }) => [image.class, image.seed])).toEqual(
    Array.from({ length: 20 }, (_, i) => [i < 10 ? 7 : 3, 5 + i]),
  );
  expect(await names(out)).toHaveLength(20);
  expect(new Set(rows.map(String)).size).toBe(20);
  for (const [index, label] of [
    [0, 7],
    [1, 7],
    [18, 3],
  ]) {
    const file = at(`single-${index}.png`);
    const single = await generate(
      `single-${index}`,
      '--class',
      `${label}`,
      '--seed',
      `${5 + index}`,
      '--out',
      file,
    );
    expect(single.rows).toEqual([rows[index]]);
    const [alone, together] = [await pixels(file), await pixels(report.images[index].file)];
    // Other batches may round differently in the last bit.
    expect(Math.max(...alone.data.map((byte, i) => Math.abs(byte - together.data[i])))).toBeLessThanOrEqual(
      1,
    );
  }
});

test('class lists: ranges, repetitions, and the number beyond the classes for no class', async () => {
  const { report, rows } = await generate(
    'ranges',
    '--class',
    '0-2,7,7,10',
    '--tokens',
    '4',
    '--out',
    at('ranges'),
  );
  expect(report.images.map((image: { class: number }) => image.class)).toEqual([0, 1, 2, 7, 7, 10]);
  expect(rows.every((row) => row.length === 4)).toBe(true);
});

test('--cfg 1 does without guidance, and 0 leaves the class out', async () => {
  const greedy = (name: string, label: string, cfg: string) =>
    generate(name, '--class', label, '--greedy', '--cfg', cfg, '--out', at(`${name}.png`));
  const unguided = await greedy('cfg1', '3', '1');
  // Guidance of practically 1 computes both sequences and mixes them.
  expect(unguided.rows).toEqual((await greedy('cfg1+', '3', '1.0000001')).rows);
  expect((await greedy('cfg0', '3', '0')).rows).toEqual((await greedy('none', '10', '1')).rows);
  expect(unguided.rows).not.toEqual((await greedy('cfg4', '3', '4')).rows);
});

test('--temperature, --top-k and --top-p narrow the draw', async () => {
  const {
    rows: [greedy],
  } = await generate('most-likely', '--class', '8', '--greedy', '--out', at('x.png'));
  for (const narrow of [
    ['--top-k', '1'],
    ['--top-p', '0'],
    ['--temperature', '0.001'],
  ]) {
    const { rows } = await generate('narrow', '--class', '8', '--seed', '9', ...narrow, '--out', at('x.png'));
    expect(rows, narrow.join(' ')).toEqual([greedy]);
  }
  const { rows } = await generate('wide', '--class', '8', '--seed', '9', '--out', at('x.png'));
  expect(rows).not.toEqual([greedy]);
});

test('--tokens stops early: the first tokens of the whole run, a smaller picture', async () => {
  const args = ['--class', '5', '--seed', '2'];
  const {
    rows: [whole],
  } = await generate('whole', ...args, '--out', at('whole.png'));
  for (const [asked, given, side] of [
    [3, 3, 4],
    [5, 8, 12],
    [16, 16, 20],
  ]) {
    const file = at(`first-${asked}.png`);
    const { report, rows } = await generate('first', ...args, '--tokens', `${asked}`, '--out', file);
    expect(report.tokensPerImage).toBe(given);
    expect(rows).toEqual([whole.slice(0, given)]);
    expect(await pixels(file)).toMatchObject({ width: side, height: side });
  }
});

test('--grid: one file, a row a class', async () => {
  const args = ['--class', '4,6', '--count', '3'];
  await generate('cells', ...args, '--out', at('cells'));
  const grid = at('grid.png');
  const { report } = await generate('grid', ...args, '--grid', '--out', grid);
  expect(report.images.map((image: { file: string }) => image.file)).toEqual(Array(6).fill(grid));
  expect(await pixels(grid)).toMatchObject({ width: 2 + 3 * 34, height: 2 + 2 * 34 });
  for (const [i, name] of (await names(at('cells'))).entries()) {
    const cell = await cut(grid, 2 + (i % 3) * 34, 2 + Math.floor(i / 3) * 34, 32);
    expect(cell).toEqual((await pixels(at(`cells/${name}`))).data);
  }
});

test('--progressive: a strip of every preview, the finished picture last; --grid puts strips below each other', async () => {
  const args = ['--class', '1,9', '--seed', '4'];
  await generate('finished', ...args, '--out', at('finished'));
  const { report } = await generate('strips', ...args, '--progressive', '--out', at('strips'));
  const previews = 4 + 7; // four single tokens, seven groups of four
  const finished = (await names(at('finished'))).map((name) => at(`finished/${name}`));
  for (const [i, { file }] of report.images.entries()) {
    expect(await pixels(file)).toMatchObject({ width: 2 + previews * 34, height: 36 });
    expect(await cut(file, 2 + 10 * 34, 2, 32)).toEqual((await pixels(finished[i])).data);
    expect(await cut(file, 2, 2, 32)).not.toEqual((await pixels(finished[i])).data);
  }
  await generate('sheet', ...args, '--progressive', '--grid', '--out', at('sheet.png'));
  expect(await pixels(at('sheet.png'))).toMatchObject({ width: 2 + previews * 34 + 4, height: 2 + 2 * 38 });
});

describe('wrong usage', () => {
  const out = ['--out', at('refused/x.png')];
  const noise = (name: string, value: number, images: number) =>
    saveNpy(at(name), new Float32Array(images * 32 * 1024).fill(value), [images, 32, 1024]);
  const zeros = noise('zeros.npy', 0, 1);
  const two = noise('two.npy', 1, 2);
  const half = saveNpy(at('half.npy'), new Float32Array(16 * 1024).fill(1), [1, 16, 1024]);

  test.each<[1 | 2, RegExp, string[]]>([
    [2, /--class is missing/, out],
    [2, /--class 11: the classes are 0-9, and 10 for none/, ['--class', '11', ...out]],
    [2, /is no range/, ['--class', '9-0', ...out]],
    [2, /no class names, give numbers 0-9/, ['--class', 'boot', ...out]],
    [2, /2 pictures do not go into .*: add --grid, or give a folder/, ['--class', '1,2', ...out]],
    [2, /--grid makes one file/, ['--class', '1,2', '--grid', '--out', at('refused')]],
    [2, /do not fit into one file/, ['--class', '0', '--count', '200000', '--grid', ...out]],
    [
      2,
      /do not fit into one file with --scale 64/,
      ['--class', '0-9', '--count', '4', '--grid', '--scale', '64', ...out],
    ],
    [2, /--scale 1.5: give a whole number from 1 to 64/, ['--class', '0', '--scale', '1.5', ...out]],
    [
      2,
      /--temperature is 1e-9; give a number from 0.00001/,
      ['--class', '0', '--temperature', '1e-9', ...out],
    ],
    [
      2,
      /--noise is float32 \[1, 16, 1024\]; give float32 \[1, 32, 1024\]/,
      ['--class', '0', '--noise', half, ...out],
    ],
    [2, /10000000 pictures are too many/, ['--class', '0-9', '--count', '1000000', '--out', at('refused')]],
    [2, /--count 0: give a whole number from 1/, ['--class', '0', '--count', '0', ...out]],
    [2, /--count 1.5: give a whole number/, ['--class', '0', '--count', '1.5', ...out]],
    [2, /--cfg "much" is no number/, ['--class', '0', '--cfg', 'much', ...out]],
    [2, /--temperature 0: give a number above 0/, ['--class', '0', '--temperature', '0', ...out]],
    [2, /--top-p 2: give a number from 0 to 1/, ['--class', '0', '--top-p', '2', ...out]],
    [2, /--tokens 33: give a whole number from 1 to 32/, ['--class', '0', '--tokens', '33', ...out]],
    [2, /--device "tpu": give one of cpu, cuda, webgpu, auto/, ['--class', '0', '--device', 'tpu', ...out]],
    [2, /--threads 0/, ['--class', '0', '--threads', '0', ...out]],
    [2, /there is no option --colour/, ['--class', '0', '--colour', 'red', ...out]],
    [2, /"boot.png" is not expected here/, ['--class', '0', 'boot.png', ...out]],
    [
      2,
      /--save-tokens ".*" must end in \.npy/,
      ['--class', '0', '--save-tokens', at('refused/t.txt'), ...out],
    ],
    [2, /draws for 2 pictures, 1 are to be drawn/, ['--class', '0', '--noise', two, ...out]],
    [1, /zeros\.npy: holds numbers that are not above 0/, ['--class', '0', '--noise', zeros, ...out]],
  ])('exit code %i: %s', async (code, message, args) => {
    expect(await cliFailure(code, 'generate', ...fashion, ...args)).toMatch(message);
    expect(await names(at('refused'))).toEqual([]);
  });

  test('both halves of a model are needed, and they must belong together', async () => {
    const args = ['--class', '0', ...out];
    const { generate } = {
      generate: (code: 1 | 2, ...model: string[]) => cliFailure(code, 'generate', ...model, ...args),
    };
    expect(await generate(2, ...goldenTokenizer('A'))).toMatch(
      /give --model DIR, or --tokenizer DIR and --ar DIR/,
    );
    expect(await generate(2, ...fashion, ...goldenTokenizer('A'))).toMatch(/not both/);
    const mixed = [...goldenTokenizer('A'), ...goldenBoth('B').slice(2)];
    expect(await generate(1, ...mixed)).toMatch(/do not belong together: 32 tokens .* 64 tokens/);
    expect(await generate(1, '--model', at('nowhere'))).toMatch(/nowhere/);
    expect(await names(at('refused'))).toEqual([]);
  });
});

test('a picture is the same file whatever the number of threads', async () => {
  const files = [at('one-thread.png'), at('two-threads.png')];
  await generate('one', '--class', '2', '--threads', '1', '--out', files[0]);
  await generate('two', '--class', '2', '--threads', '2', '--device', 'cpu', '--out', files[1]);
  const [one, two] = await Promise.all(files.map((file) => readFile(file)));
  expect(one.equals(two)).toBe(true);
});
