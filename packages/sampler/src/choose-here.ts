import { Tensor } from '@detailflow/core';
import { checkLogits, drawToken, filterLogits, mostLikelyToken, softmax } from './choose-token';
import { guidanceScale, guide, needsGuidance } from './guidance';
import type { SamplePlan, SampleStep } from './sample-plan';

/** Samples from logits that the model hands out, in float64. */
export async function* chooseHere(plan: SamplePlan): AsyncGenerator<SampleStep, void, void> {
  const { model, labels, choice, guidance, greedy, total, given, prefix, noiseOf, signal } = plan;
  const guided = needsGuidance(guidance);
  const rows = guided ? [...labels, ...labels.map(() => model.unconditionalLabel)] : labels;
  const tokens = new Int32Array(labels.length * model.tokens);
  const row = new Float32Array(model.vocabularySize);
  const session = await model.begin(rows, { signal });
  try {
    let chosen: Int32Array | undefined;
    for (let position = 0; position < total; ) {
      signal?.throwIfAborted();
      const count = position < model.causalTokens ? 1 : model.groupSize;
      const logits = (await session.predict(chosen, { signal })).data;
      const scale = guidanceScale(position, model, guidance);
      chosen = new Int32Array(rows.length * count);
      for (let image = 0; image < labels.length; image++) {
        for (let k = 0; k < count; k++) {
          const token = pick(image, position + k, image * count + k);
          tokens[image * model.tokens + position + k] = token;
          chosen[image * count + k] = token;
          if (guided) chosen[(labels.length + image) * count + k] = token;
        }
      }
      position += count;
      if (position > given || position === total) yield snapshot(tokens, labels.length, position, total);

      function pick(image: number, place: number, at: number): number {
        if (place < given) return (prefix as Tensor<'int32'>).data[image * given + place];
        const size = model.vocabularySize;
        const own = logits.subarray(at * size, (at + 1) * size);
        if (guided) {
          const other = (labels.length * count + at) * size;
          guide(own, logits.subarray(other, other + size), scale, row);
        } else row.set(own);
        checkLogits(row, place);
        return greedy
          ? mostLikelyToken(row)
          : drawToken(softmax(filterLogits(row, choice)), noiseOf(image, place));
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
