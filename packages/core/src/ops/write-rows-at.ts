import { formatShape, sameDim, sameShape } from '../dim';
import { DetailFlowError } from '../errors';
import type { Value } from '../graph';
import { type OpDefinition, requireDType } from '../op';
import { equal, less, select } from './elementwise';
import { reshape } from './layout';
import { matmul } from './matmul';
import { max } from './reduce';

/** A row goes where the product with a matrix of ones and zeros brings it. */
export const writeRowsAtOp: OpDefinition = {
  name: 'writeRowsAt',
  infer([buffer, rows, places, every]) {
    for (const value of [buffer, rows]) requireDType('writeRowsAt', value, 'f32');
    for (const value of [places, every]) requireDType('writeRowsAt', value, 'i32');
    const fits =
      buffer.shape.length === 4 &&
      rows.shape.length === 4 &&
      [0, 1, 3].every((axis) => sameDim(rows.shape[axis], buffer.shape[axis])) &&
      sameShape(every.shape, [buffer.shape[2]]) &&
      sameShape(places.shape, [rows.shape[0], rows.shape[2]]);
    if (!fits) {
      throw new DetailFlowError(
        'shape',
        `writeRowsAt: ${formatShape(rows.shape)} into ${formatShape(buffer.shape)} at ${formatShape(places.shape)}`,
      );
    }
    return { shape: buffer.shape, dtype: 'f32' };
  },
  decompose([buffer, rows, places, every]) {
    const [batch, count] = places.shape;
    const each = reshape(every, [1, 1, ...every.shape, 1]);
    const goes = select(equal(each, reshape(places, [batch, 1, 1, count])), 1, 0); // [B, 1, N, L]
    return select(less(0, max(goes, [3])), matmul(goes, rows), buffer);
  },
};

/**
 * `buffer` [B, H, N, D] with row l of entry b of `rows` [B, H, L, D] written over its row `places[b, l]` (i32 [B, L], no
 * place of an entry twice). `every` i32 [N] counts the rows of the buffer from 0.
 */
export const writeRowsAt = (buffer: Value, rows: Value, places: Value, every: Value): Value =>
  buffer.graph.emit(writeRowsAtOp, [buffer, rows, places, every], {});
