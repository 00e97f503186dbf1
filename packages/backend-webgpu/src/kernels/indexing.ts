import { Kernel } from '../kernel';
import { extentUniforms, splitIndex, viewPlace, viewUniforms } from './coordinates';

const header = 'if (index >= uniforms.size) { return; }';

/** Rows of a table; a row that is not there is NaN, or the lowest integer. */
export const gatherKernel = (isFloat: boolean): Kernel =>
  new Kernel({
    inputs: ['X', 'rows'],
    uniforms: ['width : i32', 'count : i32'],
    code: `fn main(index: i32) {
  ${header}
  let row = rows(index / uniforms.width);
  let isThere = row >= 0 && row < uniforms.count;
  let value = X(clamp(row, 0, uniforms.count - 1) * uniforms.width + index % uniforms.width);
  result[index] = select(${isFloat ? 'uniforms.NAN' : '-2147483647'}, value, isThere);
}`,
  });

/** Rows added up where indices name them. Every result looks through all indices, so the order of sums is fixed. */
export const scatterRowsKernel = new Kernel({
  inputs: ['places', 'rows'],
  uniforms: ['width : i32', 'count : i32'],
  code: `fn main(index: i32) {
  ${header}
  let row = index / uniforms.width;
  let column = index % uniforms.width;
  var found = 0.0;
  for (var i = 0; i < uniforms.count; i = i + 1) {
    if (places(i) == row) { found = found + rows(i * uniforms.width + column); }
  }
  result[index] = found;
}`,
});

/** Along the last axis, the elements that indices point at. */
export const takeAlongKernel = (isFloat: boolean): Kernel =>
  new Kernel({
    inputs: ['X', 'columns'],
    uniforms: ['width : i32', 'taken : i32'],
    code: `fn main(index: i32) {
  ${header}
  let column = columns(index);
  let isThere = column >= 0 && column < uniforms.width;
  let value = X((index / uniforms.taken) * uniforms.width + clamp(column, 0, uniforms.width - 1));
  result[index] = select(${isFloat ? 'uniforms.NAN' : '-2147483647'}, value, isThere);
}`,
  });

/** WGSL of an element of rows that may lie anyhow, by its place among them in order. */
const rowsAt = (rank: number, type: string) => `
fn rowAt(index: i32) -> ${type} {
  ${splitIndex(rank)}
  return rows(${viewPlace('', rank)});
}`;
const rowUniforms = (rank: number) => [...extentUniforms(rank), ...viewUniforms('', rank)];
const wgslType = (isFloat: boolean) => (isFloat ? 'f32' : 'i32');

/** A buffer with rows written over it. */
export const writeRowsKernel = (rank: number, isFloat: boolean): Kernel =>
  new Kernel({
    inputs: ['held', 'rows', 'first'],
    uniforms: ['inner : i32', 'count : i32', 'extent : i32', ...rowUniforms(rank)],
    code: `${rowsAt(rank, wgslType(isFloat))}
fn main(index: i32) {
  ${header}
  let row = (index / uniforms.inner) % uniforms.extent - first(0);
  let outer = index / (uniforms.inner * uniforms.extent);
  let isNew = row >= 0 && row < uniforms.count;
  let source = (outer * uniforms.count + clamp(row, 0, uniforms.count - 1)) * uniforms.inner + index % uniforms.inner;
  result[index] = select(held(index), rowAt(source), isNew);
}`,
  });

/** The same into the buffer itself: one thread for each new element, whose number is `fresh`. */
export const writeRowsInPlaceKernel = (rank: number, isFloat: boolean): Kernel =>
  new Kernel({
    inputs: ['rows', 'first'],
    uniforms: ['inner : i32', 'count : i32', 'extent : i32', 'fresh : i32', ...rowUniforms(rank)],
    code: `${rowsAt(rank, wgslType(isFloat))}
fn main(index: i32) {
  if (index >= uniforms.fresh) { return; }
  let row = (index / uniforms.inner) % uniforms.count;
  let outer = index / (uniforms.inner * uniforms.count);
  let to = (outer * uniforms.extent + first(0) + row) * uniforms.inner + index % uniforms.inner;
  result[to] = rowAt(index);
}`,
  });

/** Arrays one after the other along an axis: uniforms total, and for each where it ends; all in elements. */
export const concatKernel = (inputs: number): Kernel => {
  const branches = Array.from(
    { length: inputs },
    (_, k) =>
      `if (column < uniforms.e${k}) { result[index] = A${k}(outer * (uniforms.e${k} - ${k === 0 ? '0' : `uniforms.e${k - 1}`}) + column - ${k === 0 ? '0' : `uniforms.e${k - 1}`}); return; }`,
  );
  return new Kernel({
    inputs: Array.from({ length: inputs }, (_, k) => `A${k}`),
    uniforms: ['total : i32', ...Array.from({ length: inputs }, (_, k) => `e${k} : i32`)],
    code: `fn main(index: i32) {
  ${header}
  let outer = index / uniforms.total;
  let column = index % uniforms.total;
  ${branches.join('\n  ')}
}`,
  });
};
