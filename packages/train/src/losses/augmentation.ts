import {
  add,
  checkOptions,
  type GraphBuilder,
  matmul,
  mul,
  RandomStream,
  sub,
  sum,
  Tensor,
  type Value,
} from '@detailflow/core';
import { Purpose } from '../purpose';

/** How strongly images are changed before a discriminator sees them. */
export interface AugmentationStrength {
  /** Probability of each kind of change (colour, shift, hole), drawn for a batch as a whole. */
  readonly probability: number;
  /** Side of the hole, as a share of the image's. */
  readonly cutout: number;
}

/** DiffAugment's weak form: each change in half of all batches, holes of a fifth of the side. Source: docs/method.md section 5. */
export const weakAugmentation: AugmentationStrength = { probability: 0.5, cutout: 0.2 };
/** Images as they are. */
export const noAugmentation: AugmentationStrength = { probability: 0, cutout: 0 };
/** DiffAugment's strong form: always, holes of half the side. Source: docs/method.md section 5. */
export const strongAugmentation: AugmentationStrength = { probability: 1, cutout: 0.5 };

/** Largest shift, as a share of the side. */
const SHIFT = 0.125;

/** The changes of a batch, as values of a graph; every image has its own. */
export interface Augmentation {
  /** [B, 1, 1, 1], what is added, and by what differences from the mean are multiplied. */
  readonly brightness: Value;
  readonly saturation: Value;
  readonly contrast: Value;
  /** [B, 1, S, S], which move rows from the left, columns from the right. */
  readonly rows: Value;
  readonly columns: Value;
  /** [B, 1, S, S], 0 in the hole. */
  readonly kept: Value;
}

/** Inputs of a graph for the changes of a batch of B images on a canvas of S x S; feeds come from {@link drawAugmentation}. */
export function augmentationInputs(g: GraphBuilder, name: string, batch: number, size: number): Augmentation {
  const number = (kind: string) => g.input(`${name}.${kind}`, 'f32', [batch, 1, 1, 1]);
  const matrix = (kind: string) => g.input(`${name}.${kind}`, 'f32', [batch, 1, size, size]);
  return {
    brightness: number('brightness'),
    saturation: number('saturation'),
    contrast: number('contrast'),
    rows: matrix('rows'),
    columns: matrix('columns'),
    kept: matrix('kept'),
  };
}

/**
 * DiffAugment: colour, shift and a hole, all differentiable.
 * @param x [B, 3, S, S]
 * @param weights [1, 1, S, S]: 1 / R^2 where the image of R x R pixels lies, 0 elsewhere
 * @returns [B, 3, S, S], 0 outside the image
 * Source: docs/method.md section 5.
 */
export function augment(x: Value, weights: Value, inside: Value, changes: Augmentation): Value {
  const { brightness, saturation, contrast, rows, columns, kept } = changes;
  const around = (value: Value, mean: Value, factor: Value) => add(mul(sub(value, mean), factor), mean);
  const channels = x.shape[1] as number;
  const bright = add(x, brightness);
  const saturated = around(bright, mul(sum(bright, [1]), 1 / channels), saturation);
  const mean = mul(sum(mul(saturated, weights), [1, 2, 3]), 1 / channels); // [B, 1, 1, 1]
  const coloured = mul(around(saturated, mean, contrast), inside);
  return mul(matmul(matmul(rows, coloured), columns), kept);
}

/** Which batch an augmentation is drawn for: the same one gets the same changes. */
export interface DrawAugmentation {
  readonly seed: number;
  readonly step: number;
  /** Position of the batch among those of the step: the same ones get the same changes. */
  readonly place: number;
  readonly images: number;
  /** Side of the canvas, S, and of the image in its top left corner, R, in pixels. */
  readonly canvas: number;
  readonly size: number;
  readonly strength: AugmentationStrength;
}

/** Draws the changes of a batch. */
export function drawAugmentation(name: string, options: DrawAugmentation): Record<string, Tensor> {
  checkOptions('drawAugmentation', options, {
    seed: true,
    step: true,
    place: true,
    images: true,
    canvas: true,
    size: true,
    strength: true,
  });
  const { seed, step, place, images, canvas, size, strength } = options;
  const random = new RandomStream({ seed: seed + place, purpose: Purpose.augmentation, position: step });
  const happens = () => random.uniform() < strength.probability;
  const [colours, shifts, cuts] = [happens(), happens(), happens()];
  const area = canvas * canvas;
  const brightness = new Float32Array(images);
  const saturation = new Float32Array(images).fill(1);
  const contrast = new Float32Array(images).fill(1);
  const [rows, columns] = [new Float32Array(images * area), new Float32Array(images * area)];
  const kept = new Float32Array(images * area).fill(1);
  const reach = Math.floor(SHIFT * size + 0.5);
  const hole = Math.floor(strength.cutout * size + 0.5);
  for (let i = 0; i < images; i++) {
    if (colours) {
      brightness[i] = random.uniform() - 0.5;
      saturation[i] = 2 * random.uniform();
      contrast[i] = 0.5 + random.uniform();
    }
    const [down, across] = shifts
      ? [random.integer(2 * reach + 1) - reach, random.integer(2 * reach + 1) - reach]
      : [0, 0];
    for (let at = 0; at < size; at++) {
      const [row, column] = [at + down, at + across];
      if (row >= 0 && row < size) rows[i * area + row * canvas + at] = 1;
      if (column >= 0 && column < size) columns[i * area + at * canvas + column] = 1;
    }
    if (!cuts) continue;
    const corner = () => random.integer(size + 1 - (hole % 2)) - Math.floor(hole / 2);
    const [top, left] = [corner(), corner()];
    for (let y = Math.max(0, top); y < Math.min(size, top + hole); y++) {
      const row = i * area + y * canvas;
      kept.fill(0, row + Math.max(0, left), row + Math.min(size, left + hole));
    }
  }
  const numbers = (data: Float32Array) => new Tensor('float32', data, [images, 1, 1, 1]);
  const matrices = (data: Float32Array) => new Tensor('float32', data, [images, 1, canvas, canvas]);
  return {
    [`${name}.brightness`]: numbers(brightness),
    [`${name}.saturation`]: numbers(saturation),
    [`${name}.contrast`]: numbers(contrast),
    [`${name}.rows`]: matrices(rows),
    [`${name}.columns`]: matrices(columns),
    [`${name}.kept`]: matrices(kept),
  };
}
