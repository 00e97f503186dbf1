import type { GroupTransformerConfig } from './group-config';
import { PlaceKind } from './places';

/** What is fed at the places of a step. */
export interface StepPlaces {
  /** How many places, and so how many tokens come next. */
  readonly count: number;
  readonly kinds: Int32Array;
  readonly positions: Int32Array;
  /** For a token its place in the sequence, for a special embedding its number, for the class 0. */
  readonly ids: Int32Array;
}

/**
 * The places of the step that predicts the tokens from `position` on: the class first, then the last token alone, then
 * once [the last causal token ; the special embeddings], then the tokens of the last group. Without causal tokens the class
 * stands before the special embeddings.
 */
export function stepPlaces(
  { causalTokens, groupSize }: GroupTransformerConfig,
  position: number,
): StepPlaces {
  const count = position < causalTokens ? 1 : groupSize;
  const range = (value: (i: number) => number) => Int32Array.from({ length: count }, (_, i) => value(i));
  const kinds = range((i) => {
    if (position + i === 0) return PlaceKind.class;
    return position === causalTokens && i > 0 ? PlaceKind.special : PlaceKind.token;
  });
  const first = position <= causalTokens ? position - 1 : position - groupSize;
  const ids = range((i) => {
    if (kinds[i] === PlaceKind.class) return 0;
    return kinds[i] === PlaceKind.special ? i - 1 : first + i;
  });
  return { count, kinds, positions: range((i) => position + i), ids };
}
