import {
  type Backend,
  type CallOptions,
  checkOptions,
  DetailFlowError,
  type LatentTokenizer,
  LazyExecutable,
  Tensor,
  validateWeights,
  type Weights,
} from '@detailflow/core';
import type { SoftVqConfig } from './config';
import { latentDecoderGraph, latentEncoderGraph } from './graphs';
import { ignoredSoftVqWeights, softVqParameters } from './parameters';

export interface SoftVqTokenizerOptions {
  readonly config: SoftVqConfig;
  readonly weights: Weights;
  readonly backend: Backend;
  /** Where the weights come from, for messages. */
  readonly file?: string;
}

/** Options of calls that hand out or take latents. */
export interface LatentOptions extends CallOptions {
  /** Latents as generators see them, minus their mean and divided by their deviation; default false: as they are decoded. */
  readonly standardised?: boolean;
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
    });
    const { config, weights, backend, file } = options;
    validateWeights(weights, softVqParameters(config), { file, ignore: ignoredSoftVqWeights });
    this.config = config;
    this.#encoder = new LazyExecutable(() => backend.compile(latentEncoderGraph(config), weights));
    this.#decoder = new LazyExecutable(() => backend.compile(latentDecoderGraph(config), weights));
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
  async encodeLatents(
    images: Tensor,
    options: LatentOptions & { readonly noise?: Tensor } = {},
  ): Promise<Tensor> {
    checkOptions('encodeLatents', options, { signal: true, standardised: true, noise: true });
    const { signal, noise, standardised = false } = options;
    const found = await this.encodeAll(images, { signal });
    const latents = noise === undefined ? found.latents : this.#drawn(found, noise);
    return standardised
      ? this.#mapped(latents, (x) => (x - this.config.latentMean) / this.config.latentDeviation)
      : latents;
  }

  /** Latents float32 [B, L, d] -> images float32 [B, 3, S, S], about [-1, 1]. */
  async decodeLatents(latents: Tensor, options: LatentOptions = {}): Promise<Tensor> {
    checkOptions('decodeLatents', options, { signal: true, standardised: true });
    const { signal, standardised = false } = options;
    signal?.throwIfAborted();
    this.#requireLatents('latents', latents);
    const { latentMean, latentDeviation } = this.config;
    const plain = standardised ? this.#mapped(latents, (x) => x * latentDeviation + latentMean) : latents;
    const decoder = await this.#decoder.get();
    const { pixels } = await decoder.run({ latents: plain }, { signal });
    return pixels;
  }

  /** Encodes and decodes: images float32 [B, 3, S, S] -> the same, about [-1, 1]. */
  async reconstruct(
    images: Tensor,
    options: CallOptions & { readonly noise?: Tensor } = {},
  ): Promise<Tensor> {
    checkOptions('reconstruct', options, { signal: true, noise: true });
    return this.decodeLatents(await this.encodeLatents(images, options), { signal: options.signal });
  }

  async dispose(): Promise<void> {
    await this.#encoder.dispose();
    await this.#decoder.dispose();
  }

  /** @internal All outputs of the encoder. */
  protected async encodeAll(
    images: Tensor,
    { signal }: CallOptions,
  ): Promise<Readonly<Record<string, Tensor>>> {
    signal?.throwIfAborted();
    const { imageSize } = this.config;
    const [batch, ...rest] = images.dims;
    if (images.type !== 'float32' || !(batch > 0) || rest.join() !== [3, imageSize, imageSize].join()) {
      throw new DetailFlowError(
        'invalid-argument',
        `images are ${images.type} [${images.dims}]; give float32 [B, 3, ${imageSize}, ${imageSize}]: other sizes cannot be encoded`,
      );
    }
    const encoder = await this.#encoder.get();
    return encoder.run({ images }, { signal });
  }

  #drawn({ latents, logVariance }: Readonly<Record<string, Tensor>>, noise: Tensor): Tensor {
    if (logVariance === undefined) {
      throw new DetailFlowError(
        'invalid-argument',
        `latents of the kind "${this.config.kind}" are not drawn: give no noise`,
      );
    }
    this.#requireLatents('noise', noise);
    if (noise.dims[0] !== latents.dims[0]) {
      throw new DetailFlowError(
        'invalid-argument',
        `there is noise for ${noise.dims[0]} images, not ${latents.dims[0]}`,
      );
    }
    const [spread, draws] = [logVariance.data as Float32Array, noise.data as Float32Array];
    return this.#mapped(latents, (mean, i) => mean + Math.exp(0.5 * spread[i]) * draws[i]);
  }

  #mapped(latents: Tensor, compute: (x: number, index: number) => number): Tensor {
    return new Tensor('float32', (latents.data as Float32Array).map(compute), latents.dims);
  }

  #requireLatents(what: string, latents: Tensor): void {
    const { tokens, latentDim } = this.config;
    const [batch, ...rest] = latents.dims;
    if (latents.type === 'float32' && batch > 0 && rest.join() === [tokens, latentDim].join()) {
      if ((latents.data as Float32Array).every(Number.isFinite)) return;
      throw new DetailFlowError('invalid-argument', `the ${what} hold numbers that are not finite`);
    }
    throw new DetailFlowError(
      'invalid-argument',
      `the ${what} are ${latents.type} [${latents.dims}]; give float32 [B, ${tokens}, ${latentDim}]`,
    );
  }
}
