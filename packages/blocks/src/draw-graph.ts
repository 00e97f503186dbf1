import {
  add,
  broadcastTo,
  checkOptions,
  concat,
  div,
  extent,
  type Graph,
  HIDDEN,
  topK as largest,
  less,
  mul,
  multiplyDims,
  reshape,
  select,
  slice,
  softmax,
  sub,
  symbol,
  takeAlong,
  trace,
  type Value,
  writeRows,
} from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';
import { groupWeights, step } from './group-transformer';

/** What a {@link drawGraph} is made for. */
export interface DrawGraphOptions {
  /** Every picture has a second row without class, after all rows with one. */
  readonly isGuided: boolean;
  /** Draw among so many of the most likely tokens; 0: all. */
  readonly topK: number;
  /** Take the most likely token. */
  readonly isGreedy: boolean;
}

/** The state that holds what was drawn, i32 [pictures, N]. */
export const DRAWN = 'drawn';

/**
 * A step that also chooses the next tokens, and keeps them where the next step finds them: nothing has to leave the
 * device. What is chosen is the token of the largest softmax(logits / temperature) / noise, which is a draw from the softmax
 * when the noise is Exp(1).
 *
 * Feeds, for L places: fixed i32 [rows, L] and isFixed bool [L], labels and special places, which are no drawn tokens;
 * taken i32 [L], for the others the place of the token that is fed; kinds and positions i32 [L]; noise f32
 * [pictures, L, V], scale and temperature f32 [1] (none of the three where they do not matter); given i32 [pictures, L]
 * and isGiven bool [L], tokens that are not drawn. State: `drawn`, and the cache. No output.
 * Source: docs/method.md section 4.
 */
export function drawGraph(config: GroupTransformerConfig, options: DrawGraphOptions): Graph {
  checkOptions('drawGraph', options, { isGuided: true, topK: true, isGreedy: true });
  const { isGuided, isGreedy } = options;
  const [pictures, places] = [symbol('pictures'), symbol('step')];
  const rows = isGuided ? multiplyDims(2, pictures) : pictures;
  return trace((g) => {
    const drawn = g.state(DRAWN, [pictures, config.tokens], 'i32');
    const taken = broadcastTo(reshape(g.input('taken', 'i32', [places]), [1, places]), [pictures, places]);
    const own = takeAlong(drawn, taken);
    const ids = select(
      g.input('isFixed', 'bool', [places]),
      g.input('fixed', 'i32', [rows, places]),
      isGuided ? concat([own, own], 0) : own,
    );
    const kinds = g.input('kinds', 'i32', [places]);
    const positions = g.input('positions', 'i32', [places]);
    const logits = step(g, groupWeights(g, config), config, { ids, kinds, positions }); // [rows, L, V]
    const guided = isGuided ? guide(logits, pictures, g.input('scale', 'f32', [1])) : logits;
    const scores = isGreedy
      ? guided
      : div(
          softmax(keepLargest(div(guided, g.input('temperature', 'f32', [1])), options.topK)),
          g.input('noise', 'f32', [pictures, places, config.vocabularySize]),
        );
    const chosen = reshape(largest(scores, 1), [pictures, places]);
    const next = select(
      g.input('isGiven', 'bool', [places]),
      g.input('given', 'i32', [pictures, places]),
      chosen,
    );
    g.update(DRAWN, writeRows(drawn, next, slice(positions, 0, 0, 1), 1));
    return {};
  });
}

/** Logits of rows with a class, moved away from those without: [2 P, L, V] -> [P, L, V]. */
function guide(logits: Value, pictures: Parameters<typeof slice>[3], scale: Value): Value {
  const own = slice(logits, 0, 0, pictures);
  const other = slice(logits, 0, pictures, extent(logits, 0));
  return add(other, mul(sub(own, other), scale));
}

/** Logits below the k-th largest of their row are hidden. */
function keepLargest(logits: Value, k: number): Value {
  if (k === 0) return logits;
  const threshold = takeAlong(logits, slice(largest(logits, k), -1, k - 1, k)); // [P, L, 1]
  return select(less(logits, threshold), HIDDEN, logits);
}
