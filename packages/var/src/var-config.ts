import type { WeightShapes } from '@detailflow/blocks';
import { DetailFlowError } from '@detailflow/core';
import { POSITION_SIDE, type ScaleTransformerConfig } from './scale-transformer';
import { placesOf, type Scale } from './scales';

/** What weights of a transformer do not say. */
export interface ScaleTransformerSettings {
  /** Heads; dim / 64 as in all released models unless said. */
  readonly heads?: number;
  readonly normEpsilon?: number;
}

const MOST_LAYERS = 1024;

/**
 * The sizes of VAR's or FlexVAR's transformer, read off its weights.
 * @param scales of the tokenizer that it belongs to, which messages call by the name of its file, `tokenizer`
 * @throws DetailFlowError `weights` or `config`
 */
export function scaleTransformerConfigOf(
  weights: WeightShapes,
  scales: readonly Scale[],
  { heads, normEpsilon = 1e-6 }: ScaleTransformerSettings = {},
  { file, tokenizer = 'the tokenizer' }: { readonly file?: string; readonly tokenizer?: string } = {},
): ScaleTransformerConfig {
  const shapeOf = (name: string, axes: number): readonly number[] => {
    const shape = weights.get(name)?.shape;
    if (shape?.length === axes) return shape;
    throw new DetailFlowError('weights', `there is no such weight of ${axes} axes`, { file, entry: name });
  };
  const [dim, codeDim] = shapeOf('word_embed.weight', 2);
  let depth = 0;
  while (depth < MOST_LAYERS && weights.has(`blocks.${depth}.attn.mat_qkv.weight`)) depth++;
  const temperature = weights.get('blocks.0.attn.scale_mul_1H11');
  const count = temperature?.shape[1] ?? heads ?? dim / 64;
  if (!Number.isInteger(count) || dim % count !== 0) {
    throw new DetailFlowError(
      'config',
      `a width of ${dim} cannot be divided into ${count} heads; give the setting "heads"`,
      { file },
    );
  }
  const isArea = weights.get('pos_1LC')?.shape.length === 4;
  const length = isArea ? undefined : shapeOf('pos_1LC', 3)[1];
  const levels = isArea ? undefined : weights.get('lvl_embed.weight')?.shape[0];
  if (
    (length !== undefined && length !== placesOf(scales)) ||
    (levels !== undefined && levels !== scales.length)
  ) {
    throw new DetailFlowError(
      'config',
      `its positions (pos_1LC) are for ${length} places on ${levels ?? 'some'} scales (lvl_embed), the scales of ${tokenizer} have ${placesOf(scales)} on ` +
        `${scales.length}; give the setting "scales" that both were trained with`,
      { file },
    );
  }
  if (isArea && shapeOf('pos_1LC', 4)[2] !== POSITION_SIDE) {
    throw new DetailFlowError('config', `its map of positions must be ${POSITION_SIDE} x ${POSITION_SIDE}`, {
      file,
      entry: 'pos_1LC',
    });
  }
  return {
    ...{ scales, depth, dim, codeDim, heads: count, normEpsilon },
    hiddenDim: shapeOf('blocks.0.ffn.fc1.weight', 2)[0],
    vocabularySize: shapeOf('head.weight', 2)[0],
    classes: shapeOf('class_emb.weight', 2)[0] - 1,
    isShared: weights.has('shared_ada_lin.1.weight'),
    isNormalised: temperature !== undefined,
    positions: isArea ? 'area' : 'table',
  };
}
