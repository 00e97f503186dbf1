import { type Graph, type GraphBuilder, symbol, trace } from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';
import { forward, groupWeights, type PlaceInputs, step } from './group-transformer';

const batch = symbol('batch');
/** Places fed at once. */
const places = symbol('step');
/** Places of the cache. */
const cached = symbol('cache');

/** Feeds: ids i32 [B, L], kinds i32 [L], positions i32 [L]. Output: logits [B, L, V]. */
export function stepGraph(config: GroupTransformerConfig): Graph {
  return trace((g) => ({ logits: step(g, groupWeights(g, config), config, placeInputs(g)) }));
}

/** As {@link stepGraph} with a cache of as many places as the feed `cache` counts, i32 [N]. */
export function growingStepGraph(config: GroupTransformerConfig): Graph {
  return trace((g) => {
    const cache = g.input('cache', 'i32', [cached]);
    return { logits: step(g, groupWeights(g, config), config, placeInputs(g), { cache }) };
  });
}

/** Feeds: as {@link stepGraph}, and visible bool [L, L]. Output: logits [B, L, V]. */
export function forwardGraph(config: GroupTransformerConfig): Graph {
  return trace((g) => {
    const visible = g.input('visible', 'bool', [places, places]);
    return { logits: forward(groupWeights(g, config), config, { ...placeInputs(g), visible }) };
  });
}

function placeInputs(g: GraphBuilder): PlaceInputs {
  return {
    ids: g.input('ids', 'i32', [batch, places]),
    kinds: g.input('kinds', 'i32', [places]),
    positions: g.input('positions', 'i32', [places]),
  };
}
