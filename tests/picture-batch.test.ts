import { createNodeBackend } from '@detailflow/backend-node';
import { parseGroupConfig } from '@detailflow/blocks';
import { type Backend, DetailFlowError, exponentialNoise, Tensor, type TokenModel } from '@detailflow/core';
import { createReferenceBackend } from '@detailflow/core/reference';
import { sampleTokens } from '@detailflow/sampler';
import { type BatchPictureOptions, createPictureBatch, type PictureBatch } from '@detailflow/sampler/batch';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { randomGroupModel } from './random-group-model';

const config = parseGroupConfig({
  ...{ tokens: 12, groupSize: 3, causalTokens: 3, vocabularySize: 24, classes: 5 },
  ...{ dim: 32, layers: 2, heads: 4, kvHeads: 2, hiddenDim: 48, ropeBase: 10000, normEpsilon: 1e-5 },
});

const modelOn = randomGroupModel(config);

/** The same model where its batches cannot be joined later. */
function withoutPool(model: TokenModel): TokenModel {
  const { tokens, schedule, vocabularySize, classes, guidances } = model;
  return {
    ...{ tokens, schedule, vocabularySize, classes, guidances },
    unconditional: () => model.unconditional(),
    begin: (...given) => model.begin(...given),
    dispose: () => model.dispose(),
  };
}

/** Repeatable numbers from 0 to 1. */
function* numbers(seed: number): Generator<number, never, void> {
  for (let position = 0; ; position++) {
    yield* exponentialNoise({ seed, position, count: 64 }).map((e) => Math.exp(-e));
  }
}

/** Options as requests of all kinds have them. */
function randomPicture(index: number, next: () => number): BatchPictureOptions {
  const whole = (most: number) => Math.floor(next() * (most + 1));
  const kept = whole(3) === 0 ? 1 + whole(5) : 0;
  return {
    label: whole(5),
    seed: 1000 * index,
    cfg: [1, 1.5, 3, 0][whole(3)],
    temperature: [1, 0.6, 1.7][whole(2)],
    topK: [0, 5][whole(1)],
    topP: [1, 0.8][whole(1)],
    greedy: whole(9) === 0,
    guidance: ['constant', 'gradual'][whole(1)],
    tokens: kept > 0 || whole(2) > 0 ? 12 : 1 + whole(11),
    ...(kept > 0 && {
      prefix: new Tensor(
        'int32',
        Int32Array.from({ length: kept }, () => whole(23)),
        [1, kept],
      ),
    }),
  };
}

async function alone(
  model: TokenModel,
  { label, seed = 0, ...rest }: BatchPictureOptions,
): Promise<number[]> {
  let tokens: number[] = [];
  for await (const step of sampleTokens({ ...rest, model, labels: [label], seed })) {
    tokens = Array.from((await step.tokens()).data);
  }
  return tokens;
}

async function drawn(batch: PictureBatch, options: BatchPictureOptions): Promise<number[]> {
  let tokens: number[] = [];
  for await (const step of batch.sample(options)) tokens = Array.from((await step.tokens()).data);
  return tokens;
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe.each([
  { name: 'cpu', count: 500, pooled: true },
  { name: 'reference', count: 40, pooled: true },
  { name: 'cpu, each in a session of its own', count: 60, pooled: false },
])('on the backend $name', ({ name, count, pooled }) => {
  let backend: Backend;
  let model: TokenModel;
  beforeAll(async () => {
    backend = name === 'reference' ? createReferenceBackend() : await createNodeBackend({ threads: 1 });
    model = pooled ? modelOn(backend) : withoutPool(modelOn(backend));
  });
  afterAll(() => backend.close());

  test(`${count} pictures that come and go at random are those that are drawn alone`, async () => {
    const random = numbers(77);
    const next = () => random.next().value;
    const sizes = new Set<number>();
    const batch = createPictureBatch({ model, pictures: 5, onRun: ({ pictures }) => sizes.add(pictures) });
    const drawing: Promise<void>[] = [];
    const found = new Map<number, number[]>();
    const pictures = Array.from({ length: count }, (_, i) => randomPicture(i, next));
    let cancelled = 0;
    for (const [i, options] of pictures.entries()) {
      const controller = new AbortController();
      const patience = next() < 0.3 ? Math.floor(next() * 8) : Number.POSITIVE_INFINITY;
      if (patience === 0) setImmediate(() => controller.abort(new Error('too late')));
      const leaves = next() < 0.5; // some by leaving the loop
      drawing.push(
        (async () => {
          let steps = 0;
          let tokens: number[] = [];
          let isLast = false;
          for await (const step of batch.sample({ ...options, signal: controller.signal })) {
            tokens = Array.from((await step.tokens()).data);
            isLast = step.count === step.total;
            if (++steps < patience || isLast) continue;
            if (leaves) break;
            controller.abort(new Error('enough'));
          }
          if (isLast) found.set(i, tokens);
          else cancelled++;
        })().catch((error: Error) => {
          if (!['too late', 'enough'].includes(error.message)) throw error;
          cancelled++;
        }),
      );
      for (let wait = Math.floor(next() * 4); wait > 0; wait--) await turn();
    }
    await Promise.all(drawing);
    expect(found.size + cancelled).toBe(count);
    expect(cancelled).toBeGreaterThan(count / 20);
    expect(batch.running + batch.waiting).toBe(0);
    if (name !== 'reference') expect(Math.max(...sizes)).toBe(5);
    await batch.close();
    for (const [i, tokens] of found)
      expect([i, ...tokens]).toEqual([i, ...(await alone(model, pictures[i]))]);
  });
});

describe('a batch', () => {
  let backend: Backend;
  let model: TokenModel;
  beforeAll(async () => {
    backend = await createNodeBackend({ threads: 1 });
    model = modelOn(backend);
  });
  afterAll(() => backend.close());

  test('begins pictures in the order in which they came', async () => {
    const batch = createPictureBatch({ model, pictures: 2 });
    const begun: number[] = [];
    await Promise.all(
      Array.from({ length: 12 }, async (_, i) => {
        let isFirst = true;
        // Short and long ones: nobody is overtaken while waiting.
        for await (const step of batch.sample({ label: 1, tokens: i % 3 === 0 ? 12 : 2 })) {
          if (isFirst) begun.push(i);
          isFirst = step.count === 0;
        }
      }),
    );
    expect(begun).toEqual(Array.from({ length: 12 }, (_, i) => i));
    await batch.close();
  });

  test('does not wait for a reader, and gives the place of one that leaves to the next', async () => {
    const batch = createPictureBatch({ model, pictures: 1 });
    const slow = batch.sample({ label: 0, seed: 5 });
    await slow.next();
    expect(await drawn(batch, { label: 2, seed: 9 })).toEqual(await alone(model, { label: 2, seed: 9 }));
    const counts: number[] = [];
    for await (const { count } of slow) counts.push(count); // all that it missed
    expect(counts).toEqual([2, 3, 6, 9, 12]);

    const leaving = batch.sample({ label: 0 });
    await leaving.next();
    const controller = new AbortController();
    const waiting = drawn(batch, { label: 4, signal: controller.signal });
    const last = drawn(batch, { label: 3, seed: 1 });
    expect([batch.running, batch.waiting]).toEqual([1, 2]);
    controller.abort(new Error('no longer'));
    await expect(waiting).rejects.toThrow('no longer');
    await leaving.return();
    expect(await last).toEqual(await alone(model, { label: 3, seed: 1 }));
    await batch.close();
  });

  /** The model, and the rows of each of its runs. */
  function counted(): { counted: TokenModel; rows: number[] } {
    const rows: number[] = [];
    const counting: TokenModel = {
      ...withoutPool(model),
      async openPool(options) {
        const pool = await model.openPool?.(options);
        if (!pool) throw new Error('there is no pool');
        return {
          rows: pool.rows,
          begin: (conditions) => pool.begin(conditions),
          async predict(steps, call) {
            const logits = await pool.predict(steps, call);
            rows.push(logits.flat().length);
            return logits;
          },
          dispose: () => pool.dispose(),
        };
      },
    };
    return { counted: counting, rows };
  }

  test.each(['leaves the loop', 'aborts'])('runs the model no further for one that %s', async (way) => {
    const { counted: counting, rows } = counted();
    const batch = createPictureBatch({ model: counting, pictures: 2 });
    const controller = new AbortController();
    // Side by side, with guidance two rows each; the third waits for a place.
    const leaving = batch.sample({ label: 0, cfg: 2, signal: controller.signal });
    const staying = drawn(batch, { label: 1, cfg: 2 });
    const first = leaving.next();
    const waiting = drawn(batch, { label: 2, cfg: 2 });
    await first;
    expect(batch.waiting).toBe(1);
    if (way === 'aborts') {
      controller.abort(new Error('enough'));
      await expect(leaving.next()).rejects.toThrow('enough');
    } else await leaving.return();
    await Promise.all([staying, waiting]);
    // Six steps: one of the leaving picture, another at most that was under way, and six of each other one. The place is
    // taken by the picture that waited while its neighbour is still being drawn.
    const all = rows.reduce((sum, one) => sum + one, 0);
    expect([2 * 13, 2 * 14]).toContain(all);
    expect(rows.filter((one) => one === 4).length).toBeGreaterThan(2);
    await batch.close();
  });

  test('ends a picture alone that cannot be drawn', async () => {
    const batch = createPictureBatch({ model, pictures: 4 });
    const results = await Promise.allSettled([
      drawn(batch, { label: 1, seed: 3 }),
      drawn(batch, { label: 1, cfg: 1e38 }),
      drawn(batch, { label: 9 }),
      drawn(batch, { label: 1, tokens: 0 }),
      drawn(batch, { label: 1, seed: -1 }),
      drawn(batch, { label: 2, seed: 3 }),
    ]);
    const codes = results.map((result) => (result.status === 'fulfilled' ? 'drawn' : result.reason.code));
    expect(codes).toEqual([
      ...['drawn', 'runtime', 'invalid-argument', 'invalid-argument', 'invalid-argument', 'drawn'],
    ]);
    expect(batch.running + batch.waiting).toBe(0);
    await batch.close();
  });

  test('ends a picture alone that the model refuses, at its first step or later, without a pool of the model', async () => {
    // It says what it refuses when a sequence begins, as models of texts do, and of class 3 in its third step.
    const refusing: TokenModel = {
      ...withoutPool(model),
      async begin(conditions, options) {
        const session = await model.begin(conditions, options);
        const predict = session.predict.bind(session);
        session.predict = async (...given) => {
          if (conditions.includes(3) && session.position > 0)
            throw new DetailFlowError('runtime', 'not this');
          return predict(...given);
        };
        return session;
      },
    };
    const batch = createPictureBatch({ model: refusing, pictures: 5 });
    const all = [
      { label: 1, seed: 3 },
      { label: 9 },
      { label: 2, cfg: 2 },
      { label: 3 },
      { label: 0, seed: 8 },
    ];
    const results = await Promise.allSettled(all.map((options) => drawn(batch, options)));
    for (const [i, code] of [undefined, 'invalid-argument', undefined, 'runtime', undefined].entries()) {
      const expected =
        code === undefined ? { value: await alone(model, all[i]) } : { reason: { code }, status: 'rejected' };
      expect(results[i]).toMatchObject(expected);
    }
    expect(batch.running + batch.waiting).toBe(0);
    expect(await drawn(batch, { label: 4 })).toEqual(await alone(model, { label: 4 }));
    await batch.close();
  });

  test('ends a picture alone that its model refuses to begin, where each has a session of its own', async () => {
    const batch = createPictureBatch({ model: withoutPool(model), pictures: 3 });
    const [first, wrong, last] = await Promise.allSettled([
      drawn(batch, { label: 1 }),
      drawn(batch, { label: 99 }),
      drawn(batch, { label: 2 }),
    ]);
    expect(wrong).toMatchObject({ status: 'rejected', reason: { code: 'invalid-argument' } });
    expect(first).toEqual({ status: 'fulfilled', value: await alone(model, { label: 1 }) });
    expect(last).toEqual({ status: 'fulfilled', value: await alone(model, { label: 2 }) });
    await batch.close();
  });

  test('refuses a picture without a label', async () => {
    for (const one of [model, withoutPool(model)]) {
      const batch = createPictureBatch({ model: one });
      await expect(drawn(batch, { cfg: 1 } as BatchPictureOptions)).rejects.toMatchObject({
        code: 'invalid-argument',
        message: expect.stringContaining('labels: missing'),
      });
      await batch.close();
    }
  });

  test('fails with its model, and tries again with the next picture', async () => {
    let isBroken = true;
    const fragile: TokenModel = {
      ...withoutPool(model),
      async openPool(options) {
        if (isBroken) throw new DetailFlowError('runtime', 'out of memory');
        const pool = await modelOn(backend).openPool?.(options);
        if (!pool) throw new Error('there is no pool');
        return pool;
      },
    };
    const batch = createPictureBatch({ model: fragile });
    const both = await Promise.allSettled([drawn(batch, { label: 1 }), drawn(batch, { label: 2 })]);
    expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    isBroken = false;
    expect(await drawn(batch, { label: 2 })).toEqual(await alone(model, { label: 2 }));
    await batch.close();
  });

  test('ends everybody when it is closed', async () => {
    const batch = createPictureBatch({ model, pictures: 1 });
    const drawing = [drawn(batch, { label: 1 }), drawn(batch, { label: 2 })];
    const ended = Promise.allSettled(drawing);
    await batch.close();
    for (const result of await ended) expect(result).toMatchObject({ reason: { code: 'closed' } });
    await expect(drawn(batch, { label: 1 })).rejects.toMatchObject({ code: 'closed' });
  });

  test.each([0, 257, 1.5])('is not made for %j pictures', (pictures) => {
    expect(() => createPictureBatch({ model, pictures })).toThrow(
      expect.objectContaining({ code: 'invalid-argument', message: expect.stringContaining('pictures') }),
    );
  });
});
