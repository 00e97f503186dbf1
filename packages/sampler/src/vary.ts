import {
  type Condition,
  checkOptions,
  DetailFlowError,
  describe,
  requireTensor,
  Tensor,
} from '@detailflow/core';
import { commonOptionNames, type GenerateOptions, type GenerationStep, generate } from './generate';
import { requireModels } from './require-models';

/** Options of {@link vary}: those of drawing, and how many tokens stay. */
export interface VaryOptions extends Omit<GenerateOptions, 'labels' | 'prefix' | 'keep' | 'tokens'> {
  /** First tokens of a picture that stay: 0 draws a new picture, all of them none. */
  readonly keepTokens: number;
  /** New pictures of each picture; default 1. */
  readonly count?: number;
  /** Class of each picture; default: none, the model goes by the tokens alone. */
  readonly labels?: readonly Condition[];
}

/**
 * Draws variations of pictures: their first tokens, which say what is there, stay, and the rest is drawn anew. Variation
 * j of picture i is image i * count + j; it uses seed + i * count + j.
 * @param images float32 [B, 3, S, S] in [-1, 1], as large as the pictures that the model draws
 * @throws DetailFlowError `invalid-argument`; what `generate` throws
 * @see https://detailflow.github.io/detailflow-ts/guide/vary.html
 */
export async function* vary(
  images: Tensor<'float32'>,
  options: VaryOptions,
): AsyncGenerator<GenerationStep, void, void> {
  checkOptions('vary', options, {
    ...commonOptionNames,
    ...{ tokenizer: true, keepTokens: true, count: true },
  });
  const { keepTokens, count = 1, labels, ...rest } = options;
  const { tokenizer, model, signal } = rest;
  requireModels({ model, tokenizer });
  const [batch] = requireTensor(images, {
    what: 'the images',
    must: 'float32 [B, 3, S, S] in [-1, 1], B from 1',
    type: 'float32',
    axes: 4,
  }).dims;
  if (!Number.isInteger(keepTokens) || keepTokens < 0 || keepTokens > model.tokens) {
    throw new DetailFlowError(
      'invalid-argument',
      `keepTokens is ${describe(keepTokens)}; give 0 to ${model.tokens}`,
    );
  }
  if (!Number.isInteger(count) || count < 1) {
    throw new DetailFlowError('invalid-argument', `count is ${describe(count)}; give a whole number from 1`);
  }
  if (labels && labels.length !== batch) {
    throw new DetailFlowError('invalid-argument', `${labels.length} labels for ${batch} pictures`);
  }
  const codes = await tokenizer.encode(images, { tokens: model.tokens, signal });
  const all = codes.dims[1];
  const prefix = new Int32Array(batch * count * keepTokens);
  for (let row = 0; row < batch * count; row++) {
    const start = Math.floor(row / count) * all;
    prefix.set(codes.data.subarray(start, start + keepTokens), row * keepTokens);
  }
  yield* generate({
    ...rest,
    labels: Array.from({ length: batch * count }, (_, row) =>
      labels ? labels[Math.floor(row / count)] : model.unconditional(),
    ),
    ...(keepTokens > 0 && { prefix: new Tensor('int32', prefix, [batch * count, keepTokens]) }),
  });
}
