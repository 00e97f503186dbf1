import { checkOptions } from '../check-options';
import { formatShape } from '../dim';
import { DetailFlowError } from '../errors';
import type { Value } from '../graph';
import { type OpDefinition, requireDType } from '../op';

/** Rows and columns added at the top, left, bottom and right. */
export type Padding = readonly [number, number, number, number];
/** Of rows and of columns. */
export type Pair = readonly [number, number];

/** Stride, dilation, padding and groups of a convolution over [B, C, H, W]. */
export interface ConvOptions {
  /** Steps between windows; default 1. */
  readonly stride?: number | Pair;
  /** Zeros around the input, on all sides or each; default 0. */
  readonly padding?: number | Padding;
  /** Steps between the samples of a window; default 1. */
  readonly dilation?: number | Pair;
}

export type ConvAttrs = { readonly stride: Pair; readonly padding: Padding; readonly dilation: Pair };

export const conv2dOp: OpDefinition<ConvAttrs> = {
  name: 'conv2d',
  infer([x, weight], { stride, padding, dilation }) {
    requireDType('conv2d', x, 'f32');
    requireDType('conv2d', weight, 'f32');
    const [height, width] = imageSides('conv2d', x);
    const [outputs, channels, rows, columns] = weight.shape;
    if (weight.shape.length !== 4 || typeof rows !== 'number' || typeof columns !== 'number') {
      throw new DetailFlowError(
        'shape',
        `conv2d: a kernel of shape ${formatShape(weight.shape)}; give [O, C, h, w]`,
      );
    }
    if (x.shape[1] !== channels) {
      throw new DetailFlowError('shape', `conv2d: ${x.shape[1]} channels, the kernel has ${channels}`);
    }
    const sides = [
      windows('conv2d', height + padding[0] + padding[2], dilation[0] * (rows - 1) + 1, stride[0]),
      windows('conv2d', width + padding[1] + padding[3], dilation[1] * (columns - 1) + 1, stride[1]),
    ];
    return { shape: [x.shape[0], outputs, ...sides], dtype: 'f32' };
  },
  evaluate([x, weight], { stride, padding, dilation }, { shape }) {
    const [, channels, height, width] = x.shape;
    const [, , rows, columns] = weight.shape;
    const [batch, outputs, outHeight, outWidth] = shape;
    const out = new Float64Array(batch * outputs * outHeight * outWidth);
    let at = 0;
    for (let b = 0; b < batch; b++)
      for (let o = 0; o < outputs; o++)
        for (let y = 0; y < outHeight; y++)
          for (let z = 0; z < outWidth; z++, at++) {
            for (let i = 0; i < rows; i++) {
              const row = y * stride[0] + i * dilation[0] - padding[0];
              if (row < 0 || row >= height) continue;
              for (let j = 0; j < columns; j++) {
                const column = z * stride[1] + j * dilation[1] - padding[1];
                if (column < 0 || column >= width) continue;
                for (let c = 0; c < channels; c++) {
                  out[at] +=
                    x.data[((b * channels + c) * height + row) * width + column] *
                    weight.data[((o * channels + c) * rows + i) * columns + j];
                }
              }
            }
          }
    return out;
  },
};

/**
 * Convolution (correlation, as everywhere in the field): x [B, C, H, W], kernel [O, C, h, w], result
 * [B, O, H', W'] with H' = floor((H + padding - dilation (h - 1) - 1) / stride) + 1.
 */
export function conv2d(x: Value, kernel: Value, options: ConvOptions = {}): Value {
  checkOptions('conv2d', options, { stride: true, padding: true, dilation: true });
  const { stride = 1, padding = 0, dilation = 1 } = options;
  const attrs: ConvAttrs = { stride: pair(stride), padding: sides(padding), dilation: pair(dilation) };
  return x.graph.emit(conv2dOp, [x, kernel], attrs);
}

/** Window, stride and padding of a pooling over [B, C, H, W]. */
export interface PoolOptions {
  /** Sides of a window. */
  readonly kernel: number | Pair;
  /** Steps between windows; default: the sides of one. */
  readonly stride?: number | Pair;
  /** Rows and columns around the input that count as nothing; default 0. */
  readonly padding?: number | Padding;
}

export type PoolAttrs = { readonly kernel: Pair; readonly stride: Pair; readonly padding: Padding };

/** `finish` turns what was gathered over the samples of a window into the result. */
function pooling(
  name: string,
  initial: number,
  step: (sum: number, x: number) => number,
  finish: (sum: number, count: number) => number,
): OpDefinition<PoolAttrs> {
  return {
    name,
    infer([x], { kernel, stride, padding }) {
      requireDType(name, x, 'f32');
      const [height, width] = imageSides(name, x);
      if (padding.some((side, i) => side >= kernel[i % 2])) {
        throw new DetailFlowError('shape', `${name}: the padding [${padding}] leaves windows of nothing`);
      }
      const extents = [
        windows(name, height + padding[0] + padding[2], kernel[0], stride[0]),
        windows(name, width + padding[1] + padding[3], kernel[1], stride[1]),
      ];
      return { shape: [x.shape[0], x.shape[1], ...extents], dtype: 'f32' };
    },
    evaluate([x], { kernel, stride, padding }, { shape }) {
      const [, , height, width] = x.shape;
      const [batch, channels, outHeight, outWidth] = shape;
      const out = new Float64Array(batch * channels * outHeight * outWidth);
      let at = 0;
      for (let plane = 0; plane < batch * channels; plane++)
        for (let y = 0; y < outHeight; y++)
          for (let z = 0; z < outWidth; z++, at++) {
            const [top, left] = [y * stride[0] - padding[0], z * stride[1] - padding[1]];
            let gathered = initial;
            let count = 0;
            for (let row = Math.max(0, top); row < Math.min(height, top + kernel[0]); row++)
              for (let column = Math.max(0, left); column < Math.min(width, left + kernel[1]); column++) {
                gathered = step(gathered, x.data[(plane * height + row) * width + column]);
                count++;
              }
            out[at] = finish(gathered, count);
          }
      return out;
    },
  };
}

export const maxPool2dOp = pooling('maxPool2d', Number.NEGATIVE_INFINITY, Math.max, (largest) => largest);
export const averagePool2dOp = pooling(
  'averagePool2d',
  0,
  (sum, x) => sum + x,
  (sum, count) => sum / count,
);

/** Largest value of every window: [B, C, H, W] -> [B, C, H', W']. Differentiable where windows do not overlap. */
export const maxPool2d = (x: Value, options: PoolOptions): Value =>
  x.graph.emit(maxPool2dOp, [x], poolAttrs(options));

/**
 * Mean of every window over the samples that are there; padding does not count. Differentiable where windows do not
 * overlap.
 */
export const averagePool2d = (x: Value, options: PoolOptions): Value =>
  x.graph.emit(averagePool2dOp, [x], poolAttrs(options));

function poolAttrs(options: PoolOptions): PoolAttrs {
  checkOptions('pool2d', options, { kernel: true, stride: true, padding: true });
  const { kernel, stride = kernel, padding = 0 } = options;
  return { kernel: pair(kernel), stride: pair(stride), padding: sides(padding) };
}

const pair = (x: number | Pair): Pair => (typeof x === 'number' ? [x, x] : x);
const sides = (x: number | Padding): Padding => (typeof x === 'number' ? [x, x, x, x] : x);

function imageSides(name: string, x: Value): [number, number] {
  const [, , height, width] = x.shape;
  if (x.shape.length === 4 && typeof height === 'number' && typeof width === 'number') return [height, width];
  throw new DetailFlowError(
    'shape',
    `${name}: an input of shape ${formatShape(x.shape)}; give [B, C, H, W] with H and W known`,
  );
}

/** How many windows of a size fit. */
function windows(name: string, extent: number, size: number, stride: number): number {
  if (extent >= size) return Math.floor((extent - size) / stride) + 1;
  throw new DetailFlowError('shape', `${name}: a window of ${size} does not fit into ${extent}`);
}
