import type { ParameterSpec, RandomStream } from '@detailflow/core';
import type { InitialValues } from './trainable';

/**
 * Where a convolutional tokenizer begins, as PyTorch's layers do: convolutions U(+-1/sqrt(fan in)), biases too, norms 1 and 0;
 * the codebook U(+-1/K), of unit length where codes are compared so. Source: docs/family/llamagen.md section 4.
 */
export function convInitialValues(
  specs: readonly ParameterSpec[],
  { codebook, isNormalised }: { readonly codebook: string; readonly isNormalised: boolean },
): InitialValues {
  const shapes = new Map(specs.map(({ name, shape }) => [name, shape]));
  return (name, shape, random) => {
    if (name === codebook) return isNormalised ? unitRows(shape[1], random) : uniform(1 / shape[0], random);
    const weight = shapes.get(name.replace(/bias$/, 'weight')) ?? shape;
    if (weight.length === 1) return () => (name.endsWith('weight') ? 1 : 0);
    return uniform(1 / Math.sqrt(weight.slice(1).reduce((a, b) => a * b, 1)), random);
  };
}

/** Draws numbers evenly from [-limit, limit). */
export const uniform = (limit: number, random: RandomStream) => () => limit * (2 * random.uniform() - 1);

/** Rows of unit length, uniform in a cube before. */
export function unitRows(width: number, random: RandomStream): () => number {
  let row: number[] = [];
  return () => {
    if (row.length === 0) {
      const drawn = Array.from({ length: width }, uniform(1, random));
      const length = Math.hypot(...drawn);
      row = drawn.map((x) => x / length);
    }
    return row.pop() as number;
  };
}
