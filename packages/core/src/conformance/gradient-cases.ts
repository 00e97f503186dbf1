import { sizeOf } from '../dim';
import { gradients } from '../gradients/gradients';
import type { Value } from '../graph';
import { add, mul } from '../ops/elementwise';
import { reshape } from '../ops/layout';
import { sum } from '../ops/reduce';
import { conformanceCases } from './cases';
import type { ConformanceCase } from './conformance-case';

/** Gradients of a weighted sum of a case's float outputs with respect to its float inputs. */
function gradientCase(one: ConformanceCase): ConformanceCase {
  return {
    ...one,
    name: `gradient of ${one.name}`,
    build: (graph) => {
      const outputs = Object.values(one.build(graph)).filter(({ dtype }) => dtype === 'f32');
      const terms = outputs.map((value) => {
        const size = sizeOf(value.shape) as number;
        const weights = Float64Array.from({ length: size }, (_, i) => Math.cos(3 * i + 1));
        return sum(mul(reshape(value, [size]), graph.constant(weights, [size])), [0]);
      });
      const inputs = [...graph.inputs].filter(([, { dtype }]) => dtype === 'f32');
      const found = gradients(
        terms.reduce(add),
        inputs.map(([, value]) => value),
      );
      const named = inputs.flatMap(([name], i): [string, Value][] => {
        const gradient = found[i];
        return gradient ? [[`d ${name}`, gradient]] : [];
      });
      return Object.fromEntries(named);
    },
  };
}

const isDifferentiable = ({ name, weights, stateDims, runs }: ConformanceCase): boolean =>
  !weights &&
  !stateDims &&
  !/topK|less|symbolic|overlapping/.test(name) &&
  Object.values(runs[0]).some(({ type }) => type === 'float32');

/** The gradient of every differentiable case: what a backend that trains must pass as well. */
export const gradientCases: readonly ConformanceCase[] = conformanceCases
  .filter(isDifferentiable)
  .map(gradientCase);
