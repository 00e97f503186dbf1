import { requirePictureSide, strideOf } from '@detailflow/blocks';
import {
  type Backend,
  type CallOptions,
  checkOptions,
  DetailFlowError,
  decodeInSlices,
  describe,
  type ImageTokenizer,
  LazyExecutable,
  requireTensor,
  resizeImages,
  Tensor,
  validateWeights,
  type Weights,
} from '@detailflow/core';
import { gridOf, ignoredVqWeights, type VqConfig, vqParameters } from './vq-config';
import { type Grid, vqDecoderGraph, vqEncoderGraph } from './vq-graphs';

/** What a VQ tokenizer is made of. */
export interface VqTokenizerOptions {
  readonly config: VqConfig;
  readonly weights: Weights;
  readonly backend: Backend;
  /** Where the weights come from, for messages. */
  readonly file?: string;
  /** Place in the picture, row by row, of each token, where they are drawn in another order (PAR). */
  readonly order?: Int32Array;
}

/** Loads a VQ tokenizer. Encoder and decoder are compiled for a size of images when they are first used with it. */
export function createVqTokenizer(options: VqTokenizerOptions): VqTokenizer {
  return new VqTokenizer(options);
}

/**
 * The convolutional VQ tokenizer of LlamaGen and PAR. A code stands for a square of pixels; codes lie in rows, or in the
 * order that was given. Source: docs/family/llamagen.md section 1.
 */
export class VqTokenizer implements ImageTokenizer {
  readonly previews = 'rows';
  readonly config: VqConfig;
  readonly #backend: Backend;
  readonly #weights: Weights;
  readonly #order: Int32Array | undefined;
  readonly #executables = new Map<string, LazyExecutable>();

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration */
  constructor(options: VqTokenizerOptions) {
    checkOptions('createVqTokenizer', options, {
      ...{ config: true, weights: true, backend: true, file: true, order: true },
    });
    const { config, weights, backend, file, order } = options;
    validateWeights(weights, vqParameters(config), { file, ignore: ignoredVqWeights });
    this.config = config;
    this.#backend = backend;
    this.#weights = weights;
    this.#order = order;
    if (order && order.length !== this.tokens) {
      throw new DetailFlowError(
        'invalid-argument',
        `the order is of ${order.length} tokens, a code has ${this.tokens}`,
      );
    }
  }

  get tokens(): number {
    return gridOf(this.config) ** 2;
  }

  get imageSize(): number {
    return this.config.imageSize;
  }

  get codebookSize(): number {
    return this.config.codebookSize;
  }

  /** Always the full size: a preview shows the rows so far. */
  resolution(_tokens: number): number {
    return this.imageSize;
  }

  /**
   * Images float32 [B, 3, H, W] in [-1, 1] -> codes int32 [B, n]. Any sides that are multiples of a code's square; in row
   * order unless they are the full size and the tokenizer has another order.
   */
  async encode(
    images: Tensor<'float32'>,
    options: CallOptions & { tokens?: number } = {},
  ): Promise<Tensor<'int32'>> {
    checkOptions('encode', options, { signal: true, tokens: true });
    const { signal, tokens } = options;
    signal?.throwIfAborted();
    const stride = strideOf(this.config.encoder);
    const must = `float32 [B, 3, H, W], B from 1, H and W multiples of ${stride}`;
    requireTensor(images, { what: 'images', must, type: 'float32', axes: 4 });
    const [batch, channels, height, width] = images.dims;
    const isMultiple = (side: number) => Number.isInteger(side / stride) && side > 0;
    if (batch < 1 || channels !== 3 || ![height, width].every(isMultiple)) {
      throw new DetailFlowError('shape', `images are ${describe(images)}; give ${must}`);
    }
    const grid = { rows: height / stride, columns: width / stride };
    const count = tokens ?? grid.rows * grid.columns;
    if (!Number.isInteger(count) || count < 1 || count > grid.rows * grid.columns) {
      throw new DetailFlowError(
        'invalid-argument',
        `tokens is ${tokens}; give 1 to ${grid.rows * grid.columns}`,
      );
    }
    const executable = await this.#compiled('encoder', grid);
    const { codes } = await executable.run({ images }, { signal });
    const order = this.#isFull(grid) ? this.#order : undefined;
    const rows = codes.data as Int32Array;
    const n = codes.dims[1];
    const out = new Int32Array(batch * count);
    for (let b = 0; b < batch; b++) {
      for (let i = 0; i < count; i++) out[b * count + i] = rows[b * n + (order?.[i] ?? i)];
    }
    return new Tensor('int32', out, [batch, count]);
  }

  /**
   * Codes int32 [B, >= t] -> images float32 [B, 3, R, R], about [-1, 1]. Where fewer than all tokens are there, the rows
   * that are complete are drawn and the rest is grey; in another order than row by row, a place that is not known yet
   * shows its nearest known one. `size`: the picture is resized, bicubic as officially.
   */
  async decode(
    codes: Tensor<'int32'>,
    options: CallOptions & { tokens?: number; size?: number } = {},
  ): Promise<Tensor<'float32'>> {
    checkOptions('decode', options, { signal: true, tokens: true, size: true });
    const { signal, tokens, size } = options;
    signal?.throwIfAborted();
    const must = `int32 [B, 1 to ${this.tokens}]`;
    requireTensor(codes, { what: 'codes', must, type: 'int32', axes: 2 });
    requirePictureSide(size);
    const count = tokens ?? Math.min(codes.dims[1], this.tokens);
    this.#checkCodes(codes, count);
    const side = gridOf(this.config);
    const grid = { rows: side, columns: side };
    const pixels = await this.decodeGrid(this.#filled(codes, count), grid, { signal });
    if (!this.#order) blankFrom(pixels, Math.floor(count / side) * strideOf(this.config.decoder));
    return size === undefined || size === this.imageSize ? pixels : resized(pixels, size);
  }

  /** Codes int32 [B, rows columns] in row order -> images float32 [B, 3, rows f, columns f], of any grid. */
  async decodeGrid(
    codes: Tensor<'int32'>,
    grid: Grid,
    options: CallOptions = {},
  ): Promise<Tensor<'float32'>> {
    checkOptions('decodeGrid', options, { signal: true });
    const executable = await this.#compiled('decoder', grid);
    return decodeInSlices(executable, 'codes', codes, {}, options.signal);
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    for (const executable of this.#executables.values()) await executable.dispose();
  }

  /** Codes in row order of which the unknown ones repeat the nearest known one. */
  #filled(codes: Tensor<'int32'>, count: number): Tensor<'int32'> {
    const places = this.#order ?? Int32Array.from({ length: this.tokens }, (_, place) => place);
    const source = nearestKnown(places.subarray(0, count), this.tokens);
    const [batch, given] = codes.dims;
    const out = new Int32Array(batch * this.tokens);
    for (let b = 0; b < batch; b++) {
      for (let place = 0; place < this.tokens; place++) {
        out[b * this.tokens + place] = codes.data[b * given + source[place]];
      }
    }
    return new Tensor('int32', out, [batch, this.tokens]);
  }

  #checkCodes(codes: Tensor<'int32'>, count: number): void {
    const isShaped = codes.dims[0] > 0;
    if (!isShaped || !Number.isInteger(count) || count < 1 || count > codes.dims[1] || count > this.tokens) {
      throw new DetailFlowError(
        'invalid-argument',
        `codes are ${codes.type} [${codes.dims}] of which ${count} are to be drawn; give int32 [B, 1 to ${this.tokens}]`,
      );
    }
    const { codebookSize } = this.config;
    const wrong = codes.data.find((code) => code < 0 || code >= codebookSize);
    if (wrong !== undefined) {
      throw new DetailFlowError('invalid-argument', `the code ${wrong} is not in 0..${codebookSize - 1}`);
    }
  }

  #isFull({ rows, columns }: Grid): boolean {
    return rows === columns && rows === gridOf(this.config);
  }

  #compiled(kind: 'encoder' | 'decoder', grid: Grid): ReturnType<LazyExecutable['get']> {
    const key = `${kind} ${grid.rows} ${grid.columns}`;
    const make = kind === 'encoder' ? vqEncoderGraph : vqDecoderGraph;
    const found =
      this.#executables.get(key) ??
      new LazyExecutable(() => this.#backend.compile(make(this.config, grid), this.#weights));
    this.#executables.set(key, found);
    return found.get();
  }
}

/** For each place of a square grid the number of the nearest of the tokens whose places are known. */
function nearestKnown(known: Int32Array, places: number): Int32Array {
  const side = Math.sqrt(places);
  const at = new Map([...known].map((place, token) => [place, token]));
  return Int32Array.from({ length: places }, (_, place) => {
    const own = at.get(place);
    if (own !== undefined) return own;
    let [best, shortest] = [0, Number.POSITIVE_INFINITY];
    for (const [token, other] of known.entries()) {
      const rows = Math.floor(other / side) - Math.floor(place / side);
      const columns = (other % side) - (place % side);
      const distance = rows * rows + columns * columns;
      if (distance < shortest) [best, shortest] = [token, distance];
    }
    return best;
  });
}

/** Makes the rows of pixels from `row` on grey, in place. */
function blankFrom(pixels: Tensor<'float32'>, row: number): void {
  const [batch, channels, height, width] = pixels.dims;
  for (let plane = 0; plane < batch * channels; plane++) {
    const start = plane * height * width;
    pixels.data.fill(0, start + row * width, start + height * width);
  }
}

function resized(pixels: Tensor<'float32'>, size: number): Tensor<'float32'> {
  const [batch, channels] = pixels.dims;
  const data = resizeImages(pixels.data, pixels.dims, { height: size, width: size }, 'bicubic');
  return new Tensor('float32', data, [batch, channels, size, size]);
}
