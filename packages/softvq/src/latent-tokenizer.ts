import {
  type Backend,
  type CallOptions,
  checkOptions,
  DetailFlowError,
  decodeInSlices,
  type LatentTokenizer,
  LazyExecutable,
  ofType,
  requireTensor,
  Tensor,
  type Tensors,
  validateWeights,
  type WeightDType,
  type Weights,
} from '@detailflow/core';
import type { SoftVqConfig } from './config';
import { latentDecoderGraph, latentEncoderGraph } from './graphs';
import { ignoredSoftVqWeights, softVqParameters } from './parameters';

/** What a SoftVQ tokenizer is made of. */
export interface SoftVqTokenizerOptions {
  readonly config: SoftVqConfig;
  readonly weights: Weights;
  readonly backend: Backend;
  /** Where the weights come from, for messages. */
  readonly file?: string;
  /** How what the decoder learned is held, of a backend that can; the encoder's weights, which decide about codes, stay as they are. Default: as they are. */
  readonly dtype?: WeightDType;
}

/** Options of calls that hand out or take latents. */
export interface LatentOptions extends CallOptions {
  /** Latents as generators see them, minus their mean and divided by their deviation; default false: as they are decoded. */
  readonly standardised?: boolean;
}

/** Options of `encodeLatents`. */
export interface EncodeOptions extends LatentOptions {
  /** float32 [B, L, d], normal: draws latents of the kind `kl`. */
  readonly noise?: Tensor<'float32'>;
}

/** Loads a tokenizer of continuous latents. Encoder and decoder are compiled when they are first used. */
export function createSoftVqTokenizer(options: SoftVqTokenizerOptions): SoftVqTokenizer {
  return new SoftVqTokenizer(options);
}

/**
 * A one-dimensional tokenizer of SoftVQ-VAE or MAETok: images to latents float32 [B, L, d] and back. Latents have no order, so
 * a picture needs all of them. Source: docs/family/softvq.md.
 */
export class SoftVqTokenizer implements LatentTokenizer {
  readonly config: SoftVqConfig;
  readonly #encoder: LazyExecutable;
  readonly #decoder: LazyExecutable;

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration */
  constructor(options: SoftVqTokenizerOptions) {
    checkOptions('createSoftVqTokenizer', options, {
      config: true,
      weights: true,
      backend: true,
      file: true,
      dtype: true,
    });
    const { config, weights, backend, file, dtype } = options;
    validateWeights(weights, softVqParameters(config), { file, ignore: ignoredSoftVqWeights });
    this.config = config;
    this.#encoder = new LazyExecutable(() => backend.compile(latentEncoderGraph(config), weights));
    this.#decoder = new LazyExecutable(() => backend.compile(latentDecoderGraph(config), weights, { dtype }));
  }

  get tokens(): number {
    return this.config.tokens;
  }

  get imageSize(): number {
    return this.config.imageSize;
  }

  get latentDim(): number {
    return this.config.latentDim;
  }

  /**
   * Images float32 [B, 3, S, S] in [-1, 1] -> latents float32 [B, L, d], as they are decoded.
   * @param options.noise float32 [B, L, d], normal: draws latents of the kind `kl`; without it they are the means
   */
  async encodeLatents(images: Tensor<'float32'>, options: EncodeOptions = {}): Promise<Tensor<'float32'>> {
    checkOptions('encodeLatents', options, { signal: true, standardised: true, noise: true });
    const { signal, noise, standardised = false } = options;
    const found = await this.encodeAll(images, { signal });
    const latents = noise === undefined ? ofType(found.latents, 'float32') : this.#drawn(found, noise);
    const { latentMean, latentDeviation } = this.config;
    return standardised ? mapped(latents, (x) => (x - latentMean) / latentDeviation) : latents;
  }

  /** Latents float32 [B, L, d] -> images float32 [B, 3, S, S], about [-1, 1]. */
  async decodeLatents(latents: Tensor<'float32'>, options: LatentOptions = {}): Promise<Tensor<'float32'>> {
    checkOptions('decodeLatents', options, { signal: true, standardised: true });
    const { signal, standardised = false } = options;
    signal?.throwIfAborted();
    const given = this.#requireLatents('the latents', latents);
    const { latentMean, latentDeviation } = this.config;
    const plain = standardised ? mapped(given, (x) => x * latentDeviation + latentMean) : given;
    return decodeInSlices(await this.#decoder.get(), 'latents', plain, {}, signal);
  }

  /** Encodes and decodes: images float32 [B, 3, S, S] -> the same, about [-1, 1]. */
  async reconstruct(
    images: Tensor<'float32'>,
    options: Omit<EncodeOptions, 'standardised'> = {},
  ): Promise<Tensor<'float32'>> {
    checkOptions('reconstruct', options, { signal: true, noise: true });
    return this.decodeLatents(await this.encodeLatents(images, options), { signal: options.signal });
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#encoder.dispose();
    await this.#decoder.dispose();
  }

  /** @internal All outputs of the encoder. */
  protected async encodeAll(images: Tensor<'float32'>, { signal }: CallOptions): Promise<Tensors> {
    signal?.throwIfAborted();
    const { imageSize } = this.config;
    const must = `float32 [B, 3, ${imageSize}, ${imageSize}]: other sizes cannot be encoded`;
    requireTensor(images, { what: 'the images', must, type: 'float32', axes: 4 });
    const [batch, ...rest] = images.dims;
    if (batch === 0 || rest.join() !== [3, imageSize, imageSize].join()) {
      throw new DetailFlowError('shape', `the images are float32 [${images.dims}]; give ${must}`);
    }
    const encoder = await this.#encoder.get();
    return encoder.run({ images }, { signal });
  }

  #drawn({ latents, logVariance }: Tensors, noise: Tensor<'float32'>): Tensor<'float32'> {
    if (logVariance === undefined) {
      throw new DetailFlowError(
        'invalid-argument',
        `latents of the kind "${this.config.kind}" are not drawn: give no noise`,
      );
    }
    const draws = this.#requireLatents('the noise', noise).data;
    const means = ofType(latents, 'float32');
    if (noise.dims[0] !== means.dims[0]) {
      throw new DetailFlowError('shape', `there is noise for ${noise.dims[0]} images, not ${means.dims[0]}`);
    }
    const spread = ofType(logVariance, 'float32').data;
    return mapped(means, (mean, i) => mean + Math.exp(0.5 * spread[i]) * draws[i]);
  }

  #requireLatents(what: string, value: Tensor<'float32'>): Tensor<'float32'> {
    const { tokens, latentDim } = this.config;
    const must = `float32 [B, ${tokens}, ${latentDim}]`;
    const latents = requireTensor(value, { what, must, type: 'float32', axes: 3 });
    const [batch, ...rest] = latents.dims;
    if (batch === 0 || rest.join() !== [tokens, latentDim].join()) {
      throw new DetailFlowError('shape', `${what} are float32 [${latents.dims}]; give ${must}`);
    }
    return latents;
  }
}

function mapped(
  latents: Tensor<'float32'>,
  compute: (x: number, index: number) => number,
): Tensor<'float32'> {
  return new Tensor('float32', latents.data.map(compute), latents.dims);
}
