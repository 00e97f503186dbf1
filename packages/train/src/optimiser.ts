import {
  add,
  checkOptions,
  div,
  type Graph,
  type GraphBuilder,
  less,
  mul,
  type ParameterSpec,
  reshape,
  select,
  sqrt,
  sub,
  sum,
  Tensor,
  type Tensors,
  trace,
  type Value,
} from '@detailflow/core';

/** Kinds of buffers a parameter has on the device; the buffer of parameter x is `kind.x`. */
export const Buffer = {
  parameter: 'param',
  /** Sum of the gradients of the micro-batches so far. */
  gradient: 'grad',
  /** Running means of the gradient and of its square. */
  moment1: 'moment1',
  moment2: 'moment2',
  /** Running mean of the parameter. */
  average: 'ema',
} as const;

/** One of the buffers that an optimiser keeps for a parameter. */
export type BufferKind = (typeof Buffer)[keyof typeof Buffer];

/** Adam or AdamW. Source: docs/method.md section 5. */
export interface OptimiserOptions {
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  /** Largest norm of all gradients together; larger ones are scaled down to it. */
  readonly clip?: number;
  /** Decoupled weight decay (AdamW), on parameters of two and more axes unless {@link decays} says otherwise. */
  readonly weightDecay?: number;
  /** Which parameters decay. */
  readonly decays?: (name: string, shape: readonly number[]) => boolean;
  /** Keep a running mean of the parameters. */
  readonly average?: boolean;
}

/**
 * Parameters, or their running means, as buffers that graphs share; only read unless {@link optimiserGraph} updates
 * them.
 */
export function sharedParameters(
  g: GraphBuilder,
  specs: readonly ParameterSpec[],
  kind: BufferKind = Buffer.parameter,
): (name: string) => Value {
  const values = new Map(specs.map(({ name, shape }) => [name, g.state(`${kind}.${name}`, shape)]));
  return (name) => values.get(name) as Value;
}

/** Adds gradients to their buffers. Parameters that the loss does not depend on get nothing. */
export function accumulateGradients(
  g: GraphBuilder,
  specs: readonly ParameterSpec[],
  found: readonly (Value | undefined)[],
): void {
  for (const [i, { name, shape }] of specs.entries()) {
    const gradient = found[i];
    if (!gradient) continue;
    const key = `${Buffer.gradient}.${name}`;
    g.update(key, add(g.state(key, shape), gradient));
  }
}

/** The numbers of one optimiser step. */
export interface OptimiserStep {
  /** Steps made before this one. */
  readonly step: number;
  readonly learningRate: number;
  /** Micro-batches that were accumulated; their gradients are averaged. */
  readonly accumulated: number;
  /** Share of the old running mean that stays. */
  readonly averageDecay?: number;
}

/**
 * One step of the optimiser over the buffers of all parameters; gradients are zeros afterwards. When a gradient is not
 * finite, parameters, moments and means stay as they are.
 * Feeds: see {@link optimiserFeeds}. Output: norm [1] of all gradients before clipping.
 */
export function optimiserGraph(specs: readonly ParameterSpec[], options: OptimiserOptions): Graph {
  checkOptions('optimiserGraph', options, {
    betas: true,
    epsilon: true,
    clip: true,
    weightDecay: true,
    decays: true,
    average: true,
  });
  const { betas, epsilon, clip, weightDecay = 0, average = false } = options;
  const { decays: isDecaying = (_name, { length }) => length >= 2 } = options;
  return trace((g) => {
    const scalar = (name: string) => g.input(name, 'f32', [1]);
    const learningRate = scalar('learningRate');
    const scale = scalar('gradientScale');
    const gradients = specs.map(({ name, shape }) => g.state(`${Buffer.gradient}.${name}`, shape));
    const squares = gradients.map((x) => sumOfSquares(mul(x, scale)));
    const norm = sqrt(squares.reduce(add)); // [1]
    const finite = less(norm, Number.MAX_VALUE);
    const clipping = clip === undefined ? scale : mul(scale, minimum(div(clip, add(norm, 1e-6)), 1));
    const keeping = (factor: number | Value) => select(finite, factor, 1);
    const rate = select(finite, learningRate, 0);
    const [correction1, correction2] = [scalar('correction1'), scalar('correction2')];
    const averageDecay = average ? keeping(scalar('averageDecay')) : undefined;

    for (const [i, { name, shape }] of specs.entries()) {
      const buffer = (kind: BufferKind) => `${kind}.${name}`;
      const gradient = select(finite, mul(gradients[i], clipping), 0);
      const moment1 = add(
        mul(g.state(buffer(Buffer.moment1), shape), keeping(betas[0])),
        mul(gradient, 1 - betas[0]),
      );
      const moment2 = add(
        mul(g.state(buffer(Buffer.moment2), shape), keeping(betas[1])),
        mul(mul(gradient, gradient), 1 - betas[1]),
      );
      const direction = div(mul(moment1, correction1), add(sqrt(mul(moment2, correction2)), epsilon));
      const before = g.state(buffer(Buffer.parameter), shape);
      const decays = weightDecay > 0 && isDecaying(name, shape);
      const kept = decays ? mul(before, sub(1, mul(rate, weightDecay))) : before;
      const after = sub(kept, mul(direction, rate));
      g.update(buffer(Buffer.moment1), moment1);
      g.update(buffer(Buffer.moment2), moment2);
      g.update(buffer(Buffer.parameter), after);
      g.update(buffer(Buffer.gradient), mul(gradient, 0));
      if (averageDecay) {
        const mean = g.state(buffer(Buffer.average), shape);
        g.update(buffer(Buffer.average), add(mul(mean, averageDecay), mul(after, sub(1, averageDecay))));
      }
    }
    return { norm };
  });
}

/** The feeds of {@link optimiserGraph}. */
export function optimiserFeeds(
  { step, learningRate, accumulated, averageDecay = 0 }: OptimiserStep,
  { betas, average }: OptimiserOptions,
): Tensors {
  const scalar = (value: number) => new Tensor('float32', Float32Array.of(value), [1]);
  return {
    learningRate: scalar(learningRate),
    gradientScale: scalar(1 / accumulated),
    correction1: scalar(1 / (1 - betas[0] ** (step + 1))),
    correction2: scalar(1 / (1 - betas[1] ** (step + 1))),
    ...(average && { averageDecay: scalar(averageDecay) }),
  };
}

/** [1] */
function sumOfSquares(x: Value): Value {
  const size = (x.shape as number[]).reduce((a, b) => a * b, 1);
  const flat = reshape(x, [size]);
  return sum(mul(flat, flat), [0]);
}

/** The smaller of a value and a number. */
const minimum = (x: Value, limit: number): Value => select(less(x, limit), x, limit);
