import { parameterAccess } from '@detailflow/blocks';
import { add, type Graph, matmul, reshape, symbol, trace, transpose, type Value } from '@detailflow/core';
import { resizeMap } from './resize-map';
import { refined, toRows } from './scale-coding';
import { places } from './scales';
import { type ScaleTokenizerConfig, scaleTokenizerParameters } from './var-tokenizer-config';

/**
 * Adds scale k to the map of the coarser ones, as a mixture of codes at every place. Inputs: shares f32 [B, p, V]; map f32
 * [B, z, H, W]. Outputs: sum f32 [B, z, H, W]; next f32 [B, p', z], what the following scale is fed with, but after the last.
 */
export function smoothScaleGraph(config: ScaleTokenizerConfig, k: number): Graph {
  const batch = symbol('batch');
  const { scales, codeDim, codebookSize } = config;
  const [scale, last] = [scales[k], scales[scales.length - 1]];
  return trace((g) => {
    const p = parameterAccess(g, scaleTokenizerParameters(config));
    const shares = g.input('shares', 'f32', [batch, places(scale), codebookSize]);
    const vectors = transpose(matmul(shares, p('quantize.embedding.weight')), [0, 2, 1]);
    const own = reshape(vectors, [batch, codeDim, scale.rows, scale.columns]);
    const before = g.input('map', 'f32', [batch, codeDim, last.rows, last.columns]);
    const sum = add(before, refined(p, config, own, k));
    const outputs: Record<string, Value> = { sum };
    if (k + 1 < scales.length) outputs.next = toRows(resizeMap(sum, scales[k + 1], 'area'));
    return outputs;
  });
}
