import { formatShape } from '../dim';
import { DetailFlowError } from '../errors';
import type { Value } from '../graph';
import { add } from '../ops/elementwise';
import { operations } from '../ops/table';
import { arrayRules } from './array-rules';
import { compositeRules } from './composite-rules';
import { convolutionRules } from './convolution-rules';
import { elementwiseRules } from './elementwise-rules';
import type { GradientRule } from './rule';

/** Rules by operation. Composites without one are differentiated through their decomposition. */
export const gradientRules: Readonly<Record<string, GradientRule>> = {
  ...elementwiseRules,
  ...arrayRules,
  ...compositeRules,
  ...convolutionRules,
};

/**
 * Gradients of a loss (f32, one element) with respect to values of the same graph, as ordinary nodes of it; they can
 * be differentiated again. Undefined for a value the loss does not depend on.
 * @throws DetailFlowError `shape` when the loss has more than one element, `unsupported` for an operation that has
 *   no gradient here
 */
export function gradients(loss: Value, wrt: readonly Value[]): (Value | undefined)[] {
  if (loss.dtype !== 'f32' || loss.shape.some((dim) => dim !== 1)) {
    throw new DetailFlowError(
      'shape',
      `the loss is ${loss.dtype} ${formatShape(loss.shape)}; sum it to one element first`,
    );
  }
  const seed = loss.graph.constant(
    Float64Array.of(1),
    loss.shape.map(() => 1),
  );
  const found = backpropagate(loss, seed, wrt);
  return wrt.map((value) => found.get(value));
}

/** Walks from `root` towards `targets` in reverse order of creation, which is a reverse topological order. */
function backpropagate(root: Value, seed: Value, targets: readonly Value[]): ReadonlyMap<Value, Value> {
  const onTheWay = between(root, new Set(targets));
  const collected = new Map<Value, Value>([[root, seed]]);
  for (const value of onTheWay) {
    const upstream = collected.get(value);
    if (!upstream || value.inputs.length === 0) continue;
    const parts = inputGradients(value, upstream);
    for (const [i, input] of value.inputs.entries()) {
      const part = parts[i];
      if (!part || input.dtype !== 'f32') continue;
      const before = collected.get(input);
      collected.set(input, before ? add(before, part) : part);
    }
  }
  return collected;
}

function inputGradients(value: Value, upstream: Value): readonly (Value | undefined)[] {
  const { inputs, attrs, op } = value;
  const rule = gradientRules[op];
  if (rule) return rule({ inputs, attrs, output: value, upstream });
  const definition = operations.get(op);
  if (!definition?.decompose) {
    throw new DetailFlowError(
      'unsupported',
      `the operation "${op}" has no gradient; stop it with stopGradient`,
    );
  }
  const found = backpropagate(definition.decompose(inputs, attrs), upstream, inputs);
  return inputs.map((input) => found.get(input));
}

/** Values on paths from the targets to the root, the root first, later ones before earlier ones. */
function between(root: Value, targets: ReadonlySet<Value>): Value[] {
  const seen = new Set<Value>();
  const pending = [root];
  for (let value = pending.pop(); value; value = pending.pop()) {
    if (seen.has(value)) continue;
    seen.add(value);
    if (!targets.has(value)) pending.push(...value.inputs);
  }
  const ordered = [...seen].sort((a, b) => a.id - b.id);
  const reaching = new Set<Value>();
  for (const value of ordered) {
    if (targets.has(value) || value.inputs.some((input) => reaching.has(input))) reaching.add(value);
  }
  return ordered.filter((value) => reaching.has(value)).reverse();
}
