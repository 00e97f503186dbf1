import { checkOptions } from '../check-options';
import { type Dim, formatShape, sameDim } from '../dim';
import { DetailFlowError } from '../errors';
import type { Value } from '../graph';
import { broadcastShapes, broadcastStrides, forEachOffset, type OpDefinition, requireDType } from '../op';
import { add } from './elementwise';

type MatmulAttrs = { readonly transposeA: boolean; readonly transposeB: boolean };

export const matmulOp: OpDefinition<MatmulAttrs> = {
  name: 'matmul',
  infer([a, b], { transposeA, transposeB }) {
    requireDType('matmul', a, 'f32');
    requireDType('matmul', b, 'f32');
    if (a.shape.length < 2 || b.shape.length < 2) {
      throw new DetailFlowError(
        'shape',
        `matmul: ${formatShape(a.shape)} by ${formatShape(b.shape)}: give matrices`,
      );
    }
    const [m, k] = lastTwo(a.shape, transposeA);
    const [k2, n] = lastTwo(b.shape, transposeB);
    if (!sameDim(k, k2)) {
      throw new DetailFlowError(
        'shape',
        `matmul: ${formatShape(a.shape)}${transposeA ? '^T' : ''} by ${formatShape(b.shape)}${transposeB ? '^T' : ''}: inner extents ${k} and ${k2} differ`,
      );
    }
    return {
      shape: [...broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2), sameDim), m, n],
      dtype: 'f32',
    };
  },
  evaluate([a, b], { transposeA, transposeB }, { shape }) {
    const batch = shape.slice(0, -2);
    const [m, n] = shape.slice(-2);
    const [, k] = lastTwo(a.shape, transposeA) as number[];
    const out = new Float64Array(shape.reduce((x, y) => x * y, 1));
    const [aRow, aInner] = transposeA ? [1, m] : [k, 1];
    const [bInner, bColumn] = transposeB ? [1, k] : [n, 1];
    const strides = [a, b].map((x) => {
      const size = x.shape.slice(-2).reduce((p, q) => p * q, 1);
      return broadcastStrides(x.shape.slice(0, -2), batch).map((stride) => stride * size);
    });
    forEachOffset(batch, strides, (index, [aBase, bBase]) => {
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let sum = 0;
          let x = aBase + i * aRow;
          let y = bBase + j * bColumn;
          for (let inner = 0; inner < k; inner++, x += aInner, y += bInner) sum += a.data[x] * b.data[y];
          out[(index * m + i) * n + j] = sum;
        }
      }
    });
    return out;
  },
};

/** Matrix product over the last two axes, f32; leading axes broadcast. Either operand may be read transposed. */
export function matmul(
  a: Value,
  b: Value,
  options: { transposeA?: boolean; transposeB?: boolean } = {},
): Value {
  checkOptions('matmul', options, { transposeA: true, transposeB: true });
  const { transposeA = false, transposeB = false } = options;
  return a.graph.emit(matmulOp, [a, b], { transposeA, transposeB });
}

/** x W^T + b with W [out, in] as torch stores it; x [..., in] -> [..., out]. */
export function linear(x: Value, weight: Value, bias?: Value): Value {
  const product = matmul(x, weight, { transposeB: true });
  return bias ? add(product, bias) : product;
}

function lastTwo(shape: readonly Dim[], transposed: boolean): [Dim, Dim] {
  const [rows, columns] = shape.slice(-2);
  return transposed ? [columns, rows] : [rows, columns];
}
