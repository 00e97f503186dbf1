import {
  add,
  broadcastTo,
  concat,
  conv2d,
  DetailFlowError,
  linear,
  mean,
  mul,
  type Pair,
  type ParameterSpec,
  reshape,
  sqrt,
  sub,
  sum,
  type Value,
} from '@detailflow/core';
import { blur } from './blur';
import { leakyRelu } from './leaky-relu';
import type { Parameters } from './parameters';

/** StyleGAN2's discriminator: residual blocks that halve the image, down to 4 pixels, and one judgement of all. */
export interface StyleDiscriminatorConfig {
  /** Side of the images: a power of two from 8 to 1024. */
  readonly size: number;
  /** Channels at 256 pixels; twice as many at each halving, at most eight times, and half as many at each doubling; default 64. */
  readonly width?: number;
}

/** Side of the images that judging ends with. */
const LAST = 4;
/** Largest side. */
const LARGEST = 1024;
/** Images whose deviation is looked at together. */
const GROUP = 4;
const TINY = 1e-8;

/** The side of a discriminator for images of so many pixels: the nearest power of two. */
export const styleDiscriminatorSize = (imageSize: number): number =>
  Math.min(LARGEST, Math.max(2 * LAST, 2 ** Math.round(Math.log2(imageSize))));

const channelsAt = (side: number, width: number) => Math.max(1, Math.round(width * Math.min(8, 256 / side)));

/** The sides of the blocks, the largest first. */
function sidesOf({ size }: StyleDiscriminatorConfig): number[] {
  if (!Number.isInteger(Math.log2(size)) || size < 2 * LAST || size > LARGEST) {
    throw new DetailFlowError(
      'config',
      `images of ${size} pixels: StyleGAN's discriminator takes a power of two from ${2 * LAST} to ${LARGEST}`,
    );
  }
  return Array.from({ length: Math.log2(size / LAST) }, (_, i) => size / 2 ** i);
}

/** Names and shapes of the weights. They are meant to begin as N(0, 1), biases as 0. */
export function styleDiscriminatorParameters(config: StyleDiscriminatorConfig): ParameterSpec[] {
  const { size, width = 64 } = config;
  const layer = (name: string, shape: number[]) => [
    { name: `${name}.weight`, shape },
    { name: `${name}.bias`, shape: [shape[0]] },
  ];
  const blocks = sidesOf(config).flatMap((side) => {
    const [from, to] = [channelsAt(side, width), channelsAt(side / 2, width)];
    return [
      ...layer(`blocks.${side}.first`, [from, from, 3, 3]),
      ...layer(`blocks.${side}.second`, [to, from, 3, 3]),
      { name: `blocks.${side}.skip.weight`, shape: [to, from, 1, 1] },
    ];
  });
  const last = channelsAt(LAST, width);
  return [
    ...layer('input', [channelsAt(size, width), 3, 1, 1]),
    ...blocks,
    ...layer('last', [last, last + 1, 3, 3]),
    ...layer('hidden', [last, last * LAST ** 2]),
    ...layer('output', [1, last]),
  ];
}

/**
 * One judgement of each image, high for real ones. Weights are divided by the square root of their inputs where they are used, so that
 * all learn at the same rate; halving is blurred; the deviation over up to four images of the batch is a channel of the last layer.
 * @param x [B, 3, size, size] in [-1, 1]
 * @returns [B, 1, 1, 1]
 * Source: Karras et al., "Analyzing and improving the image quality of StyleGAN", 2020, and "Progressive growing of GANs", 2018.
 */
export function styleDiscriminator(p: Parameters, config: StyleDiscriminatorConfig, x: Value): Value {
  /** `gain`: 2 where a leaky ReLU follows, which keeps the variance. */
  const scaled = (name: string, gain: number) => {
    const weight = p(`${name}.weight`);
    const inputs = (weight.shape.slice(1) as number[]).reduce((a, b) => a * b, 1);
    return mul(weight, Math.sqrt(gain / inputs));
  };
  const convolved = (name: string, value: Value, options: { padding?: number; stride?: number }) => {
    const y = conv2d(value, scaled(name, 2), options);
    return leakyRelu(add(y, reshape(p(`${name}.bias`), [y.shape[1], 1, 1])));
  };
  let y = convolved('input', x, {});
  for (const side of sidesOf(config)) {
    const block = `blocks.${side}`;
    const first = convolved(`${block}.first`, y, { padding: 1 });
    const second = convolved(`${block}.second`, blur(first, { padding: 2 }), { stride: 2 });
    const skip = conv2d(blur(y, { padding: 1, stride: 2 }), scaled(`${block}.skip`, 1));
    y = mul(add(second, skip), Math.SQRT1_2); // [B, C', side / 2, side / 2]
  }
  const last = convolved('last', withDeviation(y), { padding: 1 });
  const [batch, channels] = last.shape as Pair;
  const flat = reshape(last, [batch, channels * LAST ** 2]);
  const hidden = leakyRelu(linear(flat, scaled('hidden', 2), p('hidden.bias')));
  return reshape(linear(hidden, scaled('output', 1), p('output.bias')), [batch, 1, 1, 1]);
}

/**
 * One more channel: how much images next to each other differ, the mean over channels and places of the deviation over each group of up
 * to four. [B, C, H, W] -> [B, C + 1, H, W].
 */
function withDeviation(x: Value): Value {
  const [batch, channels, height, width] = x.shape as number[];
  const members = [...Array(GROUP).keys()]
    .map((i) => GROUP - i)
    .find((count) => batch % count === 0) as number;
  const groups = batch / members;
  const each = channels * height * width;
  const values = reshape(x, [groups, members, each]);
  const centred = sub(values, mul(sum(values, [1]), 1 / members));
  const variance = mul(sum(mul(centred, centred), [1]), 1 / members); // [groups, 1, each]
  const deviation = mean(sqrt(add(variance, TINY)), -1); // [groups, 1, 1]
  const channel = broadcastTo(reshape(deviation, [groups, 1, 1, 1, 1]), [groups, members, 1, height, width]);
  return concat([x, reshape(channel, [batch, 1, height, width])], 1);
}
