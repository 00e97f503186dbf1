import { Kernel } from '../kernel';
import { THREADS } from './gathering';

/**
 * A sum or maximum over some axes. The kept axes and the reduced ones are each given as up to MAX_AXES extents and
 * strides of the input, the last ones first; what is not needed has extent 1.
 */
const MAX_AXES = 4;

const uniforms = [
  'count : i32',
  ...['k', 'r'].flatMap((kind) =>
    Array.from({ length: MAX_AXES }, (_, i) => [`${kind}d${i} : i32`, `${kind}s${i} : i32`]).flat(),
  ),
];

const place = (kind: string, of: string, to: string) => `
  var ${to} = 0;
  var ${to}Rest = ${of};
  ${Array.from(
    { length: MAX_AXES },
    (_, i) => `${to} = ${to} + (${to}Rest % uniforms.${kind}d${i}) * uniforms.${kind}s${i};
  ${to}Rest = ${to}Rest / uniforms.${kind}d${i};`,
  ).join('\n  ')}`;

const kinds = {
  sum: { initial: '0.0', step: 'found + x', all: 'sumOfAll' },
  max: { initial: '-uniforms.INFINITY', step: 'max(found, x)', all: 'largestOfAll' },
};

/** One thread for each result: for few elements, or very many results. */
const byThread = ({ initial, step }: (typeof kinds)['sum']) =>
  new Kernel({
    inputs: ['X'],
    uniforms,
    code: `fn main(index: i32) {
  if (index >= uniforms.size) { return; }
  ${place('k', 'index', 'base')}
  var found = ${initial};
  for (var j = 0; j < uniforms.count; j = j + 1) {
    ${place('r', 'j', 'inner')}
    let x = X(base + inner);
    found = ${step};
  }
  result[index] = found;
}`,
  });

/** One workgroup for each result. */
const byGroup = ({ initial, step, all }: (typeof kinds)['sum']) =>
  new Kernel({
    inputs: ['X'],
    uniforms,
    gathers: true,
    code: `fn main(index: i32) {
  let lane = index % ${THREADS};
  let item = min(index / ${THREADS}, uniforms.size - 1);
  ${place('k', 'item', 'base')}
  var found = ${initial};
  for (var j = lane; j < uniforms.count; j = j + ${THREADS}) {
    ${place('r', 'j', 'inner')}
    let x = X(base + inner);
    found = ${step};
  }
  let whole = ${all}(lane, found);
  if (lane == 0 && index / ${THREADS} < uniforms.size) { result[item] = whole; }
}`,
  });

const kernels = {
  sum: { thread: byThread(kinds.sum), group: byGroup(kinds.sum) },
  max: { thread: byThread(kinds.max), group: byGroup(kinds.max) },
};

interface Axis {
  readonly extent: number;
  readonly stride: number;
}

/** How to reduce an array of a shape; null when it has more separate axes than the kernel takes. */
export function planReduction(kind: 'sum' | 'max', shape: readonly number[], axes: readonly number[]) {
  const runs = { kept: [] as Axis[], reduced: [] as Axis[] };
  let stride = 1;
  let last: 'kept' | 'reduced' | undefined;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const extent = shape[axis];
    if (extent !== 1) {
      const which = axes.includes(axis) ? 'reduced' : 'kept';
      const run = runs[which];
      // Neighbouring axes of a kind are one.
      if (last === which)
        run[run.length - 1] = { ...run[run.length - 1], extent: run[run.length - 1].extent * extent };
      else run.push({ extent, stride });
      last = which;
    }
    stride *= extent;
  }
  if (runs.kept.length > MAX_AXES || runs.reduced.length > MAX_AXES) return null;
  const total = (run: readonly Axis[]) => run.reduce((product, { extent }) => product * extent, 1);
  const [size, count] = [total(runs.kept), total(runs.reduced)];
  const padded = (run: readonly Axis[]) =>
    Array.from({ length: MAX_AXES }, (_, i) => [run[i]?.extent ?? 1, run[i]?.stride ?? 0]).flat();
  const isGroup = count >= THREADS && size < 4096;
  return {
    kernel: kernels[kind][isGroup ? 'group' : 'thread'],
    groups: isGroup ? size : undefined,
    numbers: [count, ...padded(runs.kept), ...padded(runs.reduced)],
    size,
  };
}
