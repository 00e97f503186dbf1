import type { GroupTokenModel } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import type { BundleCard, FamilyModel, TextSizes } from '@detailflow/checkpoint';
import {
  type Backend,
  type CallOptions,
  checkOptions,
  DetailFlowError,
  type Guidance,
  type ImageTokenizer,
  type LatentTokenizer,
  type OptionNames,
  pixelToByte,
  requireTensor,
  type Tensor,
  type TokenModel,
  type WeightDType,
} from '@detailflow/core';
import { keptImages, psnr, tokenWorth, worthTarget } from '@detailflow/eval';
import {
  type GenerateOptions,
  type GenerationStep,
  generate,
  type VaryOptions,
  vary,
} from '@detailflow/sampler';
import type { Tokenizer } from '@detailflow/tokenizer';
import { type ClassLabel, classNumbers } from './class-numbers';
import { isDetailFlow } from './detailflow-family';
import type { ModelSource } from './folder-source';
import type { OpenFamilyOptions } from './open-family';
import { openForDType, requireDType } from './open-for-dtype';
import { DEFAULT_CFG, recommendedCfg } from './recommended-cfg';

/** Options of {@link load}. */
export interface LoadOptions extends OpenFamilyOptions {
  /** Where to compute. A CPU backend of its own if omitted, closed with the model. */
  readonly backend?: Backend;
  /**
   * How the matrices of the AR model are held: 'fp32', or rounded to 'q8' or 'q4', which is faster; those of DetailFlow's decoder are
   * then held in 8 bits, and the encoder's as they are. 'fp16' is for `@detailflow/backend-webgpu`. Default: as they are stored, which
   * is 'fp32' but for bundles that were converted to `q8` or `q4`; on WebGPU weights stored as fp16 stay so.
   */
  readonly dtype?: WeightDType;
  /**
   * With dtype `q8` or `q4`: rounds once, keeps the rounded copy in a cache (`DETAILFLOW_CACHE`, else `~/.cache/detailflow`; or the
   * folder given here), and starts from it whenever the files of the model hold the same. Its own bytes are checked each time; a damaged copy
   * is made again, which `hub.onNotice` is told. Default: nothing is kept.
   */
  readonly cache?: boolean | string;
}

/** A reconstruction from the first `tokens` tokens. */
export interface Reconstruction {
  readonly tokens: number;
  /** Side of `pixels`: what that many tokens are worth. */
  readonly resolution: number;
  /** float32 [B, 3, R, R]. */
  readonly pixels: Tensor<'float32'>;
  /** PSNR in dB of each of them as 8-bit picture, against the original resized the same way. */
  readonly psnr: readonly number[];
}

/**
 * Loads a model of any family: from a bundle, from the folders of a training, or from released files.
 * @throws DetailFlowError naming the file and what is wrong with it
 * @see https://detailflow.github.io/detailflow-ts/guide/choose-a-model.html
 */
export async function load(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  checkOptions('load', options, {
    ...{ backend: true, dtype: true, cache: true, families: true, settings: true, hub: true, signal: true },
  });
  const { families, settings, hub, signal } = options;
  const opened = await openForDType(source, {
    dtype: options.dtype,
    cache: options.cache,
    families,
    settings,
    hub,
    signal,
  });
  try {
    requireDType(opened, options.dtype);
    options.signal?.throwIfAborted();
    const backend = options.backend ?? (await createNodeBackend());
    return new Model(opened, backend, { ownsBackend: options.backend === undefined, dtype: options.dtype });
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Options of {@link Model.generate}: those of `generate` of `@detailflow/sampler`, and classes also by name. */
export interface DrawOptions extends Omit<GenerateOptions, 'model' | 'tokenizer' | 'labels'> {
  /** The class of each image: its number, or its name on the model's card. */
  readonly labels: readonly ClassLabel[];
}

/** Options of {@link Model.vary}: those of `vary` of `@detailflow/sampler`, and classes also by name. */
export interface VariationOptions extends Omit<VaryOptions, 'model' | 'tokenizer' | 'labels'> {
  /** The class of each picture; default: none, the model goes by the tokens alone. */
  readonly labels?: readonly ClassLabel[];
}

type SharedNames = OptionNames<Omit<DrawOptions, 'tokens' | 'prefix' | 'keep'>>;
const sharedNames: SharedNames = {
  ...{ labels: true, seed: true, greedy: true, noise: true, onDevice: true, signal: true },
  ...{ temperature: true, topK: true, topP: true, cfg: true, guidance: true },
};
const drawOptionNames: OptionNames<DrawOptions> = {
  ...sharedNames,
  ...{ tokens: true, prefix: true, keep: true },
};
const variationOptionNames: OptionNames<VariationOptions> = { ...sharedNames, keepTokens: true, count: true };

/** What a DetailFlow model has beyond what all families have. */
export interface DetailFlowParts {
  readonly tokenizer: Tokenizer;
  readonly tokenModel?: GroupTokenModel;
}

/** A tokenizer and, where there is one, the transformer that belongs to it, on one backend. */
export class Model {
  /** Name of the family: 'DetailFlow', 'LlamaGen', 'PAR', 'VAR', 'FlexVAR', or one of your own. */
  readonly family: string;
  /** Images to continuous latents and back, where the tokenizer has them (SoftVQ). */
  readonly latents?: LatentTokenizer;
  /** Missing when only a tokenizer was loaded. */
  readonly tokenModel?: TokenModel;
  /** The same parts with all that DetailFlow's can do; undefined for models of other families. */
  readonly detailflow?: DetailFlowParts;
  /** Card of the bundle, if the model came from one. */
  readonly card?: BundleCard;
  /** What it draws for, where that is a text: how large its features are, and how they are padded. */
  readonly text?: TextSizes;
  readonly backend: Backend;
  readonly #tokenizer?: ImageTokenizer;
  readonly #opened: FamilyModel;
  readonly #ownsBackend: boolean;

  /** @internal Use {@link load}. */
  constructor(
    opened: FamilyModel,
    backend: Backend,
    { ownsBackend, dtype }: { ownsBackend: boolean; dtype?: WeightDType },
  ) {
    this.#opened = opened;
    this.#ownsBackend = ownsBackend;
    this.backend = backend;
    this.card = opened.card;
    this.family = opened.family;
    this.text = opened.ar?.text;
    if (isDetailFlow(opened) && !opened.createLatentTokenizer) {
      const tokenizer = opened.createTokenizer({ backend, dtype });
      this.detailflow = { tokenizer, tokenModel: opened.createTokenModel?.({ backend, dtype, tokenizer }) };
      this.#tokenizer = tokenizer;
      this.tokenModel = this.detailflow.tokenModel;
    } else {
      this.latents = opened.createLatentTokenizer?.({ backend, dtype });
      const tokenizer = isImageTokenizer(this.latents)
        ? this.latents
        : this.latents
          ? undefined
          : opened.createTokenizer({ backend, dtype });
      this.#tokenizer = tokenizer;
      this.tokenModel = tokenizer && opened.createTokenModel?.({ backend, dtype, tokenizer });
    }
  }

  /** Whether the tokenizer has codes; without them it has only {@link Model.latents}. */
  get hasCodes(): boolean {
    return this.#tokenizer !== undefined;
  }

  /** @throws DetailFlowError `unsupported` where the tokenizer has continuous latents and no codes: see {@link Model.latents} */
  get tokenizer(): ImageTokenizer {
    if (this.#tokenizer) return this.#tokenizer;
    throw new DetailFlowError(
      'unsupported',
      `this tokenizer of ${this.family} has continuous latents and no codes: use latents.encodeLatents and decodeLatents`,
      { file: this.#opened.tokenizer.file },
    );
  }

  /**
   * Guidance that ends after an interval of tokens, as LlamaGen's and PAR's samplers have it; for the option `guidance`.
   * @throws DetailFlowError `unsupported` for other families
   */
  intervalGuidance(interval: number): Guidance {
    const rule = this.#opened.intervalGuidance?.(interval);
    if (rule) return rule;
    throw new DetailFlowError('unsupported', `guidance of ${this.family} cannot end after an interval`);
  }

  /** Guidance where no `cfg` is given: what the card recommends, or the model by its kind, or 1.5. */
  get cfg(): number {
    return recommendedCfg(this.card) ?? this.tokenModel?.sampling?.cfg ?? DEFAULT_CFG;
  }

  /**
   * Draws pictures; see `generate` of `@detailflow/sampler` for the options. Without `cfg`, guidance is
   * {@link Model.cfg}, as on the command line.
   * @throws DetailFlowError `unsupported` without an AR part, `invalid-argument` for wrong options
   */
  generate(options: DrawOptions): AsyncGenerator<GenerationStep, void, void> {
    const model = this.#requireTokenModel();
    checkOptions('generate', options, drawOptionNames);
    const labels = classNumbers(options.labels, this.card?.classNames);
    const { cfg = this.cfg } = options;
    return generate({ ...options, labels, cfg, model, tokenizer: this.tokenizer });
  }

  /** Draws variations of pictures float32 [B, 3, S, S] in [-1, 1]; see `vary` of `@detailflow/sampler`. */
  vary(images: Tensor<'float32'>, options: VariationOptions): AsyncGenerator<GenerationStep, void, void> {
    const model = this.#requireTokenModel();
    checkOptions('vary', options, variationOptionNames);
    const labels = options.labels && classNumbers(options.labels, this.card?.classNames);
    const { cfg = this.cfg } = options;
    return vary(images, { ...options, labels, cfg, model, tokenizer: this.tokenizer });
  }

  /** Images float32 [B, 3, S, S] in [-1, 1] -> codes int32 [B, n]. */
  encode(images: Tensor<'float32'>, options?: CallOptions & { tokens?: number }): Promise<Tensor<'int32'>> {
    return this.tokenizer.encode(images, options);
  }

  /** Codes int32 [B, n] -> images float32 [B, 3, R, R]. */
  decode(
    codes: Tensor<'int32'>,
    options?: CallOptions & { tokens?: number; size?: number },
  ): Promise<Tensor<'float32'>> {
    return this.tokenizer.decode(codes, options);
  }

  /**
   * Encodes images and draws them again from ever more of their tokens; from latents, which have no order, all at once. DetailFlow
   * takes images of every size on its list, which have fewer tokens than full ones.
   * @param options.tokens token counts to draw; default: 1, 2, 4, ... and all, or every scale, or the quarters of the picture
   */
  async *reconstruct(
    images: Tensor<'float32'>,
    options: CallOptions & { tokens?: readonly number[] } = {},
  ): AsyncGenerator<Reconstruction, void, void> {
    checkOptions('reconstruct', options, { signal: true, tokens: true });
    const must = 'float32 [B, 3, S, S] in [-1, 1]';
    const size = requireTensor(images, { what: 'images', must, type: 'float32', axes: 4 }).dims[2];
    const tokenizer = this.#restorerFor(size);
    const known = this.#opened.tokenizer.previewCounts.filter((count) => count < tokenizer.tokens);
    const { signal, tokens: counts = [...known, tokenizer.tokens] } = options;
    const kept = await keptImages(tokenizer, images, { signal });
    for (const tokens of counts) {
      const worth = tokenWorth(tokenizer, tokens, size);
      const pixels = await kept.restore({ tokens, noiseIndex: null, size: worth.size, seed: 0 });
      yield { tokens, resolution: worth.size, pixels, psnr: psnrOfEach(pixels, worthTarget(images, worth)) };
    }
  }

  /** Frees the model, and its backend if `load` made it. */
  async dispose(): Promise<void> {
    await this.#opened.close();
    if (this.#ownsBackend) {
      await this.backend.close();
      return;
    }
    await this.#tokenizer?.dispose();
    if (!this.#tokenizer) await this.latents?.dispose();
    await this.tokenModel?.dispose();
  }

  /** Frees it at the end of an `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #restorerFor(size: number): ImageTokenizer | LatentTokenizer {
    const own = this.detailflow?.tokenizer;
    if (own && size !== own.imageSize) return own.atSize(size);
    return this.#tokenizer ?? (this.latents as LatentTokenizer);
  }

  #requireTokenModel(): TokenModel {
    if (this.tokenModel) return this.tokenModel;
    throw new DetailFlowError(
      'unsupported',
      'this model has no AR part: it can encode and decode, not generate',
    );
  }
}

const isImageTokenizer = (one: LatentTokenizer | undefined): one is LatentTokenizer & ImageTokenizer =>
  one !== undefined && 'encode' in one;

function psnrOfEach(restored: Tensor<'float32'>, originals: Tensor<'float32'>): number[] {
  const [batch, ...rest] = originals.dims;
  const size = rest.reduce((a, b) => a * b, 1);
  const part = ({ data }: Tensor<'float32'>, i: number) => data.subarray(i * size, (i + 1) * size);
  const shown = (values: Float32Array) => values.map((value) => pixelToByte(value) / 127.5 - 1);
  return Array.from({ length: batch }, (_, i) => psnr(shown(part(restored, i)), part(originals, i)));
}
