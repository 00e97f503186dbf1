import {
  add,
  conv2d,
  div,
  maximum,
  maxPool2d,
  mul,
  type ParameterSpec,
  reshape,
  slice,
  sub,
  type Value,
} from '@detailflow/core';
import type { Parameters } from './parameters';
import { meanOverPlaces, unitChannels } from './perceptual-distance';

/** Output channels of the convolutions of VGG16, and the pools between (0). */
const plan = [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512];
/** The convolutions after whose ReLU features are taken: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3. */
const taken = new Set([2, 4, 7, 10, 13]);
/** Channels of the five features. */
const widths = [64, 128, 256, 512, 512];

interface Layer {
  /** Position in torchvision's `features`; convolutions, ReLUs and pools count. */
  readonly index: number;
  readonly from: number;
  readonly to: number;
}

const layers: readonly (Layer | 'pool')[] = (() => {
  const found: (Layer | 'pool')[] = [];
  let [index, from] = [0, 3];
  for (const to of plan) {
    found.push(to === 0 ? 'pool' : { index, from, to });
    index += to === 0 ? 1 : 2;
    from = to || from;
  }
  return found;
})();

/** Names and shapes of the convolutions in torchvision's vgg16 `.pth`. */
export function vggParameters(): ParameterSpec[] {
  return layers.flatMap((layer) =>
    layer === 'pool'
      ? []
      : [
          { name: `features.${layer.index}.weight`, shape: [layer.to, layer.from, 3, 3] },
          { name: `features.${layer.index}.bias`, shape: [layer.to] },
        ],
  );
}

/** Names and shapes of the heads of LPIPS, as its `vgg.pth` has them. */
export function lpipsParameters(): ParameterSpec[] {
  return widths.map((width, i) => ({ name: `lin${i}.model.1.weight`, shape: [1, width, 1, 1] }));
}

/**
 * Where an image smaller than its canvas lies, at the five sizes of the features: [1, 1, H, W], [1, 1, H/2, W/2], ...,
 * 1 inside and 0 outside. Features are then those of the image alone.
 */
export type VggMasks = readonly Value[];

/** Changes the squared differences [B, C, h, w] of a level before its head sums them up, such as dropout in training. */
export type LpipsDropout = (difference: Value, level: number) => Value;

/** Channels of the features. */
export const vggWidths: readonly number[] = widths;

/** Features there are, each half the size of the one before. */
export const vggLevels = widths.length;

/**
 * Features of VGG16 after relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.
 * @param x [B, 3, H, W], normalised as {@link lpips} does it
 * @returns [B, 64, H, W], [B, 128, H/2, W/2], ...
 */
export function vggFeatures(p: Parameters, x: Value, masks?: VggMasks): Value[] {
  const features: Value[] = [];
  let level = 0;
  const inside = (value: Value) => (masks ? mul(value, masks[level]) : value);
  let y = inside(x);
  let convolutions = 0;
  for (const layer of layers) {
    if (layer === 'pool') {
      level++;
      y = inside(maxPool2d(even(y), { kernel: 2 })); // a window may lie half inside
      continue;
    }
    const bias = reshape(p(`features.${layer.index}.bias`), [layer.to, 1, 1]);
    y = inside(maximum(add(conv2d(y, p(`features.${layer.index}.weight`), { padding: 1 }), bias), 0));
    if (taken.has(++convolutions)) features.push(y);
  }
  return features;
}

/** Without a last row or column that no window of a pool covers. */
function even(x: Value): Value {
  const [height, width] = x.shape.slice(2) as number[];
  const rows = height % 2 === 0 ? x : slice(x, 2, 0, height - 1);
  return width % 2 === 0 ? rows : slice(rows, 3, 0, width - 1);
}

const shift = [-0.03, -0.088, -0.188];
const scale = [0.458, 0.448, 0.45];

/**
 * LPIPS of pairs of images: how different they look to VGG16.
 * `x` and `y` are [B, 3, H, W] in [-1, 1].
 * @param dropout of the heads; none if omitted
 * @returns [B, 1, 1, 1]
 * Source: docs/method.md section 5.
 * @see https://detailflow.github.io/detailflow-ts/definitions/metrics.html
 */
export function lpips(
  p: Parameters,
  x: Value,
  y: Value,
  masks?: VggMasks,
  dropout: LpipsDropout = (difference) => difference,
): Value {
  const normalise = (image: Value) => {
    const channel = (values: number[]) => image.graph.constant(Float32Array.from(values), [3, 1, 1]);
    return div(sub(image, channel(shift)), channel(scale));
  };
  const [a, b] = [vggFeatures(p, normalise(x), masks), vggFeatures(p, normalise(y), masks)];
  return a
    .map((feature, i) => {
      const difference = sub(unitChannels(feature), unitChannels(b[i]));
      const squares = dropout(mul(difference, difference), i);
      const weighted = conv2d(squares, p(`lin${i}.model.1.weight`)); // [B, 1, h, w]
      return meanOverPlaces(weighted, masks?.[i]);
    })
    .reduce(add);
}
