import {
  type Condition,
  DetailFlowError,
  describe,
  isTensor,
  Tensor,
  type TextCondition,
} from '@detailflow/core';
import type { TextGptConfig } from './text-config';

/** "No text" beside a text: the places that the text masks stay masked. */
export interface NoText extends TextCondition {
  readonly isNothing: true;
}

/**
 * A text as LlamaGen was trained with: what its encoder gives, which is padded at the end, moved so that its valid rows come
 * last, at `places` rows; rows of padding are zeros. Source: docs/family/llamagen.md section 2.
 * `options.places`: T of the model.
 * @throws DetailFlowError `invalid-argument` for a text of more valid rows, or none
 */
export function leftPaddedText(
  { features, mask }: TextCondition,
  { places }: { readonly places: number },
): TextCondition {
  requireText({ features, mask });
  const [count, width] = features.dims;
  const valid = Array.from({ length: count }, (_, i) => i).filter((i) => mask?.data[i] !== 0);
  if (valid.length === 0 || valid.length > places) {
    throw new DetailFlowError(
      'invalid-argument',
      `the text has ${valid.length} valid rows; give 1 to ${places}`,
    );
  }
  const out = new Float32Array(places * width);
  const kept = new Uint8Array(places);
  for (const [i, row] of valid.entries()) {
    const at = places - valid.length + i;
    out.set(features.data.subarray(row * width, (row + 1) * width), at * width);
    kept[at] = 1;
  }
  return {
    features: new Tensor('float32', out, [places, width]),
    mask: new Tensor('bool', kept, [places]),
  };
}

/** What a model is fed with for some conditions: rows of padding are zeros, "no text" is marked. */
export interface TextFeeds {
  /** float32 [B, T, F]. */
  readonly features: Tensor<'float32'>;
  /** bool [B, T]. */
  readonly mask: Tensor<'bool'>;
  /** bool [B]. */
  readonly isNothing: Tensor<'bool'>;
}

/**
 * Features and masks of all rows, as the graphs are fed with them.
 * @throws DetailFlowError `invalid-argument` for a class, and for features of another size
 */
export function textFeeds(
  conditions: readonly Condition[],
  { textPlaces, textWidth }: Pick<TextGptConfig, 'textPlaces' | 'textWidth'>,
): TextFeeds {
  const rows = conditions.length;
  if (rows === 0) throw new DetailFlowError('invalid-argument', 'labels: none given; give texts');
  const features = new Float32Array(rows * textPlaces * textWidth);
  const mask = new Uint8Array(rows * textPlaces).fill(1);
  const isNothing = new Uint8Array(rows);
  for (const [row, condition] of conditions.entries()) {
    requireText(condition);
    const { dims, data } = condition.features;
    if (dims.join() !== [textPlaces, textWidth].join()) {
      throw new DetailFlowError(
        'invalid-argument',
        `the features of text ${row} are [${dims}]; this model takes [${textPlaces}, ${textWidth}]: pad them with leftPaddedText`,
      );
    }
    if (!data.every(Number.isFinite)) {
      throw new DetailFlowError('invalid-argument', `the features of text ${row} hold NaN or infinities`);
    }
    isNothing[row] = Number('isNothing' in condition && condition.isNothing === true);
    for (let i = 0; i < textPlaces; i++) {
      const at = row * textPlaces + i;
      mask[at] = Number(condition.mask?.data[i] !== 0);
      if (mask[at] === 1) features.set(data.subarray(i * textWidth, (i + 1) * textWidth), at * textWidth);
    }
  }
  return {
    features: new Tensor('float32', features, [rows, textPlaces, textWidth]),
    mask: new Tensor('bool', mask, [rows, textPlaces]),
    isNothing: new Tensor('bool', isNothing, [rows]),
  };
}

/** "No text" for the places of a text. */
export function noTextBeside(condition: Condition | undefined, config: TextGptConfig): NoText {
  if (condition !== undefined) {
    requireText(condition);
    return { ...condition, isNothing: true };
  }
  const { textPlaces, textWidth } = config;
  const blank = new Float32Array(textPlaces * textWidth);
  return { features: new Tensor('float32', blank, [textPlaces, textWidth]), isNothing: true };
}

function requireText(condition: unknown): asserts condition is TextCondition {
  if (typeof condition !== 'object' || condition === null) {
    throw new DetailFlowError(
      'invalid-argument',
      `labels: ${describe(condition)}; this model draws for texts: give { features: float32 [T, F], mask: bool [T] }`,
    );
  }
  const { features, mask } = condition as Partial<TextCondition>;
  if (!isTensor(features) || features.type !== 'float32' || features.dims.length !== 2) {
    throw new DetailFlowError(
      'invalid-argument',
      `the features of a text are ${describe(features)}; give float32 [T, F]`,
    );
  }
  const [places] = features.dims;
  if (mask !== undefined && (!isTensor(mask) || mask.type !== 'bool' || mask.dims.join() !== `${places}`)) {
    throw new DetailFlowError(
      'invalid-argument',
      `the mask of a text is ${describe(mask)}; give bool [${places}]`,
    );
  }
}
