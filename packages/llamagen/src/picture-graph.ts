import { codeVectors, type GroupTransformerConfig, parameterAccess } from '@detailflow/blocks';
import { type Graph, gather, slice, symbol, trace, transpose } from '@detailflow/core';
import { type VqConfig, vqParameters } from './vq-config';
import { vqPixels } from './vq-graphs';
import { orderOf } from './vq-half';

const batch = symbol('batch');

/**
 * What is drawn of the tokens of a generation. Input: codes i32 [B, width], of which the first N count. Outputs: tokens i32
 * [B, N] as they were drawn; pixels f32 [B, 3, S, S].
 */
export function pictureGraph(vq: VqConfig, gpt: GroupTransformerConfig, width: number): Graph {
  const side = Math.sqrt(gpt.tokens);
  const order = orderOf(gpt);
  return trace((g) => {
    const p = parameterAccess(g, vqParameters(vq));
    const tokens = slice(g.input('codes', 'i32', [batch, width]), 1, 0, gpt.tokens);
    const drawn = order && g.constant(inverse(order), [gpt.tokens], 'i32');
    const rows = drawn ? transpose(gather(transpose(tokens, [1, 0]), drawn), [1, 0]) : tokens; // [B, N], row by row
    const vectors = codeVectors(rows, p('quantize.embedding.weight'), vq);
    return { tokens, pixels: vqPixels(p, vq, vectors, { rows: side, columns: side }) };
  });
}

/** For each place the token that lies there. */
function inverse(order: Int32Array): Int32Array {
  const out = new Int32Array(order.length);
  for (const [token, place] of order.entries()) out[place] = token;
  return out;
}
