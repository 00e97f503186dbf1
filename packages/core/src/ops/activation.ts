import type { Value } from '../graph';
import { type OpDefinition, requireDType } from '../op';
import { add, erf, mul, sigmoid, tanh } from './elementwise';

function activation(name: string, compute: (x: Value) => Value): OpDefinition {
  return {
    name,
    infer([x]) {
      requireDType(name, x, 'f32');
      return { shape: x.shape, dtype: 'f32' };
    },
    decompose: ([x]) => compute(x),
  };
}

/** GELU in its tanh form is 0.5 x (1 + tanh(scale (x + cubic x^3))). */
export const GELU_CUBIC = 0.044715;
export const GELU_SCALE = Math.sqrt(2 / Math.PI);

export const geluOp = activation('gelu', (x) => {
  const inner = mul(GELU_SCALE, add(x, mul(GELU_CUBIC, mul(mul(x, x), x))));
  return mul(mul(0.5, x), add(1, tanh(inner)));
});

export const geluExactOp = activation('geluExact', (x) =>
  mul(mul(0.5, x), add(1, erf(mul(x, Math.SQRT1_2)))),
);

export const siluOp = activation('silu', (x) => mul(x, sigmoid(x)));

/** GELU in its tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
export const gelu = (x: Value): Value => x.graph.emit(geluOp, [x], {});

/** GELU as it is defined: x times the normal distribution at x, 0.5 x (1 + erf(x / sqrt 2)). */
export const geluExact = (x: Value): Value => x.graph.emit(geluExactOp, [x], {});

/** x sigmoid(x). */
export const silu = (x: Value): Value => x.graph.emit(siluOp, [x], {});
