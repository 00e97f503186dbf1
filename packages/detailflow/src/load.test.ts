import { execFile } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { createNodeBackend } from '@detailflow/backend-node';
import { type Family, fileTree } from '@detailflow/checkpoint';
import {
  type Backend,
  bytesSource,
  DetailFlowError,
  pixelToByte,
  resizeImages,
  Tensor,
} from '@detailflow/core';
import { psnr } from '@detailflow/eval';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { detailflowFamily } from './detailflow-family';
import { load, type Model, type Reconstruction } from './load';
import { openModel } from './model-source';

const inRepository = (file: string) => fileURLToPath(new URL(`../../../${file}`, import.meta.url));
const fashion = inRepository('tests/fixtures/fashion-ref');
const golden = (set: string, part: string) => inRepository(`tests/fixtures/golden/${set}/${part}`);
const onLinux = process.platform === 'linux';

/** Checkpoint files below a folder that this process holds open. */
function openCheckpoints(folder: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(folder) && target.endsWith('.pt') ? [target] : [];
    } catch {
      return []; // closed meanwhile
    }
  });
}

const greyImages = (batch: number, side: number) =>
  new Tensor('float32', new Float32Array(batch * 3 * side * side), [batch, 3, side, side]);

async function lastTokens(model: Model, labels: number[]): Promise<number[]> {
  let tokens: number[] = [];
  for await (const step of model.generate({ labels, greedy: true, cfg: 2 })) {
    if (step.count === step.total) tokens = Array.from((await step.tokens()).data as Int32Array);
  }
  return tokens;
}

async function failure(promise: Promise<unknown>): Promise<DetailFlowError> {
  const error = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(DetailFlowError.isInstance(error), `rejected with ${error}`).toBe(true);
  return error as DetailFlowError;
}

describe('a model with a backend of its own', () => {
  let model: Model;
  beforeAll(async () => {
    model = await load(fashion);
  });
  afterAll(() => model.dispose());

  test('says what it is', () => {
    expect(model.backend.name).toBe('cpu');
    expect(model.card).toBeUndefined();
    expect(model.tokenizer).toMatchObject({ tokens: 32, imageSize: 32, codebookSize: 1024 });
    expect(model.tokenModel).toMatchObject({ tokens: 32, classes: 10 });
    expect(model.tokenModel?.schedule).toEqual([1, 1, 1, 1, 4, 4, 4, 4, 4, 4, 4]);
  });

  test('generates step by step; pictures are decoded when asked for', async () => {
    const steps: [number, number][] = [];
    for await (const step of model.generate({ labels: [8], seed: 1 })) {
      steps.push([step.count, step.resolution]);
      expect(step.total).toBe(32);
      expect((await step.tokens()).dims).toEqual([1, step.count]);
      if (step.count === 8) expect((await step.image()).width).toBe(12);
      if (step.count === 32) expect((await step.pixels({ size: 64 })).dims).toEqual([1, 3, 64, 64]);
    }
    expect(steps.map(([count]) => count)).toEqual([1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32]);
    expect(steps.map(([, resolution]) => resolution)).toEqual([4, 4, 4, 8, 12, 16, 20, 24, 28, 32, 32]);
  });

  test('encodes and decodes', async () => {
    const codes = await model.encode(greyImages(3, 32), { tokens: 8 });
    expect([codes.type, codes.dims]).toEqual(['int32', [3, 8]]);
    expect((await model.decode(codes)).dims).toEqual([3, 3, 12, 12]);
    expect((await model.decode(codes, { tokens: 1, size: 32 })).dims).toEqual([3, 3, 32, 32]);
  });

  test('reconstructs coarse to fine; the PSNR is that of the picture shown, at the size that its tokens are worth', async () => {
    // A picture the model can draw: one it has drawn.
    const steps = [];
    for await (const step of model.generate({ labels: [1, 8], seed: 3, cfg: 2 })) steps.push(step);
    const drawn = await steps[steps.length - 1].pixels();
    const originals = new Tensor(
      'float32',
      (drawn.data as Float32Array).map((x) => Math.min(1, Math.max(-1, x))),
      drawn.dims,
    );

    const all: Reconstruction[] = [];
    for await (const step of model.reconstruct(originals)) all.push(step);
    expect(all.map(({ tokens }) => tokens)).toEqual([1, 2, 4, 8, 16, 32]);
    expect(all.map(({ resolution }) => resolution)).toEqual([4, 4, 8, 12, 20, 32]);
    for (const { resolution, pixels, psnr } of all) {
      expect(pixels.dims).toEqual([2, 3, resolution, resolution]);
      expect(psnr).toHaveLength(2);
    }

    const codes = await model.encode(originals);
    const second = (values: Float32Array) => values.subarray(values.length / 2);
    const shown = (values: Float32Array) => values.map((x) => pixelToByte(x) / 127.5 - 1);
    // What is measured is what is shown, against what 8 tokens are worth: 12 pixels, from the image shrunk to R(8).
    const sizes = { height: 12, width: 12 };
    const worth = model.detailflow?.tokenizer.resolutions.tokenToRes(8) as number;
    const whole = originals.data as Float32Array;
    const shrunk = resizeImages(whole, originals.dims, { height: worth, width: worth }, 'area');
    const target = resizeImages(shrunk, [2, 3, worth, worth], sizes, 'degradation').map((x) =>
      Math.min(1, Math.max(-1, x)),
    );
    const pixels = all[3].pixels.data as Float32Array;
    expect(all[3].psnr[1]).toBeCloseTo(psnr(second(shown(pixels)), second(target)), 6);
    // All tokens at full size, far better there than one of them.
    const one = second((await model.decode(codes, { tokens: 1, size: 32 })).data as Float32Array);
    expect(all[5].psnr[1]).toBeGreaterThan(psnr(one, second(whole)) + 5);

    const chosen: number[] = [];
    for await (const { tokens } of model.reconstruct(originals, { tokens: [5, 32] })) chosen.push(tokens);
    expect(chosen).toEqual([5, 32]);
  });

  test('stops when its signal aborts', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    let seen = 0;
    const run = async () => {
      for await (const _ of model.generate({ labels: [0], signal: controller.signal })) {
        if (++seen === 3) controller.abort(reason);
      }
    };
    await expect(run()).rejects.toBe(reason);
    expect(seen).toBe(3);
    const again = async () => {
      for await (const _ of model.reconstruct(greyImages(1, 32), { signal: controller.signal }));
    };
    await expect(again()).rejects.toBe(reason);
    await expect(model.encode(greyImages(1, 32), { signal: controller.signal })).rejects.toBe(reason);
  });
});

test('a family of the user is asked first, and gets the settings', async () => {
  const asked: unknown[] = [];
  const own: Family = {
    name: 'mine',
    async recognise(files) {
      asked.push(files.settings);
      return true;
    },
    async open(files, options) {
      const opened = await detailflowFamily.open({ ...files, settings: undefined }, options);
      return { ...opened, family: 'mine' };
    },
  };
  const model = await load(fashion, { families: [own], settings: { width: 3 } });
  expect([model.family, model.detailflow, asked]).toEqual(['mine', undefined, [{ width: 3 }]]);
  expect(await lastTokens(model, [3])).toHaveLength(32);
  expect(() => model.intervalGuidance(3)).toThrow(/mine/);
  await model.dispose();
});

test('models of other families: what all have, and what only DetailFlow has', async () => {
  const folder = inRepository('tests/fixtures/golden/family/var');
  const model = await load(new URL(`file://${folder}`));
  expect([model.family, model.detailflow, model.cfg]).toEqual(['VAR', undefined, 1.5]);
  expect(model.tokenModel?.schedule).toEqual([1, 4, 9, 16, 36]);
  const resolutions: number[] = [];
  for await (const step of model.generate({ labels: [3] })) resolutions.push((await step.image()).width);
  expect(resolutions).toEqual([12, 12, 12, 12, 12]);
  const kept = model.vary(greyImages(1, 12), { keepTokens: 14, seed: 2 });
  for await (const step of kept) expect(step.total).toBe(66);
  await model.dispose();
  const error = await failure(openModel(folder));
  expect([error.code, error.file]).toEqual(['unsupported', `${folder}/var_d2.pth`]);
  expect((await failure(load(fashion, { settings: { imageSize: 3 } }))).code).toBe('invalid-argument');
});

describe('disposing', () => {
  test('closes the backend that load made', async () => {
    const model = await load(fashion);
    const codes = await model.encode(greyImages(1, 32));
    await model.dispose();
    expect((await failure(model.decode(codes))).code).toBe('closed');
    expect((await failure(model.encode(greyImages(1, 32)))).code).toBe('closed');
    expect((await failure(lastTokens(model, [1]))).code).toBe('closed');
    await model.dispose(); // a second time does no harm
  });

  test('leaves a given backend to its owner, and frees only what the model holds on it', async () => {
    const backend = await createNodeBackend({ threads: 1 });
    const [one, two] = [await load(fashion, { backend }), await load(fashion, { backend })];
    const expected = await lastTokens(one, [4]);
    await one[Symbol.asyncDispose]();
    expect((await failure(lastTokens(one, [4]))).code).toBe('closed');
    expect(await lastTokens(two, [4])).toEqual(expected);
    await two.dispose();
    const three = await load(fashion, { backend });
    expect(await lastTokens(three, [4])).toEqual(expected);
    await backend.close();
    expect((await failure(lastTokens(three, [4]))).code).toBe('closed');
    await three.dispose(); // in the wrong order, but nothing is lost
  });

  test.runIf(onLinux)('closes the files, also when loading fails', async () => {
    const model = await load(fashion);
    await model.encode(greyImages(1, 32));
    expect(openCheckpoints(fashion)).toHaveLength(2);
    await model.dispose();
    expect(openCheckpoints(fashion)).toEqual([]);

    const mixed = { tokenizer: golden('A', 'tokenizer'), ar: golden('B', 'ar') };
    const error = await failure(load(mixed));
    expect(error.code).toBe('config');
    expect(error.message).toMatch(/do not belong together/);
    expect((await failure(load({ ...mixed, ar: golden('B', 'nothing') }))).code).toBe('io');
    expect(openCheckpoints(inRepository('tests'))).toEqual([]);
  });
});

describe('sources', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await createNodeBackend();
  });
  afterAll(() => backend.close());

  test('a tokenizer alone can encode and decode, not generate', async () => {
    const model = await load({ tokenizer: golden('B', 'tokenizer') }, { backend });
    expect(model.tokenModel).toBeUndefined();
    const codes = await model.encode(greyImages(1, 64));
    expect((await model.decode(codes)).dims).toEqual([1, 3, 64, 64]);
    expect(() => model.generate({ labels: [0] })).toThrow(/no AR part/);
    await model.dispose();
  });

  test('files in memory', async () => {
    const files = ['tokenizer', 'ar'].flatMap((part) =>
      readdirSync(`${fashion}/${part}`, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => `${entry.parentPath ?? entry.path}/${entry.name}`),
    );
    const sources = files.map(
      (file) => [file.slice(fashion.length + 1), bytesSource(new Uint8Array(readFileSync(file)))] as const,
    );
    const [fromMemory, fromDisk] = [
      await load(fileTree('memory', new Map(sources)), { backend }),
      await load(fashion, { backend }),
    ];
    expect(await lastTokens(fromMemory, [0, 9])).toEqual(await lastTokens(fromDisk, [0, 9]));
    await fromMemory.dispose();
    await fromDisk.dispose();
  });

  test('a package of the project that the program belongs to, wherever it is started', async () => {
    const project = mkdtempSync(path.join(tmpdir(), 'detailflow-project-'));
    try {
      const folder = path.join(project, 'node_modules/@mine/model');
      mkdirSync(folder, { recursive: true });
      writeFileSync(path.join(folder, 'package.json'), '{ "name": "@mine/model" }');
      cpSync(inRepository('packages/model-fashion-32/model'), path.join(folder, 'model'), {
        recursive: true,
      });
      const facade = new URL('../dist/index.js', import.meta.url).href;
      mkdirSync(path.join(project, 'src'));
      const program = path.join(project, 'src/program.mjs');
      writeFileSync(
        program,
        `import { openModel } from ${JSON.stringify(facade)};
        const { card, close } = await openModel('@mine/model');
        console.log(card.name);
        await close();`,
      );
      const run = promisify(execFile)(process.execPath, [program], { cwd: tmpdir() });
      expect((await run).stdout).toBe('fashion-32\n');
      // What lies on disk comes first, and a name that is nowhere is answered with what to do.
      const error = await failure(openModel('@nobody/model'));
      expect(error).toMatchObject({ code: 'io', file: '@nobody/model' });
      expect(error.message).toMatch(/npm install @nobody\/model$/);
    } finally {
      rmSync(project, { recursive: true, force: true });
    }
  });

  test('what is no model, or is not there, is refused with its name', async () => {
    expect((await failure(load(inRepository('docs'), { backend }))).message).toMatch(
      /docs: there is neither a config\.json/,
    );
    expect((await failure(load('no/such/folder', { backend }))).message).toMatch(/no\/such\/folder/);
    expect(backend.name).toBe('cpu');
  });

  test('loading can be stopped', async () => {
    const reason = new Error('changed my mind');
    await expect(load(fashion, { backend, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(load(fashion, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    if (onLinux) expect(openCheckpoints(fashion)).toEqual([]);
  });
});
