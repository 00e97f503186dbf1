import { type Cell, gridRotation } from '@detailflow/blocks';
import type { TokenModelConfig } from './config';

/** What a place of the sequence is fed with. */
export const PlaceKind = { class: 0, token: 1, special: 2 } as const;

/**
 * The grid cell that each of the N places is turned by. Place 0, the class, has none, so its queries and keys vanish;
 * place j >= 1 has cell j - 1: row (j-1) div g, column (j-1) mod g, shifted by one against the attention blocks.
 * Source: docs/method.md section 4.
 */
export function placeCells({ tokens, groupSize }: TokenModelConfig): Cell[] {
  return Array.from({ length: tokens }, (_, place) =>
    place === 0 ? undefined : { row: Math.floor((place - 1) / groupSize), column: (place - 1) % groupSize },
  );
}

/** Tables of the two-dimensional rotary embedding, cos and sin, each [N, D/2] for head width D. */
export const ropeTables = (config: TokenModelConfig): { cos: Float32Array; sin: Float32Array } =>
  gridRotation(placeCells(config), { headDim: config.dim / config.heads, ropeBase: config.ropeBase });

/**
 * Visibility [L, L] of the first L places: place i < c sees places up to itself, a later one all groups up to its
 * own. The first c places see only causally even where a later place is fed along.
 */
export function placeMask(length: number, config: TokenModelConfig): Uint8Array {
  const { groupSize, causalTokens } = config;
  const mask = new Uint8Array(length * length);
  for (let i = 0; i < length; i++) {
    const visible = i < causalTokens ? i + 1 : (Math.floor(i / groupSize) + 1) * groupSize;
    mask.fill(1, i * length, i * length + Math.min(length, visible));
  }
  return mask;
}
