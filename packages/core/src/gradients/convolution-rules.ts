import { multiplyDims } from '../dim';
import { DetailFlowError } from '../errors';
import type { Value } from '../graph';
import { type ConvAttrs, conv2d, type Padding, type Pair, type PoolAttrs } from '../ops/convolution';
import { div, less, mul, select } from '../ops/elementwise';
import { gather } from '../ops/indexing';
import { broadcastTo, concat, reshape, slice, transpose } from '../ops/layout';
import { sum } from '../ops/reduce';
import type { GradientRule, Usage } from './rule';
import { zeros } from './unbroadcast';

/** Both are convolutions: of the spread gradient with the turned kernel, and of the input with the gradient. */
const conv2dRule: GradientRule = ({ inputs: [x, kernel], attrs, upstream }) => {
  const { stride, padding, dilation } = attrs as ConvAttrs;
  const [, , rows, columns] = kernel.shape as number[];
  const [height, width] = x.shape.slice(2) as number[];
  const reach = [dilation[0] * (rows - 1), dilation[1] * (columns - 1)];
  const spread = spreadOut(upstream, stride);
  const [spreadHeight, spreadWidth] = spread.shape.slice(2) as number[];
  const [top, left] = [reach[0] - padding[0], reach[1] - padding[1]];
  const margins: Padding = [
    top,
    left,
    height + reach[0] - spreadHeight - top,
    width + reach[1] - spreadWidth - left,
  ];
  const dx = conv2d(cropped(spread, margins), transpose(turned(kernel), [1, 0, 2, 3]), {
    dilation,
    padding: margins.map((side) => Math.max(0, side)) as unknown as Padding,
  });

  const bottom = reach[0] + spreadHeight - height - padding[0];
  const right = reach[1] + spreadWidth - width - padding[1];
  const products = conv2d(transpose(x, [1, 0, 2, 3]), transpose(upstream, [1, 0, 2, 3]), {
    stride: dilation,
    dilation: stride,
    padding: [padding[0], padding[1], Math.max(0, bottom), Math.max(0, right)],
  }); // [C, O, >= rows, >= columns]
  const dKernel = slice(slice(products, 2, 0, rows), 3, 0, columns);
  return [dx, transpose(dKernel, [1, 0, 2, 3])];
};

/** Zeros between the samples: [B, C, H, W] -> [B, C, (H-1) s + 1, (W-1) s + 1]. */
function spreadOut(x: Value, [down, across]: Pair): Value {
  if (down === 1 && across === 1) return x;
  const [batch, channels] = x.shape;
  const [height, width] = x.shape.slice(2) as number[];
  let out = reshape(x, [batch, channels, height, 1, width, 1]);
  if (across > 1) out = concat([out, zeros(out, [batch, channels, height, 1, width, across - 1])], 5);
  if (down > 1) out = concat([out, zeros(out, [batch, channels, height, down - 1, width, across])], 3);
  const even = reshape(out, [batch, channels, height * down, width * across]);
  return slice(slice(even, 2, 0, (height - 1) * down + 1), 3, 0, (width - 1) * across + 1);
}

/** Without the rows and columns that negative margins cut off. */
function cropped(x: Value, [top, left, bottom, right]: Padding): Value {
  const [height, width] = x.shape.slice(2) as number[];
  const cut = (value: Value, axis: number, extent: number, from: number, to: number) =>
    from < 0 || to < 0 ? slice(value, axis, Math.max(0, -from), extent - Math.max(0, -to)) : value;
  return cut(cut(x, 2, height, top, bottom), 3, width, left, right);
}

/** A kernel turned by half a circle. */
function turned(kernel: Value): Value {
  const [outputs, channels, rows, columns] = kernel.shape;
  const count = (rows as number) * (columns as number);
  if (count === 1) return kernel;
  const backwards = kernel.graph.constant(
    Int32Array.from({ length: count }, (_, i) => count - 1 - i),
    [count],
    'i32',
  );
  const samples = transpose(reshape(kernel, [multiplyDims(outputs, channels), count]), [1, 0]);
  return reshape(transpose(gather(samples, backwards), [1, 0]), kernel.shape);
}

/** Every sample beside the result of its window: x as [B, C, H', h, W', w], others as [B, C, H', 1, W', 1]. */
function byWindow(name: string, { inputs: [x], output, attrs }: Usage) {
  const { kernel, stride, padding } = attrs as PoolAttrs;
  const [batch, channels] = x.shape;
  const [height, width] = x.shape.slice(2) as number[];
  const [rows, columns] = output.shape.slice(2) as number[];
  if (
    kernel.join() !== stride.join() ||
    padding.some((side) => side > 0) ||
    rows * kernel[0] !== height ||
    columns * kernel[1] !== width
  ) {
    throw new DetailFlowError(
      'unsupported',
      `the gradient of ${name}: windows must lie side by side and cover the input`,
    );
  }
  const shape = [batch, channels, rows, kernel[0], columns, kernel[1]];
  const each = (value: Value) => reshape(value, [batch, channels, rows, 1, columns, 1]);
  return { shape, samples: reshape(x, shape), each, count: kernel[0] * kernel[1] };
}

export const convolutionRules: Readonly<Record<string, GradientRule>> = {
  conv2d: conv2dRule,
  /** Equal maxima share it. */
  maxPool2d: (usage) => {
    const { samples, each } = byWindow('maxPool2d', usage);
    const hit = select(less(samples, each(usage.output)), 0, 1);
    const share = div(each(usage.upstream), sum(hit, [3, 5]));
    return [reshape(mul(hit, share), usage.inputs[0].shape)];
  },
  averagePool2d: (usage) => {
    const { shape, each, count } = byWindow('averagePool2d', usage);
    const share = broadcastTo(each(mul(usage.upstream, 1 / count)), shape);
    return [reshape(share, usage.inputs[0].shape)];
  },
};
