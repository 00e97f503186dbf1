import { type Graph, type GraphBuilder, symbol, trace } from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';
import { forward, groupWeights, type PlaceInputs, pooledStep, step } from './group-transformer';

const batch = symbol('batch');
/** Places fed at once. */
const places = symbol('step');

/** Feeds: ids i32 [B, L], kinds i32 [L], positions i32 [L]. Output: logits [B, L, V]. */
export function stepGraph(config: GroupTransformerConfig): Graph {
  return trace((g) => ({ logits: step(g, groupWeights(g, config), config, placeInputs(g)) }));
}

/** Feeds: ids, kinds and positions, all i32 [B, L]. Output: logits [B, L, V]. */
export function pooledStepGraph(config: GroupTransformerConfig): Graph {
  return trace((g) => {
    const [ids, kinds, positions] = ['ids', 'kinds', 'positions'].map((name) =>
      g.input(name, 'i32', [batch, places]),
    );
    return { logits: pooledStep(g, groupWeights(g, config), config, { ids, kinds, positions }) };
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
