import { type Cell, gridRotation } from './grid-rotation';
import type { GroupTransformerConfig } from './group-config';

/** What a place of the sequence is fed with. */
export const PlaceKind = { class: 0, token: 1, special: 2 } as const;

/**
 * The grid cell that each of the N places is turned by; place 0, the class, has none, so its queries and keys vanish.
 * Place j >= 1 has the cell of token j - 1; where tokens lie by their place in the picture, the special embeddings after
 * the causal tokens have none and the places after them follow on. DetailFlow counts places instead: row (j-1) div g, column
 * (j-1) mod g, shifted by one against the attention blocks. Source: docs/method.md section 4, docs/family.md.
 */
function placeCells(config: GroupTransformerConfig): Cell[] {
  const { tokens, groupSize, causalTokens, arrangement = 'groups' } = config;
  const columns = arrangement === 'groups' ? groupSize : Math.sqrt(tokens);
  const order = arrangement === 'regions' ? regionOrder(tokens, groupSize) : undefined;
  return Array.from({ length: tokens }, (_, place) => {
    if (place === 0) return undefined;
    if (!order) return { row: Math.floor((place - 1) / columns), column: (place - 1) % columns };
    if (place > causalTokens && place < causalTokens + groupSize) return undefined;
    const cell = order[place <= causalTokens ? place - 1 : place - groupSize];
    return { row: Math.floor(cell / columns), column: cell % columns };
  });
}

/**
 * The order in which PAR draws: the square grid is cut into square regions, and each run of `regions` tokens is the same
 * cell of all of them, cells and regions row by row. Entry j is the place in the picture, row by row, of token j.
 */
export function regionOrder(tokens: number, regions: number): Int32Array {
  const side = Math.sqrt(tokens);
  const across = Math.sqrt(regions);
  const size = side / across;
  return Int32Array.from({ length: tokens }, (_, j) => {
    const [cell, region] = [Math.floor(j / regions), j % regions];
    const row = Math.floor(region / across) * size + Math.floor(cell / size);
    const column = (region % across) * size + (cell % size);
    return row * side + column;
  });
}

/** Tables of the two-dimensional rotary embedding, cos and sin, each [N, D/2] for head width D. */
export const ropeTables = (config: GroupTransformerConfig): { cos: Float32Array; sin: Float32Array } =>
  gridRotation(placeCells(config), { headDim: config.dim / config.heads, ropeBase: config.ropeBase });

/**
 * Visibility [L, L] of the first L places: place i < c sees places up to itself, a later one all groups up to its
 * own. The first c places see only causally even where a later place is fed along.
 */
export function placeMask(length: number, config: GroupTransformerConfig): Uint8Array {
  const { groupSize, causalTokens } = config;
  const mask = new Uint8Array(length * length);
  for (let i = 0; i < length; i++) {
    const visible = i < causalTokens ? i + 1 : (Math.floor(i / groupSize) + 1) * groupSize;
    mask.fill(1, i * length, i * length + Math.min(length, visible));
  }
  return mask;
}
