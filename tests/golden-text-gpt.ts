import { Tensor, type TextCondition } from '@detailflow/core';
import { gptSettings, textGptConfigOf } from '@detailflow/llamagen';
import { type SampleOptions, sampleTokens } from '@detailflow/sampler';
import { golden, goldenJson } from './golden';
import { familyWeights, integers } from './golden-family';

const t2i = golden('family/llamagen/golden_t2i.safetensors');

/** The text-conditional GPT of the small set. */
export async function textParts() {
  const weights = await familyWeights('llamagen/gpt_t2i/t2i_P.pt', 'module');
  const settings = gptSettings(goldenJson('family/llamagen/gpt_t2i/config.json'));
  return { weights, config: textGptConfigOf(weights, settings) };
}

/** Row i of features and mask, as a condition. */
export function textOf(features: string, mask: string | undefined, i: number): TextCondition {
  const [, places, width] = t2i[features].shape;
  const rows = (t2i[features].data as Float32Array).slice(i * places * width, (i + 1) * places * width);
  const kept = mask && Uint8Array.from(integers(t2i[mask]).slice(i * places, (i + 1) * places));
  return {
    features: new Tensor('float32', rows, [places, width]),
    ...(kept && { mask: new Tensor('bool', kept, [places]) }),
  };
}

/** The three texts of the set, as conditions. */
export const texts = (features: string, mask?: string) => [0, 1, 2].map((i) => textOf(features, mask, i));

/** The tokens that are drawn in the end, of all pictures. */
export async function lastTokens(options: SampleOptions): Promise<number[]> {
  let last: Tensor<'int32'> | undefined;
  for await (const step of sampleTokens(options)) last = await step.tokens();
  return integers(last as Tensor<'int32'>);
}
