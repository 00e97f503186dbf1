import { Tensor, type Tensors } from '@detailflow/core';
import { numbers } from './numbers-by-formula';

/** The changes of tools/reference/adversarial.py to images of `side` pixels on a canvas, as a discriminator's graph is fed them. */
export function changesByFormula(
  name: string,
  of: { readonly images: number; readonly side: number; readonly canvas: number; readonly first?: number },
): Tensors {
  const { images, side, canvas, first = 0 } = of;
  const drawn = (kind: string) => numbers(`${name}.${kind}`, first + images).slice(first);
  const whole = (kind: string, low: number, high: number) =>
    [...drawn(kind)].map((value) => Math.trunc(low + ((value + 1) / 2) * (high - low)));
  const [down, across] = [whole('down', -3, 4), whole('across', -3, 4)];
  const [top, left] = [whole('top', -2, 14), whole('left', -2, 14)];
  const matrix = (value: (image: number, row: number, column: number) => boolean) => {
    const data = Float32Array.from({ length: images * canvas ** 2 }, (_, i) => {
      const [row, column] = [Math.floor(i / canvas) % canvas, i % canvas];
      return Number(value(Math.floor(i / canvas ** 2), row, column));
    });
    return new Tensor('float32', data, [images, 1, canvas, canvas]);
  };
  const isIn = (at: number, from: number) => at >= Math.max(0, from) && at < Math.max(0, from + 5);
  const vector = (data: Float32Array) => new Tensor('float32', data, [images, 1, 1, 1]);
  return {
    [`${name}.brightness`]: vector(drawn('brightness').map((x) => 0.5 * x)),
    [`${name}.saturation`]: vector(drawn('saturation').map((x) => 1 + x)),
    [`${name}.contrast`]: vector(drawn('contrast').map((x) => 1 + 0.5 * x)),
    [`${name}.rows`]: matrix((i, to, from) => to < side && from < side && to === from + down[i]),
    [`${name}.columns`]: matrix((i, from, to) => to < side && from < side && to === from + across[i]),
    [`${name}.kept`]: matrix((i, row, column) => !(isIn(row, top[i]) && isIn(column, left[i]))),
  };
}

/** 1 / R^2 where the image of R x R pixels lies on a canvas: [1, 1, S, S]. */
export function pixelWeightsOf(side: number, canvas: number): Tensor {
  const data = Float32Array.from({ length: canvas ** 2 }, (_, i) =>
    i % canvas < side && i < side * canvas ? 1 / side ** 2 : 0,
  );
  return new Tensor('float32', data, [1, 1, canvas, canvas]);
}
