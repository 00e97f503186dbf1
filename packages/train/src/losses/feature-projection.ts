import { linear, type ParameterSpec, silu, type Value } from '@detailflow/core';

/** Names and shapes of the MLP that tells features: linear, SiLU, linear, SiLU, linear, as official checkpoints have them. */
export function featureProjectionSpecs(
  name: string,
  { from, hidden, to }: { readonly from: number; readonly hidden: number; readonly to: number },
): ParameterSpec[] {
  const widths = [from, hidden, hidden, to];
  return [0, 1, 2].flatMap((i) => [
    { name: `${name}.${2 * i}.weight`, shape: [widths[i + 1], widths[i]] },
    { name: `${name}.${2 * i}.bias`, shape: [widths[i + 1]] },
  ]);
}

/** What such an MLP tells: x [..., from] -> [..., to]. */
export function featureProjection(p: (name: string) => Value, name: string, x: Value): Value {
  const layer = (input: Value, i: number) => linear(input, p(`${name}.${i}.weight`), p(`${name}.${i}.bias`));
  return layer(silu(layer(silu(layer(x, 0)), 2)), 4);
}
