import {
  add,
  conv2d,
  linear,
  maximum,
  maxPool2d,
  mul,
  type ParameterSpec,
  reshape,
  sub,
  sum,
  type Value,
} from '@detailflow/core';
import type { Parameters } from './parameters';
import { meanOverPlaces, unitChannels } from './perceptual-distance';

/** A small convolutional network that tells classes apart. */
export interface ClassifierConfig {
  /** Side of the images, a multiple of 8. */
  readonly imageSize: number;
  readonly classes: number;
  /** Channels of the three stages. */
  readonly widths: readonly [number, number, number];
  /** Width of the features before the last layer. */
  readonly features: number;
}

/** Names and shapes of the weights. */
export function classifierParameters(config: ClassifierConfig): ParameterSpec[] {
  const { widths, features, classes } = config;
  const convolutions = widths.flatMap((to, i) => {
    const from = i === 0 ? 3 : widths[i - 1];
    return [
      { name: `stages.${i}.first.weight`, shape: [to, from, 3, 3] },
      { name: `stages.${i}.first.bias`, shape: [to] },
      { name: `stages.${i}.second.weight`, shape: [to, to, 3, 3] },
      { name: `stages.${i}.second.bias`, shape: [to] },
    ];
  });
  return [
    ...convolutions,
    { name: 'hidden.weight', shape: [features, widths[2] * placesAfter(config) ** 2] },
    { name: 'hidden.bias', shape: [features] },
    { name: 'output.weight', shape: [classes, features] },
    { name: 'output.bias', shape: [classes] },
  ];
}

const placesAfter = ({ imageSize }: ClassifierConfig) => imageSize / 8;

/** Feature maps of a classifier, each half the size of the one before. */
export const classifierLevels = 3;

/**
 * What the three stages of the classifier see, before their pools.
 * @param x [B, 3, S, S] in [-1, 1], S a multiple of 4 and otherwise free
 * @param masks [1, 1, S, S], [1, 1, S/2, S/2], [1, 1, S/4, S/4], 1 where an image smaller than its canvas lies, 0 outside:
 *   features are then those of the image alone
 * @returns [B, widths[0], S, S], [B, widths[1], S/2, S/2], [B, widths[2], S/4, S/4]
 */
export function classifierStages(
  p: Parameters,
  { widths }: Pick<ClassifierConfig, 'widths'>,
  x: Value,
  masks?: readonly Value[],
): Value[] {
  const stages: Value[] = [];
  for (const [i, width] of widths.entries()) {
    const inside = (value: Value) => (masks ? mul(value, masks[i]) : value);
    const convolution = (value: Value, name: string) => {
      const bias = reshape(p(`stages.${i}.${name}.bias`), [width, 1, 1]);
      return add(conv2d(value, p(`stages.${i}.${name}.weight`), { padding: 1 }), bias);
    };
    const seen = inside(i === 0 ? x : maxPool2d(stages[i - 1], { kernel: 2 }));
    const first = inside(maximum(convolution(seen, 'first'), 0));
    stages.push(inside(maximum(add(first, convolution(first, 'second')), 0)));
  }
  return stages;
}

/**
 * Three stages of two convolutions (the second beside a shortcut) and a pool, a hidden layer, and the classes.
 * @param x [B, 3, S, S] in [-1, 1]
 * @param dropout what happens to the features in training
 * @returns features [B, F] after their ReLU, logits [B, classes]
 */
export function classifier(
  p: Parameters,
  config: ClassifierConfig,
  x: Value,
  dropout: (features: Value) => Value = (features) => features,
): { features: Value; logits: Value } {
  const last = classifierStages(p, config, x)[2];
  const flat = reshape(maxPool2d(last, { kernel: 2 }), [
    x.shape[0],
    config.widths[2] * placesAfter(config) ** 2,
  ]);
  const features = maximum(linear(flat, p('hidden.weight'), p('hidden.bias')), 0);
  return { features, logits: linear(dropout(features), p('output.weight'), p('output.bias')) };
}

/**
 * How different two images look to a classifier: squared differences of the features of its stages, each divided by
 * their norm over channels as LPIPS does it, summed over channels, averaged over places, averaged over stages.
 * `x`, `y`: [B, 3, S, S] in [-1, 1].
 * @param masks as {@link classifierStages} takes them
 * @returns [B, 1, 1, 1], from 0 to 2
 */
export function classifierDistance(
  p: Parameters,
  config: Pick<ClassifierConfig, 'widths'>,
  x: Value,
  y: Value,
  masks?: readonly Value[],
): Value {
  const [a, b] = [classifierStages(p, config, x, masks), classifierStages(p, config, y, masks)];
  const distances = a.map((feature, i) => {
    const difference = sub(unitChannels(feature), unitChannels(b[i]));
    return meanOverPlaces(sum(mul(difference, difference), [1]), masks?.[i]);
  });
  return mul(distances.reduce(add), 1 / distances.length);
}
