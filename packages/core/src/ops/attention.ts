import { checkOptions } from '../check-options';
import { addDims, formatShape, type Shape, sameDim, sameShape } from '../dim';
import { DetailFlowError } from '../errors';
import { extent, type Value } from '../graph';
import { broadcastShapes, type OpDefinition, requireDType } from '../op';
import { add, mul, sub } from './elementwise';
import { concat, reshape, slice, transpose } from './layout';
import { matmul } from './matmul';
import { softmax } from './normalisation';

/** Added to a score, this hides the key; large enough to vanish in float32, small enough to stay finite. */
export const HIDDEN = -1e30;

type ScaleAttrs = { readonly scale: number };

export const attentionOp: OpDefinition<ScaleAttrs> = {
  name: 'attention',
  infer([q, k, v, bias]) {
    requireAttention('attention', q, k, v);
    if (bias) requireBias(bias, [...q.shape.slice(0, 3), k.shape[2]]);
    return { shape: q.shape, dtype: 'f32' };
  },
  decompose([q, k, v, bias], { scale }) {
    const scores = matmul(mul(q, scale), k, { transposeB: true });
    return matmul(softmax(bias ? add(scores, bias) : scores), v);
  },
};

export const cachedAttentionOp: OpDefinition<ScaleAttrs> = {
  name: 'cachedAttention',
  infer([q, k, v, pastK, pastV, pastBias, freshBias]) {
    requireAttention('cachedAttention', q, k, v);
    for (const value of [pastK, pastV, pastBias]) requireDType('cachedAttention', value, 'f32');
    const fits =
      pastK.shape.length === 4 &&
      sameShape(pastK.shape, pastV.shape) &&
      [0, 1, 3].every((axis) => sameDim(pastK.shape[axis], k.shape[axis])) &&
      sameShape(pastBias.shape, [extent(pastK, 2)]) &&
      (freshBias === undefined || sameShape(freshBias.shape, [extent(k, 2)]));
    if (!fits) {
      throw new DetailFlowError(
        'shape',
        `cachedAttention: past keys ${formatShape(pastK.shape)}, values ${formatShape(pastV.shape)}, bias ${formatShape(pastBias.shape)}`,
      );
    }
    return { shape: q.shape, dtype: 'f32' };
  },
  decompose([q, k, v, pastK, pastV, pastBias, freshBias], { scale }) {
    const scaled = mul(q, scale);
    const past = add(matmul(scaled, pastK, { transposeB: true }), pastBias); // [B, H, R, N]
    const fresh = matmul(scaled, k, { transposeB: true }); // [B, H, R, L]
    const weights = softmax(concat([past, freshBias ? add(fresh, freshBias) : fresh], -1));
    const cut = extent(pastK, 2);
    const end = addDims(cut, extent(k, 2));
    return add(matmul(slice(weights, -1, 0, cut), pastV), matmul(slice(weights, -1, cut, end), v));
  },
};

export const ropeOp: OpDefinition = {
  name: 'rope',
  infer([x, cos, sin]) {
    for (const value of [x, cos, sin]) requireDType('rope', value, 'f32');
    const half = extent(cos, -1);
    const fits =
      x.shape.length === 4 &&
      cos.shape.length === 2 &&
      sameShape(cos.shape, sin.shape) &&
      sameDim(extent(x, 1), extent(cos, 0)) &&
      typeof half === 'number' &&
      extent(x, -1) === 2 * half;
    if (!fits)
      throw new DetailFlowError('shape', `rope: ${formatShape(x.shape)} by ${formatShape(cos.shape)}`);
    return { shape: x.shape, dtype: 'f32' };
  },
  decompose([x, cos, sin]) {
    const [batch, length, heads, width] = x.shape;
    const half = (width as number) / 2;
    const pairs = reshape(x, [batch, length, heads, half, 2]);
    const even = slice(pairs, -1, 0, 1);
    const odd = slice(pairs, -1, 1, 2);
    const [c, s] = [cos, sin].map((table) => reshape(table, [length, 1, half, 1]));
    const turned = concat([sub(mul(even, c), mul(odd, s)), add(mul(even, s), mul(odd, c))], -1);
    return reshape(turned, x.shape);
  },
};

/**
 * softmax(q k^T scale + bias) v. q [B, H, R, D], k and v [B, H, L, D], bias broadcasting to [B, H, R, L];
 * result [B, H, R, D]. With grouped-query attention H counts the key heads, and the query heads that share a
 * key head lie one after the other in R.
 */
export function attention(q: Value, k: Value, v: Value, options: { scale: number; bias?: Value }): Value {
  checkOptions('attention', options, { scale: true, bias: true });
  const inputs = options.bias ? [q, k, v, options.bias] : [q, k, v];
  return q.graph.emit(attentionOp, inputs, { scale: options.scale });
}

/**
 * Attention to a cache and to the rows of this step, all of which see each other: `pastBias` [N] hides the places
 * of the cache that are not written yet. pastK and pastV [B, H, N, D]; otherwise as {@link attention}.
 */
export function cachedAttention(
  q: Value,
  k: Value,
  v: Value,
  options: { scale: number; pastK: Value; pastV: Value; pastBias: Value; freshBias?: Value },
): Value {
  checkOptions('cachedAttention', options, {
    scale: true,
    pastK: true,
    pastV: true,
    pastBias: true,
    freshBias: true,
  });
  const { scale, pastK, pastV, pastBias, freshBias } = options;
  const inputs = [q, k, v, pastK, pastV, pastBias];
  return q.graph.emit(cachedAttentionOp, freshBias ? [...inputs, freshBias] : inputs, { scale });
}

/** Rotates the pairs (2i, 2i+1) of x [B, L, H, D] by tables cos and sin [L, D/2]. */
export const rope = (x: Value, cos: Value, sin: Value): Value => x.graph.emit(ropeOp, [x, cos, sin], {});

/** [B, L, H, D] -> [B, H, L, D] and back. */
export const swapHeads = (x: Value): Value => transpose(x, [0, 2, 1, 3]);

function requireBias(bias: Value, scores: Shape): void {
  requireDType('attention', bias, 'f32');
  if (
    !sameShape(broadcastShapes('attention, the bias and the scores', bias.shape, scores, sameDim), scores)
  ) {
    throw new DetailFlowError(
      'shape',
      `attention: the bias ${formatShape(bias.shape)} is larger than the scores ${formatShape(scores)}`,
    );
  }
}

function requireAttention(op: string, q: Value, k: Value, v: Value): void {
  for (const value of [q, k, v]) requireDType(op, value, 'f32');
  const fits =
    q.shape.length === 4 &&
    sameShape(k.shape, v.shape) &&
    k.shape.length === 4 &&
    [0, 1, 3].every((axis) => sameDim(q.shape[axis], k.shape[axis]));
  if (!fits) {
    const shapes = [q, k, v].map((value) => formatShape(value.shape)).join(', ');
    throw new DetailFlowError(
      'shape',
      `${op}: query, keys and values are ${shapes}; expected [B, H, rows, D]`,
    );
  }
}
