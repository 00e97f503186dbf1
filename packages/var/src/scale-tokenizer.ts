import { requirePictureSide, strideOf } from '@detailflow/blocks';
import {
  type Backend,
  type CallOptions,
  checkOptions,
  DetailFlowError,
  decodeInSlices,
  describe,
  type Executable,
  type Graph,
  type ImageTokenizer,
  LazyExecutable,
  ofType,
  requireTensor,
  resizeImages,
  Tensor,
  validateWeights,
  type Weights,
} from '@detailflow/core';
import { plainDecoderGraph, residualDecoderGraph, scaleEncoderGraph } from './graphs';
import { places, placesOf, requireGrowing, type Scale, scaleStarts } from './scales';
import {
  ignoredScaleTokenizerWeights,
  type ScaleTokenizerConfig,
  scaleTokenizerParameters,
} from './var-tokenizer-config';

/** What a multi-scale tokenizer is made of. */
export interface ScaleTokenizerOptions {
  readonly config: ScaleTokenizerConfig;
  /** Of VAR under `renamedVarWeights`. */
  readonly weights: Weights;
  readonly backend: Backend;
  /** Where the weights come from, for messages. */
  readonly file?: string;
}

/** Loads a multi-scale tokenizer. Its parts are compiled when they are first used. */
export function createScaleTokenizer(options: ScaleTokenizerOptions): ScaleTokenizer {
  return new ScaleTokenizer(options);
}

/**
 * The tokenizers of VAR and FlexVAR: a code is a list of maps, coarse to fine, each in row order. A preview is the picture of
 * the scales so far. Source: docs/family/var.md sections 1 and 5.
 */
export class ScaleTokenizer implements ImageTokenizer {
  readonly previews = 'scales';
  readonly config: ScaleTokenizerConfig;
  readonly #backend: Backend;
  readonly #weights: Weights;
  readonly #executables = new Map<string, LazyExecutable>();

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration, `config` for scales that cannot be coded */
  constructor(options: ScaleTokenizerOptions) {
    checkOptions('createScaleTokenizer', options, { config: true, weights: true, backend: true, file: true });
    const { config, weights, backend, file } = options;
    validateWeights(weights, scaleTokenizerParameters(config), {
      file,
      ignore: ignoredScaleTokenizerWeights,
    });
    if (config.coding === 'residual') requireGrowing(config.scales, file);
    this.config = config;
    this.#backend = backend;
    this.#weights = weights;
  }

  /** The same tokenizer for another list of scales, compiled apart. */
  withScales(scales: readonly Scale[]): ScaleTokenizer {
    return new ScaleTokenizer({
      config: { ...this.config, scales },
      weights: this.#weights,
      backend: this.#backend,
    });
  }

  get tokens(): number {
    return placesOf(this.config.scales);
  }

  /** Height of a full image. */
  get imageSize(): number {
    const { scales, encoder } = this.config;
    return scales[scales.length - 1].rows * strideOf(encoder);
  }

  get codebookSize(): number {
    return this.config.codebookSize;
  }

  /** Residual coding draws every preview at full size, plain coding each scale at its own. */
  resolution(tokens: number): number {
    if (this.config.coding === 'residual') return this.imageSize;
    return this.config.scales[this.#complete(tokens)].rows * strideOf(this.config.encoder);
  }

  /** Width of such a picture, in pixels. */
  width(tokens: number): number {
    const { coding, scales, encoder } = this.config;
    const k = coding === 'residual' ? scales.length - 1 : this.#complete(tokens);
    return scales[k].columns * strideOf(encoder);
  }

  /** Images float32 [B, 3, h, w] in [-1, 1] of the full size -> codes int32 [B, L], or those of the first scales. */
  async encode(
    images: Tensor<'float32'>,
    options: CallOptions & { tokens?: number } = {},
  ): Promise<Tensor<'int32'>> {
    checkOptions('encode', options, { signal: true, tokens: true });
    const { signal, tokens } = options;
    signal?.throwIfAborted();
    const { scales, encoder } = this.config;
    const last = scales[scales.length - 1];
    const sides = [last.rows, last.columns].map((side) => side * strideOf(encoder));
    const must = `float32 [B, 3, ${sides.join(', ')}], B from 1`;
    requireTensor(images, { what: 'images', must, type: 'float32', axes: 4 });
    if (images.dims[0] < 1 || images.dims.slice(1).join() !== [3, ...sides].join()) {
      throw new DetailFlowError('shape', `images are ${describe(images)}; give ${must}`);
    }
    const executable = await this.#compiled('encoder', () => scaleEncoderGraph(this.config));
    const codes = ofType((await executable.run({ images }, { signal })).codes, 'int32');
    if (tokens === undefined) return codes;
    return firstColumns(codes, this.#end(this.#complete(tokens)));
  }

  /**
   * Codes int32 [B, >= t] -> images float32 [B, 3, R, R] of the scales that are complete. `size` resizes the picture,
   * bicubic.
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
    const k = this.#complete(count);
    const pixels =
      this.config.coding === 'residual'
        ? await this.#decodeSum(codes, k, signal)
        : await this.#decodeScale(codes, k, signal);
    if (size === undefined || size === pixels.dims[2]) return pixels;
    const [batch, channels, height, width] = pixels.dims;
    const to = { height: size, width: Math.round((size * width) / height) };
    const data = resizeImages(pixels.data, pixels.dims, to, 'bicubic');
    return new Tensor('float32', data, [batch, channels, to.height, to.width]);
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    for (const executable of this.#executables.values()) await executable.dispose();
  }

  async #decodeSum(codes: Tensor<'int32'>, k: number, signal?: AbortSignal): Promise<Tensor<'float32'>> {
    const { scales } = this.config;
    const [batch, given] = codes.dims;
    const all = new Int32Array(batch * this.tokens);
    const end = this.#end(k);
    for (let b = 0; b < batch; b++) {
      all.set(codes.data.subarray(b * given, b * given + end), b * this.tokens);
    }
    const executable = await this.#compiled('decoder', () => residualDecoderGraph(this.config));
    const counts = Float32Array.from(scales, (_, i) => Number(i <= k));
    const known = new Tensor('int32', all, [batch, this.tokens]);
    const feeds = { counts: new Tensor('float32', counts, [scales.length]) };
    return decodeInSlices(executable, 'codes', known, feeds, signal);
  }

  async #decodeScale(codes: Tensor<'int32'>, k: number, signal?: AbortSignal): Promise<Tensor<'float32'>> {
    const scale = this.config.scales[k];
    const [batch, given] = codes.dims;
    const [start, count] = [scaleStarts(this.config.scales)[k], places(scale)];
    const own = new Int32Array(batch * count);
    for (let b = 0; b < batch; b++) {
      own.set(codes.data.subarray(b * given + start, b * given + start + count), b * count);
    }
    const key = `decoder ${scale.rows} ${scale.columns}`;
    const executable = await this.#compiled(key, () => plainDecoderGraph(this.config, scale));
    const tokens = new Tensor('int32', own, [batch, count]);
    return decodeInSlices(executable, 'codes', tokens, {}, signal);
  }

  /** The last scale that so many tokens complete. */
  #complete(tokens: number): number {
    const starts = scaleStarts(this.config.scales);
    const k = this.config.scales.findLastIndex((scale, i) => starts[i] + places(scale) <= tokens);
    if (k >= 0) return k;
    throw new DetailFlowError(
      'invalid-argument',
      `${tokens} tokens complete no scale; the first one has ${places(this.config.scales[0])}`,
    );
  }

  #end(k: number): number {
    return scaleStarts(this.config.scales)[k] + places(this.config.scales[k]);
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

  #compiled(key: string, graph: () => Graph): Promise<Executable> {
    const found =
      this.#executables.get(key) ?? new LazyExecutable(() => this.#backend.compile(graph(), this.#weights));
    this.#executables.set(key, found);
    return found.get();
  }
}

function firstColumns({ data, dims: [batch, width] }: Tensor<'int32'>, count: number): Tensor<'int32'> {
  const out = new Int32Array(batch * count);
  for (let b = 0; b < batch; b++) {
    out.set(data.subarray(b * width, b * width + count), b * count);
  }
  return new Tensor('int32', out, [batch, count]);
}
