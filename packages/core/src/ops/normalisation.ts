import { formatShape, sameDim } from '../dim';
import { DetailFlowError } from '../errors';
import { extent, type Value } from '../graph';
import { type OpDefinition, requireDType } from '../op';
import { add, div, exp, log, maximum, mul, sqrt, sub } from './elementwise';
import { max, mean, sum } from './reduce';

type EpsilonAttrs = { readonly epsilon: number };

/** Norms and softmax work along the last axis of f32 values; parameters of a norm are vectors over it. */
function requireRows(name: string, x: Value, vectors: readonly Value[] = []): void {
  requireDType(name, x, 'f32');
  if (x.shape.length === 0) throw new DetailFlowError('shape', `${name}: a scalar has no last axis`);
  for (const vector of vectors) {
    requireDType(name, vector, 'f32');
    if (vector.shape.length !== 1 || !sameDim(vector.shape[0], extent(x, -1))) {
      throw new DetailFlowError(
        'shape',
        `${name}: ${formatShape(x.shape)} with a parameter ${formatShape(vector.shape)}`,
      );
    }
  }
}

export const softmaxOp: OpDefinition = {
  name: 'softmax',
  infer([x]) {
    requireRows('softmax', x);
    return { shape: x.shape, dtype: 'f32' };
  },
  decompose([x]) {
    const raised = exp(sub(x, max(x, [-1])));
    return div(raised, sum(raised, [-1]));
  },
};

export const logSoftmaxOp: OpDefinition = {
  name: 'logSoftmax',
  infer([x]) {
    requireDType('logSoftmax', x, 'f32');
    return { shape: x.shape, dtype: 'f32' };
  },
  decompose([x]) {
    const shifted = sub(x, max(x, [-1]));
    return sub(shifted, log(sum(exp(shifted), [-1])));
  },
};

export const inverseDeviationOp: OpDefinition<EpsilonAttrs> = {
  name: 'inverseDeviation',
  infer([x]) {
    requireRows('inverseDeviation', x);
    return { shape: [...x.shape.slice(0, -1), 1], dtype: 'f32' };
  },
  decompose([x], { epsilon }) {
    const centred = sub(x, mean(x, -1));
    return div(1, sqrt(add(mean(mul(centred, centred), -1), epsilon)));
  },
};

export const standardiseOp: OpDefinition<EpsilonAttrs> = {
  name: 'standardise',
  infer([x]) {
    requireRows('standardise', x);
    return { shape: x.shape, dtype: 'f32' };
  },
  decompose: ([x], { epsilon }) => mul(sub(x, mean(x, -1)), inverseDeviation(x, epsilon)),
};

export const layerNormOp: OpDefinition<EpsilonAttrs> = {
  name: 'layerNorm',
  infer([x, weight, bias]) {
    requireRows('layerNorm', x, [weight, bias]);
    return { shape: x.shape, dtype: 'f32' };
  },
  decompose: ([x, weight, bias], { epsilon }) => add(mul(standardise(x, epsilon), weight), bias),
};

export const rmsNormOp: OpDefinition<EpsilonAttrs> = {
  name: 'rmsNorm',
  infer([x, weight]) {
    requireRows('rmsNorm', x, [weight]);
    return { shape: x.shape, dtype: 'f32' };
  },
  decompose([x, weight], { epsilon }) {
    return mul(div(x, sqrt(add(mean(mul(x, x), -1), epsilon))), weight);
  },
};

export const l2NormaliseOp: OpDefinition<EpsilonAttrs> = {
  name: 'l2Normalise',
  infer([x]) {
    requireRows('l2Normalise', x);
    return { shape: x.shape, dtype: 'f32' };
  },
  decompose: ([x], { epsilon }) => div(x, maximum(sqrt(sum(mul(x, x), [-1])), epsilon)),
};

/** Softmax over the last axis. */
export const softmax = (x: Value): Value => x.graph.emit(softmaxOp, [x], {});

/** Logarithm of the softmax over the last axis, without overflow. */
export const logSoftmax = (x: Value): Value => x.graph.emit(logSoftmaxOp, [x], {});

/** 1 / sqrt(variance + epsilon) over the last axis, which stays with extent 1. */
export const inverseDeviation = (x: Value, epsilon: number): Value =>
  x.graph.emit(inverseDeviationOp, [x], { epsilon });

/** (x - mean) / sqrt(variance + epsilon) over the last axis. */
export const standardise = (x: Value, epsilon: number): Value =>
  x.graph.emit(standardiseOp, [x], { epsilon });

/** (x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis. */
export const layerNorm = (x: Value, weight: Value, bias: Value, epsilon: number): Value =>
  x.graph.emit(layerNormOp, [x, weight, bias], { epsilon });

/** x / sqrt(mean(x^2) + epsilon) * weight over the last axis. */
export const rmsNorm = (x: Value, weight: Value, epsilon: number): Value =>
  x.graph.emit(rmsNormOp, [x, weight], { epsilon });

/** x divided by its Euclidean norm along the last axis, or by `epsilon` where that is larger. */
export const l2Normalise = (x: Value, epsilon: number): Value =>
  x.graph.emit(l2NormaliseOp, [x], { epsilon });
