import {
  add,
  conv2d,
  mul,
  type ParameterSpec,
  reshape,
  standardise,
  transpose,
  type Value,
} from '@detailflow/core';
import { leakyRelu } from './leaky-relu';
import type { Parameters } from './parameters';

/** A PatchGAN discriminator: it judges overlapping patches of an image. */
export interface PatchDiscriminatorConfig {
  /** Channels of the first convolution; default 64. */
  readonly width?: number;
  /** Convolutions that halve the image; default 3, for patches of 70 pixels. */
  readonly layers?: number;
  /**
   * `image` (default): inner layers are normalised image by image; `batch`: channel by channel over a batch, as in the official
   * training, where convolutions before a norm have no bias.
   */
  readonly norm?: 'image' | 'batch';
}

const KERNEL = 4;

/** Channels and strides of the convolutions. */
function plan({ width = 64, layers = 3 }: PatchDiscriminatorConfig) {
  const channels = (i: number) => width * Math.min(2 ** i, 8);
  const halving = Array.from({ length: layers }, (_, i) => ({
    from: i === 0 ? 3 : channels(i - 1),
    to: channels(i),
    stride: 2,
  }));
  return [
    ...halving,
    { from: channels(layers - 1), to: channels(layers), stride: 1 },
    { from: channels(layers), to: 1, stride: 1 },
  ];
}

/** Names and shapes of the weights. */
export function patchDiscriminatorParameters(config: PatchDiscriminatorConfig): ParameterSpec[] {
  return plan(config).flatMap(({ from, to }, i, all) => {
    const isInner = i > 0 && i < all.length - 1;
    return [
      { name: `main.${i}.weight`, shape: [to, from, KERNEL, KERNEL] },
      ...(isInner && config.norm === 'batch' ? [] : [{ name: `main.${i}.bias`, shape: [to] }]),
      ...(isInner
        ? [
            { name: `main.${i}.norm.weight`, shape: [to] },
            { name: `main.${i}.norm.bias`, shape: [to] },
          ]
        : []),
    ];
  });
}

/**
 * Judgements of patches, high for real ones. Normalised image by image the judgement of one image does not depend
 * on the others of its batch.
 * @param x [B, 3, H, W] in [-1, 1]
 * @returns [B, 1, h, w]
 * Source: Isola et al., "Image-to-image translation with conditional adversarial networks", 2017.
 */
export function patchDiscriminator(p: Parameters, config: PatchDiscriminatorConfig, x: Value): Value {
  const layers = plan(config);
  return layers.reduce((y, { to, stride }, i) => {
    const channel = (name: string) => reshape(p(`main.${i}.${name}`), [to, 1, 1]);
    const isInner = i > 0 && i < layers.length - 1;
    const convolved = conv2d(y, p(`main.${i}.weight`), { stride, padding: 1 });
    const mapped = isInner && config.norm === 'batch' ? convolved : add(convolved, channel('bias'));
    if (i === layers.length - 1) return mapped;
    const normal = config.norm === 'batch' ? overBatch : normalised;
    const scaled = isInner ? add(mul(normal(mapped), channel('norm.weight')), channel('norm.bias')) : mapped;
    return leakyRelu(scaled);
  }, x);
}

/** Every channel to mean 0 and variance 1 over the images of a batch. */
function overBatch(x: Value): Value {
  const [batch, channels, height, width] = x.shape as number[];
  const byChannel = transpose(x, [1, 0, 2, 3]);
  const flat = standardise(reshape(byChannel, [channels, batch * height * width]), 1e-5);
  return transpose(reshape(flat, [channels, batch, height, width]), [1, 0, 2, 3]);
}

/** Every image to mean 0 and variance 1. */
function normalised(x: Value): Value {
  const [batch, ...rest] = x.shape as number[];
  return reshape(standardise(reshape(x, [batch, rest.reduce((a, b) => a * b, 1)]), 1e-5), x.shape);
}
