import {
  type CallOptions,
  checkOptions,
  DetailFlowError,
  decodeInSlices,
  describe,
  type LatentTokenizer,
  LazyExecutable,
  ofType,
  requireTensor,
  Tensor,
  validateWeights,
} from '@detailflow/core';
import { resolutionSettings, type TokenizerConfig } from './config';
import { decoderGraph, encoderGraph } from './graphs';
import { ignoredTokenizerWeights, tokenizerParameters } from './parameters';
import { createResolutionMap, type ResolutionMap } from './resolution-map';
import type { TokenizerOptions } from './tokenizer';
import { decoderFeeds, encoderFeeds, requireTokens } from './tokenizer-feeds';

/** Loads a tokenizer of mixtures. Encoder and decoder are compiled when they are first used. */
export function createMixtureTokenizer(options: TokenizerOptions): MixtureTokenizer {
  return new MixtureTokenizer(options);
}

/**
 * The DetailFlow tokenizer with SoftVQ's quantiser: images to coarse-to-fine latents, each a mixture of codes, and back. The first
 * of them are a smaller picture, as the first tokens are.
 */
export class MixtureTokenizer implements LatentTokenizer {
  readonly config: TokenizerConfig;
  readonly resolutions: ResolutionMap;
  readonly #encoder: LazyExecutable;
  readonly #decoder: LazyExecutable;

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration; `config` for one without mixtures */
  constructor(options: TokenizerOptions) {
    checkOptions('createMixtureTokenizer', options, {
      ...{ config: true, weights: true, backend: true, dtype: true, file: true },
    });
    const { config, weights, backend, dtype, file } = options;
    if (!config.mixture) {
      throw new DetailFlowError('config', 'its tokens are codes: use createTokenizer', {
        file,
        entry: 'mixture',
      });
    }
    validateWeights(weights, tokenizerParameters(config), { file, ignore: ignoredTokenizerWeights });
    this.config = config;
    this.#encoder = new LazyExecutable(() => backend.compile(encoderGraph(config), weights));
    this.#decoder = new LazyExecutable(() => backend.compile(decoderGraph(config), weights, { dtype }));
    this.resolutions = createResolutionMap(resolutionSettings(config));
  }

  get tokens(): number {
    return this.config.tokens;
  }

  get latentDim(): number {
    return this.config.codebookDim;
  }

  get imageSize(): number {
    return this.config.imageSize;
  }

  /** Images float32 [B, 3, S, S] in [-1, 1] -> latents float32 [B, n, d]; n is N unless said. */
  async encodeLatents(
    images: Tensor<'float32'>,
    options: CallOptions & { tokens?: number } = {},
  ): Promise<Tensor<'float32'>> {
    checkOptions('encodeLatents', options, { signal: true, tokens: true });
    const { signal, tokens = this.tokens } = options;
    const feeds = encoderFeeds(this.config, images, tokens);
    const { latents } = await (await this.#encoder.get()).run(feeds, { signal });
    return ofType(latents, 'float32');
  }

  /**
   * Latents float32 [B, >= t, d] -> images float32 [B, 3, R, R], about [-1, 1]. `tokens` t: all given unless said; `size` R: the
   * resolution of t tokens unless said.
   */
  async decodeLatents(
    latents: Tensor<'float32'>,
    options: CallOptions & { tokens?: number; size?: number } = {},
  ): Promise<Tensor<'float32'>> {
    checkOptions('decodeLatents', options, { signal: true, tokens: true, size: true });
    const must = `float32 [B, n, ${this.latentDim}]`;
    const { dims, data } = requireTensor(latents, { what: 'latents', must, type: 'float32', axes: 3 });
    const [batch, given, width] = dims;
    if (width !== this.latentDim || batch === 0) {
      throw new DetailFlowError('shape', `latents are ${describe(latents)}; give ${must}`);
    }
    if (!data.every(Number.isFinite)) {
      throw new DetailFlowError('invalid-argument', 'latents hold numbers that are not finite');
    }
    const { signal, tokens = given } = options;
    requireTokens(this.config, given, tokens);
    const size = options.size ?? this.resolutions.tokenToDecOutRes(tokens);
    const first = new Float32Array(batch * tokens * width);
    for (let b = 0; b < batch; b++) {
      first.set(data.subarray(b * given * width, (b * given + tokens) * width), b * tokens * width);
    }
    const plain = new Tensor('float32', first, [batch, tokens, width]);
    const decoder = await this.#decoder.get();
    return decodeInSlices(decoder, 'latents', plain, decoderFeeds(this.config, { tokens, size }), signal);
  }

  async dispose(): Promise<void> {
    await Promise.all([this.#encoder.dispose(), this.#decoder.dispose()]);
  }
}
