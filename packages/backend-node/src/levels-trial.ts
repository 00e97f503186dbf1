import { type Graph, matmul, Tensor, trace } from '@detailflow/core';
import type { LoweringOptions, PlacedMatrix } from '@detailflow/onnx';

/** Long and wide enough for the kernels that large products take. */
const [IN, OUT] = [64, 32];

/** A graph, the weights of it, and what is fed to it. */
export interface LevelsTrial {
  readonly graph: Graph;
  readonly weights: Pick<LoweringOptions, 'quantised' | 'placeWeight'>;
  readonly ones: Tensor<'float32'>;
}

/**
 * A product of the largest levels there are. Processors without instructions for products of bytes add them up two by two in 16 bits, too few
 * for 2 * 255 * 127, and what is more is cut off; bytes without a sign they widen first.
 */
export function levelsTrial(): LevelsTrial {
  const graph = trace((g) => {
    const ones = g.input('ones', 'f32', [1, IN]);
    return { sums: matmul(ones, g.weight('ones', [OUT, IN]), { transposeB: true }) };
  });
  const values = { inline: new Uint8Array(IN * OUT).fill(127) };
  const scales = { inline: new Uint8Array(new Float32Array(OUT).fill(1 / 127).buffer) };
  const matrix: PlacedMatrix = { bits: 8, block: 'row', out: OUT, in: IN, values, scales };
  return {
    graph,
    weights: {
      quantised: new Map([['ones', matrix]]),
      placeWeight: () => ({ inline: new Float32Array(0) }),
    },
    ones: new Tensor('float32', new Float32Array(IN).fill(1), [1, IN]),
  };
}

/** Whether a product of ones came out. */
export const isExact = (sums: ArrayLike<number>): boolean =>
  Array.from(sums).every((sum) => Math.abs(sum - IN) < 0.01);
