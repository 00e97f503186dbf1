import {
  type Backend,
  type CallOptions,
  checkOptions,
  DetailFlowError,
  decodeInSlices,
  describe,
  type ImageTokenizer,
  LazyExecutable,
  ofType,
  randomRanks,
  requireTensor,
  Tensor,
  validateWeights,
  type WeightDType,
  type Weights,
} from '@detailflow/core';
import { resolutionSettings, type TokenizerConfig } from './config';
import { decoderGraph, encoderGraph } from './graphs';
import { ignoredTokenizerWeights, tokenizerParameters } from './parameters';
import { createResolutionMap, type ResolutionMap } from './resolution-map';
import { tokensOfSize } from './size-tokens';
import { decoderFeeds, encoderFeeds, requireTokens } from './tokenizer-feeds';

/** What a tokenizer is made of. */
export interface TokenizerOptions {
  readonly config: TokenizerConfig;
  readonly weights: Weights;
  readonly backend: Backend;
  /** How the matrices of the decoder are held; the encoder's, which decide about codes, stay as they are. Default: as they are. */
  readonly dtype?: WeightDType;
  /** Where the weights come from, for messages. */
  readonly file?: string;
}

/** Options of `encodeCorrected`. Source: docs/method.md section 3. */
export interface CorrectionOptions extends CallOptions {
  /** Tokens to encode, n; all unless said. */
  readonly tokens?: number;
  /** First wrong token k: one of 0..c-1, or a multiple of g below n. */
  readonly noiseIndex: number;
  /** int32 [B, n]: which of the 50 nearest codes becomes the wrong one (0 = nearest). Drawn from `seed` if omitted. */
  readonly ranks?: Tensor<'int32'>;
  readonly seed?: number;
}

/** The three index rows of a self-correction pass, each int32 [B, n]. docs/method.md section 3. */
export interface CorrectedCodes {
  /** Codes of the first pass. */
  readonly clean: Tensor<'int32'>;
  /** What an AR model is fed: clean before k, wrong in [k, e), repaired after. */
  readonly input: Tensor<'int32'>;
  /** What an AR model learns: clean before e, repaired after. */
  readonly target: Tensor<'int32'>;
}

/** A tokenizer for images of one size: see {@link Tokenizer.atSize}. */
export interface SizedTokenizer extends ImageTokenizer {
  readonly resolutions: ResolutionMap;
  /** As `encode`, with the codes after a self-correction: what training and noisy evaluation need. */
  encodeCorrected(images: Tensor<'float32'>, options: CorrectionOptions): Promise<CorrectedCodes>;
}

/**
 * Loads a tokenizer. Encoder and decoder are compiled when they are first used.
 * @see https://detailflow.github.io/detailflow-ts/packages/tokenizer.html
 */
export function createTokenizer(options: TokenizerOptions): Tokenizer {
  return new Tokenizer(options);
}

/** The DetailFlow tokenizer: images to coarse-to-fine tokens and back. Source: docs/method.md sections 2 and 3. */
export class Tokenizer implements ImageTokenizer {
  readonly previews = 'coarse-to-fine';
  readonly config: TokenizerConfig;
  readonly resolutions: ResolutionMap;
  readonly #encoder: LazyExecutable;
  readonly #decoder: LazyExecutable;

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration; `unsupported` for mixtures of codes */
  constructor(options: TokenizerOptions) {
    checkOptions('createTokenizer', options, {
      ...{ config: true, weights: true, backend: true, dtype: true, file: true },
    });
    const { config, weights, backend, dtype, file } = options;
    if (config.mixture) {
      throw new DetailFlowError(
        'unsupported',
        'its tokens are mixtures of codes, not codes: use createMixtureTokenizer',
        { file },
      );
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

  get imageSize(): number {
    return this.config.imageSize;
  }

  get codebookSize(): number {
    return this.config.codebookSize;
  }

  resolution(tokens: number): number {
    return this.resolutions.tokenToDecOutRes(tokens);
  }

  async encode(
    images: Tensor<'float32'>,
    options: CallOptions & { tokens?: number } = {},
  ): Promise<Tensor<'int32'>> {
    checkOptions('encode', options, { signal: true, tokens: true });
    const pass = await this.#prepareEncoding(images, options.tokens ?? this.tokens);
    return firstColumn(await pass({ signal: options.signal }));
  }

  /**
   * Encodes with deliberately wrong tokens from `noiseIndex` on and lets the later tokens repair them.
   * @throws DetailFlowError `unsupported` when the checkpoint was trained without self-correction
   */
  async encodeCorrected(images: Tensor<'float32'>, options: CorrectionOptions): Promise<CorrectedCodes> {
    checkOptions('encodeCorrected', options, {
      tokens: true,
      noiseIndex: true,
      ranks: true,
      seed: true,
      signal: true,
    });
    const { config } = this;
    const count = options.tokens ?? config.tokens;
    if (!config.correction) {
      throw new DetailFlowError(
        'unsupported',
        'this tokenizer was trained without self-correction: it has no refine_conv',
      );
    }
    const k = options.noiseIndex;
    const isGroupStart = k >= config.causalTokens && k % config.groupSize === 0;
    if (!Number.isInteger(k) || k < 0 || k >= count || !(k < config.causalTokens || isGroupStart)) {
      throw new DetailFlowError(
        'invalid-argument',
        `noiseIndex is ${describe(k)}; give a multiple of ${config.groupSize} below ${count}, or any below ${config.causalTokens}`,
      );
    }
    const end = k + (k < config.causalTokens ? 1 : config.groupSize);
    const pass = await this.#prepareEncoding(images, count);
    const first = await pass({ signal: options.signal });
    const [batch, , choices] = first.dims;
    const ranks = options.ranks ?? drawRanks(batch, count, choices, options.seed ?? 0);
    requireCodes('ranks', ranks, choices, [batch, count]);
    const clean = firstColumn(first);
    const prefix = clean.data.slice();
    forEachToken(batch, count, (at, token) => {
      if (token >= k && token < end) prefix[at] = first.data[at * choices + ranks.data[at]];
    });
    const fresh = firstColumn(await pass({ signal: options.signal, prefix, prefixLength: end }));
    const input = fresh.data.slice();
    const target = fresh.data.slice();
    forEachToken(batch, count, (at, token) => {
      if (token >= end) return;
      input[at] = prefix[at];
      target[at] = clean.data[at];
    });
    return {
      clean,
      input: new Tensor('int32', input, clean.dims),
      target: new Tensor('int32', target, clean.dims),
    };
  }

  async decode(
    codes: Tensor<'int32'>,
    options: CallOptions & { tokens?: number; size?: number } = {},
  ): Promise<Tensor<'float32'>> {
    checkOptions('decode', options, { signal: true, tokens: true, size: true });
    const { config } = this;
    requireCodes('codes', codes, config.codebookSize);
    const [batch, given] = codes.dims;
    const tokens = options.tokens ?? given;
    requireTokens(config, given, tokens);
    const size = options.size ?? this.resolution(tokens);
    const first = new Tensor('int32', leading(codes, tokens), [batch, tokens]);
    const decoder = await this.#decoder.get();
    const feeds = decoderFeeds(config, { tokens, size });
    return decodeInSlices(decoder, 'codes', first, feeds, options.signal);
  }

  /**
   * The tokenizer for images of `size` pixels, with as many tokens as those have; another one of the list if not the full size. It
   * shares everything with this one, which is to be disposed.
   * @throws DetailFlowError `invalid-argument` when the size is not on the list: names the nearest that are
   */
  atSize(size: number): SizedTokenizer {
    const tokens = tokensOfSize(this.resolutions, size);
    const ownTokens = <T extends { tokens?: number }>(options?: T) =>
      ({ ...options, tokens: options?.tokens ?? tokens }) as T;
    return {
      ...{ previews: this.previews, tokens, imageSize: size, codebookSize: this.codebookSize },
      resolutions: this.resolutions,
      resolution: (count) => (count === tokens ? size : this.resolution(count)),
      encode: (images, options) => this.encode(images, ownTokens(options)),
      encodeCorrected: (images, options) => this.encodeCorrected(images, ownTokens(options)),
      decode: (codes, options = {}) => {
        const count = options.tokens ?? codes?.dims?.[1];
        return this.decode(codes, {
          ...options,
          size: options.size ?? (count === tokens ? size : undefined),
        });
      },
      dispose: async () => {},
    };
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await Promise.all([this.#encoder.dispose(), this.#decoder.dispose()]);
  }

  /** Checks the images and returns a function that runs the first, or with a prefix the second, pass over them. */
  async #prepareEncoding(images: Tensor<'float32'>, tokens: number) {
    const { config } = this;
    const feeds = encoderFeeds(config, images, tokens);
    const [batch] = images.dims;
    const encoder = await this.#encoder.get();
    return async (pass: { signal?: AbortSignal; prefix?: Int32Array; prefixLength?: number }) => {
      if (config.correction) {
        const { prefix = new Int32Array(batch * tokens), prefixLength = 0 } = pass;
        feeds.prefix = new Tensor('int32', prefix, [batch, tokens]);
        feeds.isPrefix = new Tensor(
          'bool',
          Uint8Array.from({ length: tokens }, (_, i) => Number(i < prefixLength)),
          [tokens],
        );
        feeds.second = new Tensor('bool', Uint8Array.of(Number(pass.prefix !== undefined)), [1]);
      }
      const { nearest } = await encoder.run(feeds, { signal: pass.signal });
      return ofType(nearest, 'int32');
    };
  }
}

/** The first of the last axis: int32 [B, n, k] -> [B, n]. */
function firstColumn({ data, dims }: Tensor<'int32'>): Tensor<'int32'> {
  const [batch, tokens, choices] = dims;
  return new Tensor(
    'int32',
    Int32Array.from({ length: batch * tokens }, (_, i) => data[i * choices]),
    [batch, tokens],
  );
}

/** The first `tokens` of every row. */
function leading(codes: Tensor<'int32'>, tokens: number): Int32Array {
  const [batch, given] = codes.dims;
  const out = new Int32Array(batch * tokens);
  for (let b = 0; b < batch; b++) {
    out.set(codes.data.subarray(b * given, b * given + tokens), b * tokens);
  }
  return out;
}

function drawRanks(batch: number, tokens: number, limit: number, seed: number): Tensor<'int32'> {
  const ranks = new Int32Array(batch * tokens);
  for (let b = 0; b < batch; b++)
    ranks.set(randomRanks({ seed: seed + b, count: tokens, limit }), b * tokens);
  return new Tensor('int32', ranks, [batch, tokens]);
}

function requireCodes(what: string, codes: Tensor<'int32'>, limit: number, dims?: readonly number[]): void {
  const must = `int32 [${dims?.join(', ') ?? 'B, n'}]`;
  requireTensor(codes, { what, must, type: 'int32', axes: 2 });
  if (dims && codes.dims.join() !== dims.join()) {
    throw new DetailFlowError('shape', `${what} are ${describe(codes)}; give ${must}`);
  }
  const bad = codes.data.findIndex((code) => code < 0 || code >= limit);
  if (bad >= 0) {
    throw new DetailFlowError(
      'invalid-argument',
      `${what}: ${codes.data[bad]} at position ${bad} is not in 0..${limit - 1}`,
    );
  }
}

function forEachToken(batch: number, tokens: number, visit: (at: number, token: number) => void): void {
  for (let b = 0; b < batch; b++)
    for (let token = 0; token < tokens; token++) visit(b * tokens + token, token);
}
