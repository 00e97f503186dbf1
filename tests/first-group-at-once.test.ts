import { readFile, writeFile } from 'node:fs/promises';
import { createNodeBackend } from '@detailflow/backend-node';
import { forwardGraph, parseGroupConfig, placeKinds, placeMask, sequenceIds } from '@detailflow/blocks';
import { type Backend, Tensor } from '@detailflow/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cliFailure, cliJson, codeRows, testFolder } from './cli';
import { expectClose } from './golden';
import { groupWeights, randomGroupModel } from './random-group-model';

// Models whose first group is predicted at once, like the others (causalTokens 0). What such models compute is in odd-configurations.

const config = parseGroupConfig({
  ...{ tokens: 12, groupSize: 4, causalTokens: 0, vocabularySize: 10, classes: 3 },
  ...{ dim: 16, layers: 2, heads: 4, kvHeads: 2, hiddenDim: 24, ropeBase: 10000, normEpsilon: 1e-5 },
});
const rows = Int32Array.from({ length: 2 * config.tokens }, (_, i) => (7 * i + 3) % config.vocabularySize);
const labels = [2, 3];

describe('logits', () => {
  let backend: Backend;
  beforeAll(async () => {
    backend = await createNodeBackend({ threads: 1 });
  });
  afterAll(() => backend.close());

  /** Of every step, with the cache. */
  async function stepByStep(): Promise<number[][]> {
    const session = await randomGroupModel(config)(backend).begin(labels);
    const steps: number[][] = [];
    let chosen: Int32Array | undefined;
    for (let at = 0; at < config.tokens; at += config.groupSize) {
      steps.push([...(await session.predict(chosen)).data]);
      expect([session.position, session.nextCount]).toEqual([at, config.groupSize]);
      chosen = Int32Array.from(
        labels.flatMap((_, row) => {
          const first = row * config.tokens + at;
          return [...rows.subarray(first, first + config.groupSize)];
        }),
      );
    }
    await session.dispose();
    return steps;
  }

  test('of a training sequence are those of its steps', async () => {
    const { tokens, groupSize, vocabularySize } = config;
    const kinds = placeKinds(config);
    const executable = await backend.compile(forwardGraph(config), groupWeights(config));
    const { logits } = await executable.run({
      ids: new Tensor('int32', sequenceIds(config, { labels, rows }), [2, tokens]),
      kinds: new Tensor('int32', kinds, [tokens]),
      positions: new Tensor('int32', Int32Array.from(kinds.keys()), [tokens]),
      visible: new Tensor('bool', placeMask(tokens, config), [tokens, tokens]),
    });
    await executable.dispose();
    const all = logits.data as Float32Array;
    const size = groupSize * vocabularySize;
    for (const [step, expected] of (await stepByStep()).entries()) {
      const found = [0, 1].flatMap((row) => {
        const at = row * tokens * vocabularySize + step * size;
        return [...all.subarray(at, at + size)];
      });
      expectClose(found, expected);
    }
  });

  test('of a pool, whose rows are at different steps, are those of each alone', async () => {
    const expected = await stepByStep();
    const pool = await randomGroupModel(config)(backend).openPool?.({ rows: 2 });
    if (!pool) throw new Error('there is no pool');
    const members = labels.map((label) => pool.begin([label]));
    const next = (row: number, step: number) => {
      const at = row * config.tokens + (step - 1) * config.groupSize;
      return step === 0 ? undefined : rows.slice(at, at + config.groupSize);
    };
    for (let round = 0; round < 4; round++) {
      const running = [0, 1].filter((row) => round - row >= 0 && round - row < 3); // the second begins later
      const steps = running.map((row) => ({ member: members[row], chosen: next(row, round - row) }));
      const found = await pool.predict(steps);
      for (const [i, row] of running.entries()) {
        const one = expected[round - row];
        const half = one.length / 2;
        expectClose([...found[i][0]], one.slice(row * half, (row + 1) * half));
      }
    }
    await pool.dispose();
  });
});

describe('trained', () => {
  const at = testFolder();
  const tower = { width: 16, heads: 2, layers: 1, mlpWidth: 32, patchSize: 8, positionGrid: 2 };
  const recipe = { batch: 8, microBatch: 8, warmup: 0 };
  const settings = {
    preset: 'tiny-32',
    tokenizer: {
      model: {
        ...{ imageSize: 16, tokens: 8, groupSize: 2, causalTokens: 0, codebookSize: 32 },
        ...{ encoder: tower, decoder: tower, causalDecoder: true },
      },
      ...{ ...recipe, steps: 24, correction: 1, degradation: 0.5 },
    },
    tokenModel: { ...recipe, model: { dim: 16, layers: 1, heads: 2, hiddenDim: 32 }, steps: 4 },
    validation: { every: 9, images: 8 },
  };
  const official = ['--tokenizer', at('run/official/tokenizer'), '--ar', at('run/official/ar')];
  const ways = [['--model', at('run/bundle')], official];

  beforeAll(async () => {
    await writeFile(at('config.json'), JSON.stringify(settings));
    const source = ['--config', at('config.json'), '--data', 'shapes:40x16'];
    await cliJson('train', 'all', ...source, '--out', at('run'));
  });

  test('no single token is ever counted, and the first group alone is not corrected', async () => {
    const log = (await readFile(at('run/tokenizer/log.jsonl'), 'utf8')).trim().split('\n');
    const variants = log.map((line) => JSON.parse(line).variant);
    expect(new Set(variants.map(({ tokens }) => tokens % 2))).toEqual(new Set([0]));
    expect(variants.some(({ tokens }) => tokens === 2)).toBe(true);
    for (const { tokens, noiseIndex } of variants) {
      if (tokens === 2) expect(noiseIndex).toBeNull();
      else expect([0, 2, 4]).toContain(noiseIndex);
    }
  });

  test('it is in the official files, and both forms draw the same', async () => {
    for (const half of ['tokenizer', 'ar']) {
      const config = JSON.parse(await readFile(at(`run/official/${half}/config.json`), 'utf8'));
      expect(config).toMatchObject({ group_size: 2, causal_num: 0 });
    }
    const drawn = ['--class', '1', '--seed', '2'];
    for (const [i, way] of ways.entries()) {
      const saved = ['--save-tokens', at(`${i}.npy`)];
      await cliJson('generate', ...way, ...drawn, ...saved, '--out', at(`${i}.png`));
    }
    expect(await codeRows(at('1.npy'))).toEqual(await codeRows(at('0.npy')));
    await cliJson('generate', ...official, ...drawn, '--tokens', '2', '--out', at('few.png'));
  });

  test('pictures are encoded by whole groups, restored from few tokens, and varied', async () => {
    const picture = at('0.png');
    const { shape } = await cliJson(
      ...['encode', ...ways[0], picture, '--tokens', '2', '--out', at('two.npy')],
    );
    expect(shape).toEqual([1, 2]);
    await cliJson('decode', ...ways[0], at('two.npy'), '--out', at('two-pixels.npy'));
    await cliJson('vary', ...ways[0], picture, '--keep', '2', '--count', '1', '--out', at('varied.png'));
    const wrong = ['encode', ...ways[0], picture, '--tokens', '0', '--out', at('none.npy')];
    expect(await cliFailure(2, ...wrong)).toMatch(/--tokens/);
    const { restorations } = await cliJson(
      ...['eval', 'tokenizer', ...ways[0], '--data', 'shapes:40x16', '--count', '4', '--noise', '0,2'],
      ...['--out', at('eval')],
    );
    expect(restorations.map(({ tokens }: { tokens: number }) => tokens)).toEqual([2, 4, 8, 8, 8]);
  });

  test.each([
    [-2, /causalTokens.*0/],
    [1, /must be multiples of groupSize/],
    [0.5, /causalTokens/],
  ])('%s causal tokens are refused', async (causalTokens, message) => {
    const changed = ['--set', `tokenizer.model.causalTokens=${causalTokens}`];
    const source = ['--config', at('config.json'), '--data', 'shapes:40x16', ...changed];
    expect(await cliFailure(1, 'train', 'all', ...source, '--out', at('none'))).toMatch(message);
  });
});
