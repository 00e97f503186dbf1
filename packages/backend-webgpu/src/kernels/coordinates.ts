import { stridesOf } from '@detailflow/core';

/** How an array is read: from where on, and how far apart the elements of each axis lie. */
export interface View {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset: number;
}

export const wholeView = (shape: readonly number[]): View => ({
  shape,
  strides: stridesOf(shape),
  offset: 0,
});

/** A view as if it had been broadcast to `target`. */
export function broadcastView({ shape, strides, offset }: View, target: readonly number[]): View {
  const lead = target.length - shape.length;
  return {
    shape: target,
    strides: target.map((_, axis) => (axis < lead || shape[axis - lead] === 1 ? 0 : strides[axis - lead])),
    offset,
  };
}

/** A view as if its axes had been divided into those of `shape`; extents of 1 may be added. */
export function dividedView(view: View, shape: readonly number[]): View {
  const strides: number[] = [];
  let [axis, rest] = [-1, 1];
  for (const extent of shape) {
    if (extent <= 1) {
      strides.push(0); // never moved along
      continue;
    }
    while (rest <= 1 && axis < view.shape.length - 1) rest = view.shape[++axis];
    rest /= extent;
    strides.push(view.strides[axis] * rest);
  }
  return { shape, strides, offset: view.offset };
}

/** WGSL that splits `index` into coordinates c0, c1, ... of axes whose extents are uniforms d1, d2, ... */
export function splitIndex(rank: number): string {
  const lines = ['var rest = index;'];
  for (let axis = rank - 1; axis > 0; axis--) {
    lines.push(`let c${axis} = rest % uniforms.d${axis};`, `rest = rest / uniforms.d${axis};`);
  }
  return [...lines, 'let c0 = rest;'].join('\n');
}

/** Uniforms of {@link splitIndex}. */
export const extentUniforms = (rank: number): string[] =>
  Array.from({ length: Math.max(0, rank - 1) }, (_, i) => `d${i + 1} : i32`);

/** Uniforms of the strides of one view. */
export const viewUniforms = (name: string, rank: number): string[] => [
  `o${name} : i32`,
  ...Array.from({ length: rank }, (_, axis) => `s${name}_${axis} : i32`),
];

/** Numbers of {@link extentUniforms} and of {@link viewUniforms} for each view. */
export const viewNumbers = (shape: readonly number[], views: readonly View[]): number[] => [
  ...shape.slice(1),
  ...views.flatMap(({ offset, strides }) => [offset, ...strides]),
];

/** WGSL of the place of the element at the coordinates. */
export const viewPlace = (name: string, rank: number): string =>
  [
    `uniforms.o${name}`,
    ...Array.from({ length: rank }, (_, axis) => `c${axis} * uniforms.s${name}_${axis}`),
  ].join(' + ');
