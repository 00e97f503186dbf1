import type { TokenModelConfig } from './config';

/** What a place of the sequence is fed with. */
export const PlaceKind = { class: 0, token: 1, special: 2 } as const;

/**
 * Tables of the two-dimensional rotary embedding, cos and sin, each [N, D/2] for head width D.
 *
 * Place 0, the class, is all zeros, so its queries and keys vanish. Place j >= 1 has the grid cell j - 1: row
 * (j-1) div g, column (j-1) mod g, shifted by one against the attention blocks. The first half of the pairs
 * turns by the row, the second by the column. Source: docs/method.md section 4.
 */
export function ropeTables(config: TokenModelConfig): { cos: Float32Array; sin: Float32Array } {
  const { tokens, groupSize, ropeBase } = config;
  const headDim = config.dim / config.heads;
  const pairs = headDim / 2;
  const cos = new Float32Array(tokens * pairs);
  const sin = new Float32Array(tokens * pairs);
  for (let place = 1; place < tokens; place++) {
    const row = Math.floor((place - 1) / groupSize);
    const column = (place - 1) % groupSize;
    for (let pair = 0; pair < pairs; pair++) {
      const [steps, q] = pair < pairs / 2 ? [row, pair] : [column, pair - pairs / 2];
      const angle = steps * ropeBase ** ((-4 * q) / headDim);
      cos[place * pairs + pair] = Math.cos(angle);
      sin[place * pairs + pair] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

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
