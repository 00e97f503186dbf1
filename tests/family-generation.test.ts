import type { Backend, Tensor } from '@detailflow/core';
import { type DrawOptions, load, type Model } from 'detailflow';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDevice } from './devices';
import { familyModels } from './family-logits';

describe.each(familyModels)('generate() of %s', (_name, source, condition) => {
  let backend: Backend;
  let model: Model;
  beforeAll(async () => {
    backend = await openDevice('cpu');
    model = await load(source, { backend });
  });
  afterAll(async () => {
    await model.dispose();
    await backend.close();
  });

  /** The tokens that are drawn in the end, row by row. */
  async function drawn(options: DrawOptions): Promise<number[][]> {
    let last: Tensor<'int32'> | undefined;
    for await (const step of model.generate(options)) last = await step.tokens();
    const { data, dims } = last as Tensor<'int32'>;
    return Array.from({ length: dims[0] }, (_, i) => [...data.subarray(i * dims[1], (i + 1) * dims[1])]);
  }

  test('the same seed gives the same tokens in any batch', async () => {
    const other = typeof condition === 'number' ? condition + 1 : condition;
    const options = { cfg: 2, topK: 40 };
    const [alone] = await drawn({ ...options, labels: [condition], seed: [7] });
    const batch = await drawn({ ...options, labels: [other, condition, condition], seed: [5, 7, 6] });
    expect(batch[1]).toEqual(alone);
    expect(batch[2]).not.toEqual(alone);
    expect(await drawn({ ...options, labels: [condition], seed: [7] })).toEqual([alone]);
  });

  test('stops when it is cancelled, and draws again afterwards', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    let steps = 0;
    const cancelled = async () => {
      for await (const _ of model.generate({ labels: [condition], seed: 1, signal: controller.signal })) {
        if (++steps === 2) controller.abort(reason);
      }
    };
    await expect(cancelled()).rejects.toBe(reason);
    expect(steps).toBe(2);
    const [tokens] = await drawn({ labels: [condition], seed: 1 });
    expect(tokens).toHaveLength(model.tokenModel?.tokens as number);
  });
});
