import {
  add,
  averagePool2d,
  type ConvOptions,
  concat,
  conv2d,
  div,
  linear,
  matmul,
  maximum,
  maxPool2d,
  mul,
  type Padding,
  type ParameterSpec,
  reshape,
  slice,
  sqrt,
  sub,
  sum,
  transpose,
  type Value,
} from '@detailflow/core';
import type { Parameters } from './parameters';

/** Side of the images that the network was trained on. */
export const INCEPTION_SIZE = 299;
/** Features of a pooled image, of a spatial one (17 x 17 places, 7 channels), and classes. */
export const inceptionWidths = { pool: 2048, spatial: 2023, logits: 1008 } as const;

interface ConvSpec {
  readonly name: string;
  readonly shape: readonly [number, number, number, number];
}

const convolutions: ConvSpec[] = [];

/** Declares a convolution and returns what applies it with batch norm and ReLU. */
function unit(
  name: string,
  from: number,
  to: number,
  kernel: number | [number, number],
  options: ConvOptions = {},
) {
  const [rows, columns] = typeof kernel === 'number' ? [kernel, kernel] : kernel;
  convolutions.push({ name, shape: [to, from, rows, columns] });
  return (p: Parameters, x: Value): Value => {
    const y = conv2d(x, p(`${name}.conv.weight`), options);
    const channel = (field: string) => reshape(p(`${name}.bn.${field}`), [to, 1, 1]);
    const scale = div(channel('weight'), sqrt(add(channel('running_var'), 0.001)));
    return maximum(add(mul(y, scale), sub(channel('bias'), mul(channel('running_mean'), scale))), 0);
  };
}

type Layer = (p: Parameters, x: Value) => Value;

const chain =
  (...layers: Layer[]): Layer =>
  (p, x) =>
    layers.reduce((value, layer) => layer(p, value), x);

const side =
  (...branches: Layer[]): Layer =>
  (p, x) =>
    concat(
      branches.map((branch) => branch(p, x)),
      1,
    );

/** As in the network that FID was defined with: padding does not count in the mean. */
const average: Layer = (_, x) => averagePool2d(x, { kernel: 3, stride: 1, padding: 1 });
/** The last block takes the largest value instead: a mistake of that network which everybody keeps. */
const largest: Layer = (_, x) => maxPool2d(x, { kernel: 3, stride: 1, padding: 1 });
const shrink: Layer = (_, x) => maxPool2d(x, { kernel: 3, stride: 2 });
const wide: Padding = [0, 3, 0, 3];
const tall: Padding = [3, 0, 3, 0];

function blockA(name: string, from: number, pooled: number): Layer {
  return side(
    unit(`${name}.branch1x1`, from, 64, 1),
    chain(unit(`${name}.branch5x5_1`, from, 48, 1), unit(`${name}.branch5x5_2`, 48, 64, 5, { padding: 2 })),
    chain(
      unit(`${name}.branch3x3dbl_1`, from, 64, 1),
      unit(`${name}.branch3x3dbl_2`, 64, 96, 3, { padding: 1 }),
      unit(`${name}.branch3x3dbl_3`, 96, 96, 3, { padding: 1 }),
    ),
    chain(average, unit(`${name}.branch_pool`, from, pooled, 1)),
  );
}

function blockB(name: string): Layer {
  return side(
    unit(`${name}.branch3x3`, 288, 384, 3, { stride: 2 }),
    chain(
      unit(`${name}.branch3x3dbl_1`, 288, 64, 1),
      unit(`${name}.branch3x3dbl_2`, 64, 96, 3, { padding: 1 }),
      unit(`${name}.branch3x3dbl_3`, 96, 96, 3, { stride: 2 }),
    ),
    shrink,
  );
}

function blockC(name: string, inner: number) {
  const first = unit(`${name}.branch1x1`, 768, 192, 1);
  const rest = side(
    chain(
      unit(`${name}.branch7x7_1`, 768, inner, 1),
      unit(`${name}.branch7x7_2`, inner, inner, [1, 7], { padding: wide }),
      unit(`${name}.branch7x7_3`, inner, 192, [7, 1], { padding: tall }),
    ),
    chain(
      unit(`${name}.branch7x7dbl_1`, 768, inner, 1),
      unit(`${name}.branch7x7dbl_2`, inner, inner, [7, 1], { padding: tall }),
      unit(`${name}.branch7x7dbl_3`, inner, inner, [1, 7], { padding: wide }),
      unit(`${name}.branch7x7dbl_4`, inner, inner, [7, 1], { padding: tall }),
      unit(`${name}.branch7x7dbl_5`, inner, 192, [1, 7], { padding: wide }),
    ),
    chain(average, unit(`${name}.branch_pool`, 768, 192, 1)),
  );
  return { first, rest };
}

function blockD(name: string): Layer {
  return side(
    chain(unit(`${name}.branch3x3_1`, 768, 192, 1), unit(`${name}.branch3x3_2`, 192, 320, 3, { stride: 2 })),
    chain(
      unit(`${name}.branch7x7x3_1`, 768, 192, 1),
      unit(`${name}.branch7x7x3_2`, 192, 192, [1, 7], { padding: wide }),
      unit(`${name}.branch7x7x3_3`, 192, 192, [7, 1], { padding: tall }),
      unit(`${name}.branch7x7x3_4`, 192, 192, 3, { stride: 2 }),
    ),
    shrink,
  );
}

function blockE(name: string, from: number, pool: Layer): Layer {
  const fork = (prefix: string, width: number) =>
    side(
      unit(`${name}.${prefix}a`, width, 384, [1, 3], { padding: [0, 1, 0, 1] }),
      unit(`${name}.${prefix}b`, width, 384, [3, 1], { padding: [1, 0, 1, 0] }),
    );
  return side(
    unit(`${name}.branch1x1`, from, 320, 1),
    chain(unit(`${name}.branch3x3_1`, from, 384, 1), fork('branch3x3_2', 384)),
    chain(
      unit(`${name}.branch3x3dbl_1`, from, 448, 1),
      unit(`${name}.branch3x3dbl_2`, 448, 384, 3, { padding: 1 }),
      fork('branch3x3dbl_3', 384),
    ),
    chain(pool, unit(`${name}.branch_pool`, from, 192, 1)),
  );
}

const stem = chain(
  unit('Conv2d_1a_3x3', 3, 32, 3, { stride: 2 }),
  unit('Conv2d_2a_3x3', 32, 32, 3),
  unit('Conv2d_2b_3x3', 32, 64, 3, { padding: 1 }),
  shrink,
  unit('Conv2d_3b_1x1', 64, 80, 1),
  unit('Conv2d_4a_3x3', 80, 192, 3),
  shrink,
  blockA('Mixed_5b', 192, 32),
  blockA('Mixed_5c', 256, 64),
  blockA('Mixed_5d', 288, 64),
  blockB('Mixed_6a'),
);
const middle = [blockC('Mixed_6b', 128), blockC('Mixed_6c', 160)];
const spatialBlock = blockC('Mixed_6d', 160);
const afterwards = blockC('Mixed_6e', 192);
const top = chain(blockD('Mixed_7a'), blockE('Mixed_7b', 1280, average), blockE('Mixed_7c', 2048, largest));

/** Names and shapes of the weights in `pt_inception-2015-12-05-*.pth`. */
export function inceptionParameters(): ParameterSpec[] {
  const units = convolutions.flatMap(({ name, shape }) => [
    { name: `${name}.conv.weight`, shape },
    ...['weight', 'bias', 'running_mean', 'running_var'].map((field) => ({
      name: `${name}.bn.${field}`,
      shape: [shape[0]],
    })),
  ]);
  return [
    ...units,
    { name: 'fc.weight', shape: [inceptionWidths.logits, inceptionWidths.pool] },
    { name: 'fc.bias', shape: [inceptionWidths.logits] },
  ];
}

/** What images become: means over all places, values of 7 channels at 17 x 17 places, class logits without bias. */
export interface InceptionFeatures {
  /** [B, 2048], for FID, KID, precision and recall. */
  readonly pool: Value;
  /** [B, 2023], for sFID. */
  readonly spatial: Value;
  /** [B, 1008], for IS. */
  readonly logits: Value;
}

/**
 * Inception-v3 in the variant that FID is defined with.
 * @param x [B, 3, 299, 299], (byte - 128) / 128
 * Source: torch-fidelity and pytorch-fid, whose weights it takes.
 */
export function inception(p: Parameters, x: Value): InceptionFeatures {
  let y = stem(p, x); // [B, 768, 17, 17]
  for (const { first, rest } of middle) y = concat([first(p, y), rest(p, y)], 1);
  const branch = spatialBlock.first(p, y);
  const places = transpose(slice(branch, 1, 0, 7), [0, 2, 3, 1]); // [B, 17, 17, 7]
  const spatial = reshape(places, [y.shape[0], inceptionWidths.spatial]);
  y = concat([branch, spatialBlock.rest(p, y)], 1);
  y = top(p, concat([afterwards.first(p, y), afterwards.rest(p, y)], 1)); // [B, 2048, 8, 8]
  const pool = mul(reshape(sum(y, [2, 3]), [y.shape[0], inceptionWidths.pool]), 1 / 64);
  return { pool, spatial, logits: linear(pool, p('fc.weight')) };
}

/**
 * Images resized as TensorFlow 1 does it (bilinear, corners not aligned, centres not shifted): by matrices, since it
 * is linear in each axis.
 * @param x [B, 3, H, W]
 * @returns [B, 3, 299, 299]
 */
export function resizeForInception(x: Value): Value {
  const [, , height, width] = x.shape as number[];
  const matrix = (from: number) =>
    x.graph.constant(tensorflowBilinear(from, INCEPTION_SIZE), [INCEPTION_SIZE, from]);
  const widened = matmul(x, matrix(width), { transposeB: true }); // [B, 3, H, 299]
  return matmul(matrix(height), widened);
}

/** [to, from], where sample i lies at i from / to. Computed in float32, as there. */
export function tensorflowBilinear(from: number, to: number): Float32Array {
  const matrix = new Float32Array(to * from);
  const scale = Math.fround(from / to);
  for (let i = 0; i < to; i++) {
    const place = Math.fround(i * scale);
    const low = Math.min(from - 1, Math.floor(place));
    const share = Math.fround(place - low);
    matrix[i * from + low] += 1 - share;
    matrix[i * from + Math.min(from - 1, low + 1)] += share;
  }
  return matrix;
}
