import { type Dim, formatShape, type Shape, sameDim, sameShape, subtractDims } from '../dim';
import { DetailFlowError } from '../errors';
import type { Value } from '../graph';
import { allocate, type OpDefinition, requireDType, resolveAxis, stridesOf } from '../op';

export const gatherOp: OpDefinition = {
  name: 'gather',
  infer([table, indices]) {
    requireDType('gather', indices, 'i32');
    if (table.shape.length === 0) throw new DetailFlowError('shape', 'gather: the table is a scalar');
    return { shape: [...indices.shape, ...table.shape.slice(1)], dtype: table.dtype };
  },
  evaluate([table, indices], _attrs, { shape, dtype }) {
    const width = table.shape.slice(1).reduce((a, b) => a * b, 1);
    const out = allocate(
      dtype,
      shape.reduce((a, b) => a * b, 1),
    );
    for (let i = 0; i < indices.data.length; i++) {
      const row = indices.data[i];
      if (row < 0 || row >= table.shape[0]) {
        throw new DetailFlowError(
          'invalid-argument',
          `gather: row ${row} of a table with ${table.shape[0]} rows`,
        );
      }
      out.set(table.data.subarray(row * width, (row + 1) * width), i * width);
    }
    return out;
  },
};

export const scatterRowsOp: OpDefinition<{ readonly shape: Shape }> = {
  name: 'scatterRows',
  infer([indices, rows], { shape }) {
    requireDType('scatterRows', indices, 'i32');
    requireDType('scatterRows', rows, 'f32');
    if (!sameShape(rows.shape, [...indices.shape, ...shape.slice(1)])) {
      throw new DetailFlowError(
        'shape',
        `scatterRows: rows ${formatShape(rows.shape)} at ${formatShape(indices.shape)} of ${formatShape(shape)}`,
      );
    }
    return { shape, dtype: 'f32' };
  },
  evaluate([indices, rows], _attrs, { shape }) {
    const width = shape.slice(1).reduce((a, b) => a * b, 1);
    const out = new Float64Array(shape.reduce((a, b) => a * b, 1));
    for (let i = 0; i < indices.data.length; i++) {
      const row = indices.data[i];
      if (row < 0 || row >= shape[0]) {
        throw new DetailFlowError('invalid-argument', `scatterRows: row ${row} of ${shape[0]}`);
      }
      for (let k = 0; k < width; k++) out[row * width + k] += rows.data[i * width + k];
    }
    return out;
  },
};

export const takeAlongOp: OpDefinition = {
  name: 'takeAlong',
  infer([x, indices]) {
    requireDType('takeAlong', indices, 'i32');
    const lead = x.shape.slice(0, -1);
    if (
      x.shape.length === 0 ||
      indices.shape.length !== x.shape.length ||
      !lead.every((d, a) => sameDim(d, indices.shape[a]))
    ) {
      throw new DetailFlowError(
        'shape',
        `takeAlong: ${formatShape(x.shape)} by ${formatShape(indices.shape)}`,
      );
    }
    return { shape: indices.shape, dtype: x.dtype };
  },
  evaluate([x, indices], _attrs, { shape, dtype }) {
    const out = allocate(dtype, indices.data.length);
    const width = x.shape[x.shape.length - 1];
    const taken = shape[shape.length - 1];
    for (let i = 0; i < out.length; i++) {
      const column = indices.data[i];
      if (column < 0 || column >= width) {
        throw new DetailFlowError('invalid-argument', `takeAlong: column ${column} of ${width}`);
      }
      out[i] = x.data[Math.floor(i / taken) * width + column];
    }
    return out;
  },
};

export const writeRowsOp: OpDefinition<{ readonly axis: number }> = {
  name: 'writeRows',
  infer([buffer, rows, offset], { axis }) {
    requireDType('writeRows', offset, 'i32');
    const fits =
      rows.dtype === buffer.dtype &&
      rows.shape.length === buffer.shape.length &&
      rows.shape.every((dim, a) => a === axis || sameDim(dim, buffer.shape[a])) &&
      !isLess(buffer.shape[axis], rows.shape[axis]) &&
      formatShape(offset.shape) === '[1]';
    if (!fits) {
      throw new DetailFlowError(
        'shape',
        `writeRows: ${formatShape(rows.shape)} into ${formatShape(buffer.shape)} along axis ${axis} at ${formatShape(offset.shape)}`,
      );
    }
    return { shape: buffer.shape, dtype: buffer.dtype };
  },
  evaluate([buffer, rows, offset], { axis }) {
    const out = buffer.data.slice();
    const inner = stridesOf(buffer.shape)[axis];
    const count = rows.shape[axis];
    const at = offset.data[0];
    if (at < 0 || at + count > buffer.shape[axis]) {
      throw new DetailFlowError(
        'invalid-argument',
        `writeRows: rows ${at}..${at + count} of ${buffer.shape[axis]}`,
      );
    }
    const outer = rows.data.length / Math.max(1, count * inner);
    for (let o = 0; o < outer; o++) {
      const block = rows.data.subarray(o * count * inner, (o + 1) * count * inner);
      out.set(block, (o * buffer.shape[axis] + at) * inner);
    }
    return out;
  },
};

export const topKOp: OpDefinition<{ readonly k: number }> = {
  name: 'topK',
  infer([x], { k }) {
    requireDType('topK', x, 'f32');
    const last = x.shape[x.shape.length - 1];
    if (!Number.isInteger(k) || k < 1 || typeof last !== 'number' || k > last) {
      throw new DetailFlowError('shape', `topK: ${k} of ${last} values`);
    }
    return { shape: [...x.shape.slice(0, -1), k], dtype: 'i32' };
  },
  evaluate([x], { k }) {
    const width = x.shape[x.shape.length - 1];
    const rows = x.data.length / width;
    const out = new Int32Array(rows * k);
    for (let row = 0; row < rows; row++) {
      const values = x.data.subarray(row * width, (row + 1) * width);
      const order = Array.from({ length: width }, (_, i) => i).sort((a, b) => values[b] - values[a] || a - b);
      out.set(order.slice(0, k), row * k);
    }
    return out;
  },
};

/** Whether it is certain that a < b. */
function isLess(a: Dim, b: Dim): boolean {
  const room = subtractDims(a, b);
  return typeof room === 'number' && room < 0;
}

/** Rows of a table [R, ...] by index i32 [...]: result [...indices, ...table row]. */
export const gather = (table: Value, indices: Value): Value =>
  table.graph.emit(gatherOp, [table, indices], {});

/** Zeros of `shape` [R, ...] with `rows` [...indices, ...] added at the rows that `indices` (i32) name. */
export const scatterRows = (shape: Shape, indices: Value, rows: Value): Value =>
  rows.graph.emit(scatterRowsOp, [indices, rows], { shape });

/** Along the last axis, the elements that `indices` (i32, same leading axes) point at. */
export const takeAlong = (x: Value, indices: Value): Value => x.graph.emit(takeAlongOp, [x, indices], {});

/** `buffer` with `rows` written over it from row `offset` (i32 [1]) on, along an axis. */
export function writeRows(buffer: Value, rows: Value, offset: Value, axis: number): Value {
  return buffer.graph.emit(writeRowsOp, [buffer, rows, offset], {
    axis: resolveAxis('writeRows', axis, buffer.shape.length),
  });
}

/** Indices (i32) of the k largest values along the last axis, largest first; equal values: lower index first. */
export const topK = (x: Value, k: number): Value => x.graph.emit(topKOp, [x], { k });
