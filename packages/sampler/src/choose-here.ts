import { Tensor } from '@detailflow/core';
import { chooseToken } from './choose-guided-token';
import { checkLogitCount } from './choose-token';
import type { SamplePlan, SampleStep } from './sample-plan';

/** Samples from logits that the model hands out, in float64. */
export async function* chooseHere(plan: SamplePlan): AsyncGenerator<SampleStep, void, void> {
  const { model, conditions, steps, greedy, isGuided, total, givenAt, noiseOf, signal } = plan;
  const images = conditions.length;
  const size = model.vocabularySize;
  const rows = isGuided ? [...conditions, ...conditions.map((c) => model.unconditional(c))] : conditions;
  const tokens = new Int32Array(images * model.tokens);
  const row = new Float32Array(size);
  const session = await model.begin(rows, { signal });
  try {
    let chosen: Int32Array | undefined;
    for (const { position, count, scale, choice, isGiven } of steps) {
      signal?.throwIfAborted();
      const logits = (await session.predict(chosen, { signal })).data;
      checkLogitCount(logits, rows.length * count * size);
      chosen = new Int32Array(rows.length * count);
      for (let image = 0; image < images; image++) {
        for (let k = 0; k < count; k++) {
          const token = givenAt(image, position + k) ?? pick(image, position + k, image * count + k);
          tokens[image * model.tokens + position + k] = token;
          chosen[image * count + k] = token;
          if (isGuided) chosen[(images + image) * count + k] = token;
        }
      }
      if (!isGiven || position + count === total) yield snapshot(tokens, images, position + count, total);

      function pick(image: number, place: number, at: number): number {
        const own = logits.subarray(at * size, (at + 1) * size);
        const other = (images * count + at) * size;
        return chooseToken({
          ...{ own, scale, choice, place, row },
          other: isGuided ? logits.subarray(other, other + size) : undefined,
          noise: greedy ? undefined : () => noiseOf(image, place),
        });
      }
    }
  } finally {
    await session.dispose();
  }
}

function snapshot(tokens: Int32Array, batch: number, count: number, total: number): SampleStep {
  const width = tokens.length / batch;
  const copy = new Int32Array(batch * count);
  for (let b = 0; b < batch; b++) copy.set(tokens.subarray(b * width, b * width + count), b * count);
  return { count, total, tokens: async () => new Tensor('int32', copy.slice(), [batch, count]) };
}
