import {
  add,
  addDims,
  concat,
  extent,
  type Graph,
  type GraphBuilder,
  HIDDEN,
  less,
  matmul,
  mul,
  reshape,
  select,
  slice,
  softmax,
  symbol,
  trace,
  type Value,
  writeRowsAt,
} from '@detailflow/core';
import type { GroupTransformerConfig } from './group-config';
import { embedded, groupWeights } from './group-transformer';
import { type Attend, type RopeTransformerConfig, ropeTransformer, scoreScale } from './rope-transformer';

/**
 * One step of rows that are each at places of their own. Feeds: ids, kinds and positions, all i32 [B, L]; cache i32 [N]: 0 .. N - 1,
 * as many as the states have places. Output: logits [B, L, V].
 */
export function pooledStepGraph(config: GroupTransformerConfig): Graph {
  const [batch, places] = [symbol('batch'), symbol('step')];
  return trace((g) => {
    const [ids, kinds, positions] = ['ids', 'kinds', 'positions'].map((name) =>
      g.input(name, 'i32', [batch, places]),
    );
    const cache = g.input('cache', 'i32', [symbol('cache')]);
    const p = groupWeights(g, config);
    const attend = pooledAttend(g, config, { positions, cache });
    return {
      logits: ropeTransformer(p, config, { ...embedded(p, config, { ids, kinds, positions }), attend }),
    };
  });
}

/**
 * As {@link cachedAttend}, for rows that are each at a place of their own. Keys and values are written for the next run; this
 * one reads the cache as it was, so that nothing but the new rows leaves the run.
 */
function pooledAttend(
  graph: GraphBuilder,
  config: RopeTransformerConfig,
  { positions, cache }: { readonly positions: Value; readonly cache: Value },
): Attend {
  const { kvHeads, dim, heads } = config;
  const [batch, length] = positions.shape;
  const cacheLength = extent(cache, 0);
  const every = reshape(cache, [1, 1, 1, cacheLength]);
  const first = reshape(slice(positions, 1, 0, 1), [batch, 1, 1, 1]);
  const pastBias = select(less(every, first), 0, HIDDEN); // [B, 1, 1, N]
  return (layer, q, k, v) => {
    const [pastK, pastV] = [k, v].map((rows, i) => {
      const name = `${layer}.${i === 0 ? 'k' : 'v'}`;
      const rowsSoFar = graph.state(name, [batch, kvHeads, cacheLength, dim / heads]);
      graph.update(name, writeRowsAt(rowsSoFar, rows, positions, cache));
      return rowsSoFar;
    });
    const scaled = mul(q, scoreScale(config));
    const past = add(matmul(scaled, pastK, { transposeB: true }), pastBias); // [B, K, R, N]
    const fresh = matmul(scaled, k, { transposeB: true }); // [B, K, R, L]
    const weights = softmax(concat([past, fresh], -1));
    const end = addDims(cacheLength, length);
    return add(
      matmul(slice(weights, -1, 0, cacheLength), pastV),
      matmul(slice(weights, -1, cacheLength, end), v),
    );
  };
}
