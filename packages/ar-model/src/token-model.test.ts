import {
  createGroupTokenModel as createTokenModel,
  groupParameters as tokenModelParameters,
} from '@detailflow/blocks';
import { type Backend, exponentialNoise, type Tensor, weightFromArray } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { describe, expect, test } from 'vitest';
import { parseTokenModelConfig } from './config';

const config = parseTokenModelConfig({
  tokens: 8,
  groupSize: 2,
  causalTokens: 4,
  vocabularySize: 10,
  classes: 3,
  dim: 16,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  hiddenDim: 24,
  ropeBase: 10000,
  normEpsilon: 1e-5,
});

const weights = new Map(
  tokenModelParameters(config).map(({ name, shape }, i) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const data = exponentialNoise({ seed: i, position: 0, count }).map((e) => (e - 0.7) / 2);
    return [name, weightFromArray(name, shape, data)];
  }),
);

const model = (backend: Backend = createReferenceBackend()) => createTokenModel({ config, weights, backend });

const numbers = (tensor: Tensor): number[] => Array.from(tensor.data as Float32Array);

/** All logits along given sequences, as one list for each step. */
async function walk(labels: number[], sequence: number[], one = model()): Promise<number[][]> {
  const session = await one.begin(labels);
  const steps: number[][] = [];
  let chosen: Int32Array | undefined;
  for (let at = 0; at < config.tokens; ) {
    steps.push(numbers(await session.predict(chosen)));
    const block = sequence.slice(at, at + session.nextCount);
    chosen = Int32Array.from(labels.flatMap(() => block));
    at += block.length;
  }
  await session.dispose();
  return steps;
}

/** A backend whose runs fail while `broken` is set. */
function fragileBackend(): { backend: Backend; broken: boolean } {
  const reference = createReferenceBackend();
  const fragile = {
    broken: false,
    backend: {
      ...reference,
      async compile(...given: Parameters<Backend['compile']>) {
        const executable = await reference.compile(...given);
        return {
          ...executable,
          async run(...feeds: Parameters<typeof executable.run>) {
            if (fragile.broken) throw new Error('out of memory');
            return executable.run(...feeds);
          },
        };
      },
    },
  };
  return fragile;
}

const sequence = [1, 2, 3, 4, 5, 6, 7, 8];

test('steps are single tokens, then groups', async () => {
  const session = await model().begin([0, 3]);
  expect([session.position, session.nextCount]).toEqual([0, 1]);
  const dims: (readonly number[])[] = [];
  for (const count of [1, 1, 1, 1, 2, 2]) {
    const previous = dims.length === 0 ? undefined : new Int32Array(2 * session.nextCount);
    dims.push((await session.predict(previous)).dims);
    expect(session.nextCount).toBe(count);
  }
  expect(dims).toEqual([1, 1, 1, 1, 2, 2].map((count) => [2, count, 10]));
});

test('rows do not see each other, nor do sequences side by side', async () => {
  const one = model();
  const [alone, both] = [await walk([1], sequence, one), await walk([2, 1], sequence, one)];
  for (const [step, logits] of alone.entries()) expect(both[step].slice(logits.length)).toEqual(logits);

  const [first, second] = [await one.begin([1]), await one.begin([2])];
  expect(numbers(await first.predict(undefined))).toEqual(alone[0]);
  await second.predict(undefined);
  await second.predict(Int32Array.of(9));
  expect(numbers(await first.predict(Int32Array.of(1)))).toEqual(alone[1]);
});

test('no chosen tokens at the start may also be an empty array', async () => {
  const [a, b] = [await model().begin([1]), await model().begin([1])];
  expect(numbers(await a.predict(new Int32Array(0)))).toEqual(numbers(await b.predict(undefined)));
});

test('a step that failed can be tried again', async () => {
  const fragile = fragileBackend();
  const session = await model(fragile.backend).begin([1]);
  const expected = await walk([1], sequence);
  for (const [step, logits] of expected.entries()) {
    const known = session.position;
    const chosen = step === 0 ? undefined : Int32Array.from(sequence.slice(known, known + session.nextCount));
    fragile.broken = true;
    await expect(session.predict(chosen)).rejects.toThrow('out of memory');
    expect(session.position).toBe(known);
    fragile.broken = false;
    expect(numbers(await session.predict(chosen))).toEqual(logits);
  }
});

describe('refused are', () => {
  test.each([[[]], [[4]], [[-1]], [[0.5]], [[Number.NaN]]])('labels %j', async (labels) => {
    await expect(model().begin(labels)).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('0..3'),
    });
  });

  test('tokens chosen before there is a prediction, too few, too many, or unknown ones', async () => {
    const session = await model().begin([0, 1]);
    const refused = (chosen: Int32Array | undefined, text: string) =>
      expect(session.predict(chosen)).rejects.toMatchObject({
        code: 'invalid-argument',
        message: expect.stringContaining(text),
      });
    await refused(Int32Array.of(1, 1), '2 tokens were chosen, 0 were predicted');
    await session.predict(undefined);
    await refused(undefined, '0 tokens were chosen, 2 were predicted');
    await refused(Int32Array.of(1), '1 tokens were chosen, 2 were predicted');
    await refused(Int32Array.of(1, 10), 'the token 10 is not in 0..9');
    await refused(Int32Array.of(-1, 1), 'the token -1');
    await session.predict(Int32Array.of(1, 9));
    expect(session.position).toBe(1);
  });

  test('steps beyond the end', async () => {
    const session = await model().begin([0]);
    await session.predict(undefined);
    for (const count of [1, 1, 1, 1, 2]) await session.predict(new Int32Array(count));
    await expect(session.predict(new Int32Array(2))).rejects.toMatchObject({
      code: 'invalid-argument',
      message: expect.stringContaining('complete'),
    });
  });

  test('weights that do not fit the configuration', () => {
    const few = new Map([...weights].slice(1));
    expect(() =>
      createTokenModel({ config, weights: few, backend: createReferenceBackend(), file: 'ar.pt' }),
    ).toThrow(
      expect.objectContaining({
        code: 'weights',
        file: 'ar.pt',
        message: expect.stringContaining('cls_embedding'),
      }),
    );
  });
});

test('an aborted signal stops at once, and the step can still be made', async () => {
  const session = await model().begin([0]);
  const signal = AbortSignal.abort(new Error('enough'));
  await expect(session.predict(undefined, { signal })).rejects.toThrow('enough');
  await expect(model().begin([0], { signal })).rejects.toThrow('enough');
  await expect(session.predict(undefined)).resolves.toBeDefined();
});

test('disposing ends it all, also where nothing was compiled', async () => {
  const used = model();
  await used.begin([0]);
  await used.dispose();
  await used.dispose();
  await expect(used.begin([0])).rejects.toMatchObject({ code: 'closed' });
  await model().dispose();

  const failing = model({
    ...createReferenceBackend(),
    compile: () => Promise.reject(new Error('no device')),
  });
  await expect(failing.begin([0])).rejects.toThrow('no device');
  await failing.dispose();
});

test.each([[undefined], [null], [Number.NaN], [-1], [0.5], [4], ['1'], [1n]])(
  'no sequence begins for the label %s, which is not class 0',
  async (label) => {
    const one = model();
    const wrong = [1, label] as number[];
    const refused = {
      code: 'invalid-argument',
      message: expect.stringMatching(/labels: .*; give class numbers 0..3/),
    };
    await expect(one.begin(wrong)).rejects.toMatchObject(refused);
    await expect(one.beginDrawing(wrong, { isGuided: false })).rejects.toMatchObject(refused);
    const pool = await one.openPool?.({ rows: 2 });
    expect(() => pool?.begin(wrong)).toThrow(expect.objectContaining(refused));
    await pool?.dispose();
    await expect(one.begin(new Array(1))).rejects.toMatchObject(refused);
  },
);
