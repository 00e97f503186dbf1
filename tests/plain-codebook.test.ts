import { readFileSync, writeFileSync } from 'node:fs';
import { type Backend, readFloat32, Tensor } from '@detailflow/core';
import { parseTokenizerConfig, type TokenizerConfig, tokenizerParameters } from '@detailflow/tokenizer';
import { type Arrays, Buffer, Learner, tokenizerStepGraph, variantFeeds } from '@detailflow/train';
import { openModel } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cliJson, codeRows, inRepository, testFolder } from './cli';
import { openDevice } from './devices';
import { expectClose } from './golden';
import { numbers } from './numbers-by-formula';

// Codebooks whose vectors have any length: training steps against torch; what is trained so as a bundle and in the official layout.
// Encoding, decoding and drawing with official checkpoints of this kind are among the odd configurations.

interface Run {
  readonly noise: number | null;
  readonly loss: number;
  readonly reconstruction: number;
  readonly vq: number;
  readonly commit: number;
  readonly entropy: number;
  readonly codes: readonly number[];
  readonly fresh: readonly number[] | null;
  readonly gradient: Readonly<
    Record<string, { norm: number; first: readonly number[]; last: readonly number[] }>
  >;
}

interface Case {
  readonly config: {
    readonly image: number;
    readonly patches: readonly [number, number];
    readonly tokens: number;
    readonly group: number;
    readonly causal: number;
    readonly enc: readonly number[];
    readonly dec: readonly number[];
    readonly codebook: readonly [number, number];
    readonly causalEncoder: boolean;
    readonly causalDecoder: boolean;
    readonly normalised: boolean;
  };
  readonly quantiser: { vqRatio: number; commitBeta: number; entropyRatio: number };
  readonly runs: readonly Run[];
}

/** By torch: tools/reference/plain-codebook.py. */
const cases: Case[] = JSON.parse(readFileSync(inRepository('tests/fixtures/plain-codebook.json'), 'utf8'));
const [BATCH, GRID, NEAREST] = [2, 3, 50];

function configOf({ config: c }: Case): TokenizerConfig {
  const tower = ([width, heads, layers, mlpWidth]: readonly number[], patchSize: number) => ({
    ...{ width, heads, layers, mlpWidth, patchSize, positionGrid: GRID },
  });
  return parseTokenizerConfig({
    ...{ imageSize: c.image, tokens: c.tokens, groupSize: c.group, causalTokens: c.causal },
    ...{ codebookSize: c.codebook[0], codebookDim: c.codebook[1] },
    ...{ encoder: tower(c.enc, c.patches[0]), decoder: tower(c.dec, c.patches[1]) },
    ...{ causalEncoder: c.causalEncoder, causalDecoder: c.causalDecoder, correction: true },
    ...{ resolutionPower: 1.5, normalisedCodebook: c.normalised },
  });
}

/** The weights of the script. */
function parametersOf(config: TokenizerConfig): Arrays {
  return new Map(
    tokenizerParameters(config).map(({ name, shape }) => {
      const x = numbers(
        name,
        shape.reduce((a, b) => a * b, 1),
      );
      const scaled = (factor: number, shift = 0) => x.map((value) => shift + factor * value);
      if (/(norm\d|layernorm)\.weight$/.test(name)) return [name, scaled(0.2, 1)];
      if (name.endsWith('bias')) return [name, scaled(0.1)];
      if (name === 'quantize.embedding.weight') return [name, scaled(1.5)];
      if (shape.length === 3 || name.includes('position_embedding')) return [name, scaled(0.7)];
      return [name, scaled(Math.sqrt(6 / shape[1]))];
    }),
  );
}

describe.each(cases.map((one, i) => [i, one.config.normalised, one] as const))(
  'configuration %i, normalised %s',
  (_, normalised, one) => {
    const config = configOf(one);
    const parameters = parametersOf(config);
    let backend: Backend & { close(): Promise<void> };
    beforeAll(async () => {
      expect(config.normalisedCodebook ?? true).toBe(normalised);
      backend = await openDevice('cpu');
    });
    afterAll(() => backend.close());

    test.each(one.runs.map((run) => [run.noise, run] as const))(
      'codes, losses and gradients, noise from token %s',
      async (noiseIndex, run) => {
        const { imageSize: size, tokens } = config;
        const learner = await Learner.create({
          ...{ backends: [backend], specs: tokenizerParameters(config), parameters },
          optimiser: { betas: [0, 0], epsilon: 1 },
        });
        const { quantiser } = one;
        const correction = noiseIndex !== null;
        const graph = await learner.compile(
          tokenizerStepGraph({ config, microBatch: BATCH, correction, quantiser }),
        );
        const dims = [BATCH, 3, size, size];
        const images = new Tensor('float32', numbers('plain/images', BATCH * 3 * size * size), dims);
        const limit = Math.min(NEAREST, config.codebookSize);
        const ranks = Int32Array.from(numbers('plain/ranks', BATCH * tokens), (x) =>
          Math.trunc(((x + 1) / 2) * limit),
        );
        const [found] = await learner.accumulate(graph, [
          {
            ...variantFeeds(config, { tokens, size, targetSize: size, noiseIndex }),
            ...{ images, target: images },
            ...(correction && { ranks: new Tensor('int32', ranks, [BATCH, tokens]) }),
          },
        ]);
        expect([...found.codes.data]).toEqual(run.codes);
        if (correction) {
          const end = noiseIndex + (noiseIndex < config.causalTokens ? 1 : config.groupSize);
          const later = (rows: ArrayLike<number>) => Array.from(rows).filter((_, i) => i % tokens >= end);
          expect(later(found.fresh.data as Int32Array)).toEqual(later(run.fresh ?? []));
        }
        for (const name of ['loss', 'reconstruction', 'vq', 'commit', 'entropy'] as const)
          expectClose(found[name].data as Float32Array, [run[name]]);
        const gradients = await learner.read(Buffer.gradient);
        const largest = Math.max(...Object.values(run.gradient).map(({ norm }) => norm));
        for (const [name, values] of gradients) {
          const norm = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
          const expected = run.gradient[name];
          if (!expected || expected.norm < 1e-6 * largest) {
            expect(norm, name).toBeLessThan(1e-5 * largest);
            continue;
          }
          expect(Math.abs(norm / expected.norm - 1), name).toBeLessThan(1e-3);
          const close = (value: number, wanted: number) =>
            expect(Math.abs(value - wanted), name).toBeLessThan(1e-3 * expected.norm);
          for (const [i, wanted] of expected.first.entries()) close(values[i], wanted);
          for (const [i, wanted] of expected.last.entries())
            close(values[values.length - expected.last.length + i], wanted);
        }
        await learner.dispose();
      },
    );
  },
);

describe('a tokenizer that is trained so', () => {
  const at = testFolder();
  const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 16 };
  const settings = {
    ...{ preset: 'tiny-32', replicas: 1, seed: 7 },
    data: { views: 'center' },
    tokenizer: {
      model: {
        ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 2, codebookSize: 32, codebookDim: 4 },
        ...{ encoder: tower, decoder: tower, normalisedCodebook: false },
      },
      ...{ steps: 12, batch: 4, microBatch: 2, warmup: 0, correction: 0.5, entropyRatio: 0.1 },
      ...{ learningRate: 0.01, revival: { every: 2, until: 0.9, patience: 2 } },
    },
    tokenModel: { model: { dim: 16, layers: 1, heads: 2 }, steps: 4, batch: 4, microBatch: 4, warmup: 0 },
    validation: { every: 9, images: 4 },
  };
  const bundle = ['--model', at('run/bundle')];
  const official = ['--tokenizer', at('run/official/tokenizer'), '--ar', at('run/official/ar')];

  beforeAll(async () => {
    writeFileSync(at('settings.json'), JSON.stringify(settings));
    const source = ['--config', at('settings.json'), '--data', 'shapes:40x16'];
    await cliJson('train', 'all', ...source, '--out', at('run'));
  });

  test('has vectors of many lengths, and says so in both layouts', async () => {
    const [one, other] = await Promise.all([
      openModel(at('run/bundle')),
      openModel({ tokenizer: at('run/official/tokenizer') }),
    ]);
    expect(one.tokenizer.config.normalisedCodebook).toBe(false);
    expect(other.tokenizer.config).toEqual(one.tokenizer.config);
    const name = 'quantize.embedding.weight';
    const [a, b] = await Promise.all(
      [one, other].map(({ tokenizer }) => readFloat32(tokenizer.weights.get(name) as never)),
    );
    expect(b).toEqual(a);
    const lengths = Array.from({ length: 32 }, (_, i) => Math.hypot(...a.subarray(4 * i, 4 * i + 4)));
    expect(Math.max(...lengths) / Math.min(...lengths)).toBeGreaterThan(1.5);
    const said = JSON.parse(readFileSync(at('run/official/tokenizer/config.json'), 'utf8'));
    expect(said.codebook_l2_norm).toBe(false);
    for (const opened of [one, other]) await opened.close();
  });

  test('draws, encodes and decodes the same from both, and again after a conversion', async () => {
    await cliJson('convert', ...official, '--out', at('again'));
    const ways = [bundle, official, ['--model', at('again')]];
    const drawn: number[][][] = [];
    for (const [i, way] of ways.entries()) {
      const args = ['--class', '1', '--seed', '3', '--save-tokens', at(`${i}.npy`), '--out', at(`${i}.png`)];
      await cliJson('generate', ...way, ...args);
      const only = way.slice(0, 2);
      await cliJson('encode', ...only, at(`${i}.png`), '--out', at(`${i}-codes.npy`));
      await cliJson('decode', ...only, at(`${i}-codes.npy`), '--out', at(`${i}-pixels.npy`));
      drawn.push([...(await codeRows(at(`${i}.npy`))), ...(await codeRows(at(`${i}-codes.npy`)))]);
    }
    expect(drawn[1]).toEqual(drawn[0]);
    expect(drawn[2]).toEqual(drawn[0]);
    expect(new Set(drawn[0].flat()).size).toBeGreaterThan(3);
    const pixels = ways.map((_, i) => readFileSync(at(`${i}-pixels.npy`)));
    expect(pixels[1]).toEqual(pixels[0]);
    expect(pixels[2]).toEqual(pixels[0]);
  });
});
