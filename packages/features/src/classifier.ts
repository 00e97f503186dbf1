import {
  add,
  conv2d,
  linear,
  maximum,
  maxPool2d,
  type ParameterSpec,
  reshape,
  type Value,
} from '@detailflow/core';
import type { Parameters } from './parameters';

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
  let y = x;
  for (const [i, width] of config.widths.entries()) {
    const convolution = (value: Value, name: string) => {
      const bias = reshape(p(`stages.${i}.${name}.bias`), [width, 1, 1]);
      return add(conv2d(value, p(`stages.${i}.${name}.weight`), { padding: 1 }), bias);
    };
    const first = maximum(convolution(y, 'first'), 0);
    y = maxPool2d(maximum(add(first, convolution(first, 'second')), 0), { kernel: 2 });
  }
  const flat = reshape(y, [x.shape[0], config.widths[2] * placesAfter(config) ** 2]);
  const features = maximum(linear(flat, p('hidden.weight'), p('hidden.bias')), 0);
  return { features, logits: linear(dropout(features), p('output.weight'), p('output.bias')) };
}
