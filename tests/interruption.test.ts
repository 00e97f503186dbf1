import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, watch } from 'node:fs';
import path from 'node:path';
import { load, type Model, openModel } from 'detailflow';
import { describe, expect, test } from 'vitest';
import { cli, fashion, inRepository, names, type Outcome, testFolder } from './cli';

const at = testFolder();

/** A bundle that opens and gives every byte of every weight. */
async function expectWhole(folder: string): Promise<void> {
  expect(await names(folder)).toEqual(['ar.safetensors', 'config.json', 'tokenizer.safetensors']);
  const model = await openModel(folder);
  for (const part of [model.tokenizer, model.ar!]) {
    for (const weight of part.weights.values()) {
      const bytes = await weight.read();
      expect(bytes.length).toBe(4 * weight.shape.reduce((a, b) => a * b, 1));
    }
  }
  await model.close();
}

const convert = (out: string, ...more: string[]): Promise<Outcome> =>
  cli(['convert', ...fashion, '--out', out, ...more]);

describe('a killed conversion', () => {
  /** Kills a conversion so many milliseconds after it began, or after its first file appeared. */
  const killed = async (out: string, milliseconds: number, from: 'start' | 'first file'): Promise<void> => {
    const program = inRepository('packages/detailflow/dist/cli.js');
    const child = spawn(process.execPath, [program, 'convert', ...fashion, '--out', out]);
    const closed = once(child, 'close');
    const watcher = watch(path.dirname(out));
    if (from === 'first file') await Promise.race([once(watcher, 'change'), closed]);
    const timer = setTimeout(() => child.kill('SIGKILL'), milliseconds);
    await closed;
    clearTimeout(timer);
    watcher.close();
  };

  test('leaves no bundle or a whole one, whenever it dies', async () => {
    const begun = performance.now();
    expect((await convert(at('complete'))).code).toBe(0);
    const duration = performance.now() - begun;
    await expectWhole(at('complete'));

    let leftovers = 0;
    let whole = 0;
    for (let i = 0; i < 10; i++) {
      const folder = at(`killed-${i}`);
      mkdirSync(folder);
      const part = (i + Math.random()) / 10;
      if (i % 5 === 0) await killed(path.join(folder, 'bundle'), part * duration, 'start');
      else await killed(path.join(folder, 'bundle'), part * 0.4 * duration, 'first file');
      const left = readdirSync(folder);
      const others = left.filter((name) => name !== 'bundle');
      for (const name of others) expect(name).toMatch(/^\.bundle\.new-[0-9a-f]{12}$/);
      leftovers += others.length;
      if (!left.includes('bundle')) continue;
      whole++;
      await expectWhole(path.join(folder, 'bundle'));
      expect(others).toEqual([]);
    }
    expect(leftovers, 'conversions that died while they wrote').toBeGreaterThan(0);
    expect(leftovers + whole).toBeGreaterThan(4);
    // Where a killed one has left something, the next goes its way.
    const last = at('killed-0');
    expect((await convert(path.join(last, 'bundle'))).code).toBe(0);
    await expectWhole(path.join(last, 'bundle'));
  });
});

describe('two conversions into one folder', () => {
  test('one wins, the other says why it does not', async () => {
    for (let round = 0; round < 2; round++) {
      const folder = at(`race-${round}`);
      mkdirSync(folder);
      const out = path.join(folder, 'bundle');
      const outcomes = await Promise.all([convert(out), convert(out)]);
      expect(outcomes.map(({ code }) => code).sort()).toEqual([0, 1]);
      const { stderr } = outcomes.find(({ code }) => code === 1) as Outcome;
      expect(stderr).toMatch(
        /^detailflow convert: .*bundle: (it exists already|something else was put there)/,
      );
      await expectWhole(out);
      expect(readdirSync(folder)).toEqual(['bundle']);
    }
  });

  test('with --overwrite both end well', async () => {
    const folder = at('overwrite');
    mkdirSync(folder);
    const out = path.join(folder, 'bundle');
    expect((await convert(out)).code).toBe(0);
    for (let round = 0; round < 2; round++) {
      const outcomes = await Promise.all(
        ['one', 'two', 'three'].map((name) => convert(out, '--overwrite', '--name', name)),
      );
      expect(outcomes.map(({ code, stderr }) => ({ code, stderr }))).toEqual(
        Array(3).fill({ code: 0, stderr: '' }),
      );
      await expectWhole(out);
      expect(readdirSync(folder)).toEqual(['bundle']);
    }
  });
});

test('three hundred generations that are left or aborted keep no more than a hundred', async () => {
  await using model = await load(fashion[1]);
  for (let i = 0; i < 100; i++) await abandon(model, i);
  const before = memory();
  for (let i = 100; i < 300; i++) await abandon(model, i);
  const after = memory();
  expect(after.resident - before.resident, 'MB of resident memory more').toBeLessThan(60);
  expect(after.arrays - before.arrays, 'MB of arrays and external memory more').toBeLessThan(10);
});

/** Begins a generation and leaves it after a few steps, by `break` or by aborting. */
async function abandon(model: Model, round: number): Promise<void> {
  const steps = 1 + (round % 7);
  const labels = [round % 10, (round + 3) % 10];
  const controller = new AbortController();
  let step = 0;
  const run = async () => {
    for await (const _ of model.generate({ labels, seed: round, cfg: 2, signal: controller.signal })) {
      if (++step < steps) continue;
      if (round % 2 === 0) break;
      controller.abort();
    }
  };
  if (round % 2 === 0) await run();
  else await expect(run()).rejects.toMatchObject({ name: 'AbortError' });
  expect(step).toBe(steps);
}

function memory(): { resident: number; arrays: number } {
  globalThis.gc?.();
  const { rss, external, arrayBuffers } = process.memoryUsage();
  return { resident: rss / 2 ** 20, arrays: (external + arrayBuffers) / 2 ** 20 };
}
