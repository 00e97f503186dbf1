import { extent, type Graph, matmul, reshape, sizeOf, slice, type Value } from '@detailflow/core';
import { linearProducts } from './matrix-formats';

/**
 * Second moments of what goes into a matrix, over some of its columns: sums of x_i x_j [count, count] over rows x, row-major.
 */
export interface InputMoments {
  readonly first: number;
  readonly count: number;
  readonly sums: Float64Array;
}

/** Columns whose moments are taken together; a multiple of every block. */
const WINDOW = 256;

/** An output of a graph that {@link withInputMoments} made. */
export interface MomentsOutput {
  readonly output: string;
  readonly first: number;
  readonly count: number;
}

/**
 * The graph with further outputs: moments of what goes into the products with its matrices.
 * @returns by name of a weight, the outputs with its moments, f32 [count, count] each
 */
export function withInputMoments(graph: Graph): {
  readonly graph: Graph;
  readonly moments: ReadonlyMap<string, readonly MomentsOutput[]>;
} {
  const outputs = new Map(graph.outputs);
  const nodes = [...graph.nodes];
  const known = new Map<Value, readonly MomentsOutput[]>();
  const moments = new Map<string, readonly MomentsOutput[]>();
  for (const [
    name,
    {
      inputs: [x],
    },
  ] of linearProducts(graph)) {
    const found = known.get(x) ?? momentsOf(x);
    known.set(x, found);
    moments.set(name, found);
  }
  return { graph: { ...graph, nodes, outputs }, moments };

  function momentsOf(x: Value): MomentsOutput[] {
    const width = extent(x, -1) as number;
    const rows = reshape(x, [sizeOf(x.shape.slice(0, -1)), width]);
    nodes.push(rows);
    const made: MomentsOutput[] = [];
    for (let first = 0; first < width; first += WINDOW) {
      const count = Math.min(WINDOW, width - first);
      const part = slice(rows, 1, first, first + count);
      const sums = matmul(part, part, { transposeA: true });
      const output = `moments.${x.id}.${first}`;
      nodes.push(part, sums);
      outputs.set(output, sums);
      made.push({ output, first, count });
    }
    return made;
  }
}
