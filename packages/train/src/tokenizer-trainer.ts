import {
  type Backend,
  checkOptions,
  DetailFlowError,
  resizeImages,
  Tensor,
  type Tensors,
} from '@detailflow/core';
import {
  createResolutionMap,
  type ResolutionMap,
  resolutionSettings,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import type { CodebookLife } from './codebook-life';
import { type Arrays, initialTokenizer } from './initialise';
import type { ReplicatedExecutable } from './learner';
import { type LossNetworks, lossTerms, requireJudgeable } from './losses/loss-networks';
import type { LossTerm } from './losses/loss-term';
import { checkSizes, cropSize, dividingBatch, keptImages, type StepImages } from './step-size';
import { joined, repeated } from './tensor-parts';
import { type LossContext, tokenizerStepGraph } from './tokenizer-graph';
import { imagesOfBatch, TokenizerLearning } from './tokenizer-learning';
import { frozenBy, type TokenizerRecipe, type TokenizerStepReport } from './tokenizer-recipe';
import {
  drawRanks,
  drawVariant,
  imagesOf,
  noiseEnd,
  type StepVariant,
  variantFeeds,
  variantTarget,
} from './tokenizer-variant';

/** What a trainer of a tokenizer is made of. */
export interface TokenizerTrainerOptions {
  readonly config: TokenizerConfig;
  readonly recipe: TokenizerRecipe;
  /** Each computes a micro-batch at the same time as the others. */
  readonly backends: readonly Backend[];
  readonly seed: number;
  readonly networks?: LossNetworks;
  /** Parameters to begin with; those that are not among them are drawn from the seed. */
  readonly parameters?: Arrays;
}

/** Trains a tokenizer, batch by batch. Everything a step changes is in its {@link snapshot}. */
export class TokenizerTrainer {
  readonly config: TokenizerConfig;
  readonly recipe: TokenizerRecipe;
  readonly #seed: number;
  readonly #learning: TokenizerLearning<LossContext>;
  readonly #terms: readonly LossTerm[];
  readonly #map: ResolutionMap;

  private constructor(
    { config, recipe, seed }: TokenizerTrainerOptions,
    terms: readonly LossTerm[],
    learning: TokenizerLearning<LossContext>,
  ) {
    this.config = config;
    this.recipe = recipe;
    this.#seed = seed;
    this.#terms = terms;
    this.#learning = learning;
    this.#map = createResolutionMap(resolutionSettings(config));
  }

  /** Begins with drawn parameters, or with those given. */
  static async create(options: TokenizerTrainerOptions): Promise<TokenizerTrainer> {
    checkOptions('TokenizerTrainer.create', options, {
      config: true,
      recipe: true,
      backends: true,
      seed: true,
      networks: true,
      parameters: true,
    });
    const { config, recipe, seed, backends } = options;
    if (recipe.correction > 0 && !config.correction) {
      throw new DetailFlowError(
        'config',
        `the probability of self-correction is ${recipe.correction}, but the tokenizer has no refine_conv; set it to 0`,
      );
    }
    const { networks = {} } = options;
    const map = createResolutionMap(resolutionSettings(config));
    if (recipe.sizes) checkSizes(map, recipe.sizes, recipe.microBatch);
    const terms = lossTerms(config, recipe, networks);
    requireJudgeable(recipe, networks, Math.min(config.imageSize, recipe.sizes?.minSize ?? config.imageSize));
    const specs = [...tokenizerParameters(config), ...terms.flatMap((term) => term.specs)];
    const learning = await TokenizerLearning.create({
      ...{ recipe, backends, seed, terms, specs, discriminator: networks.discriminator },
      drawn: initialTokenizer({ specs, seed, isNormalised: config.normalisedCodebook }),
      given: options.parameters,
      codebook: { name: 'quantize.embedding.weight', size: config.codebookSize, width: config.codebookDim },
      lastLayer: 'decoder.to_pixel.model.weight',
    });
    return new TokenizerTrainer(options, terms, learning);
  }

  /** Steps made. */
  get step(): number {
    return this.#learning.step;
  }

  /** Side in pixels of the images that a step is given; it brings them to the size that it draws. */
  get imageSize(): number {
    const { sizes } = this.recipe;
    return sizes ? cropSize(sizes) : this.config.imageSize;
  }

  /**
   * Graphs of the tokenizer's loss compiled so far: two, whatever the variants, and two more with a discriminator; as many for
   * every size of images.
   */
  get graphs(): number {
    return this.#learning.graphs;
  }

  /**
   * One step on a batch of images [B, 3, S, S] in [-1, 1], S being {@link imageSize}; B is a multiple of the micro-batch.
   * @throws DetailFlowError `diverged` when loss or gradients are not finite: parameters are as before the step;
   *   `shape` for other images
   */
  async train(images: Float32Array): Promise<TokenizerStepReport> {
    const { recipe, config } = this;
    const { degradation, correction, sizes, draws = 1 } = recipe;
    const at = { seed: this.#seed, step: this.step };
    const variants = Array.from({ length: draws }, (_, index) =>
      drawVariant(this.#map, { ...at, degradation, correction, sizes, draw: { index, of: draws } }),
    );
    const seen = this.#seenImages(images, variants[0]);
    const each = seen.count / draws;
    const microBatch = dividingBatch(each, recipe.microBatch);
    const perDraw = each / microBatch;
    const graphs: ReplicatedExecutable[] = [];
    const batches: Tensors[] = [];
    for (const [draw, variant] of variants.entries()) {
      const graph = await this.#graph(variant, microBatch);
      const length = seen.images.length / draws;
      const part = seen.images.subarray(draw * length, (draw + 1) * length);
      const fed = await this.#microBatches(part, microBatch, variant, draw * perDraw);
      batches.push(...fed);
      graphs.push(...fed.map(() => graph));
    }
    const { step, ...done } = await this.#learning.train({
      ...{ graph: graphs, batches, vectors: 'unit' },
      count: (results, codes) => {
        const usages = variants.map((variant, draw) =>
          this.#countCodes(results.slice(draw * perDraw, (draw + 1) * perDraw), variant, codes),
        );
        return usages[usages.length - 1];
      },
      judging: (first) => {
        const variant = variants[first / perDraw];
        return {
          real: ({ target }, fake) => repeated(target, fake),
          ...{ count: perDraw, size: variant.size, canvas: imagesOf(config, variant).size },
          pixelWeights: batches[first].pixelWeights,
        };
      },
    });
    const all = draws > 1 && { variants };
    return { step, variant: variants[0], ...all, images: seen.count, ...done };
  }

  /** Parameters, or their running means. */
  parameters(kind: 'current' | 'average' = 'current'): Promise<Arrays> {
    return this.#learning.parameters(kind);
  }

  /** Everything that a step changes. */
  snapshot(): Promise<{ readonly step: number; readonly tensors: Tensors }> {
    return this.#learning.snapshot();
  }

  /** Goes on from a snapshot. @throws DetailFlowError `weights` when it is of another configuration */
  restore(snapshot: { readonly step: number; readonly tensors: Tensors }): Promise<void> {
    return this.#learning.restore(snapshot);
  }

  /** Frees what it holds on the device. */
  dispose(): Promise<void> {
    return this.#learning.dispose();
  }

  /**
   * The images of a step at their size, and how many they are; of each draw as many.
   * @throws DetailFlowError `shape`
   */
  #seenImages(images: Float32Array, variant: StepVariant): { images: Float32Array; count: number } {
    const { imageSize: given } = this;
    const { microBatch, sizes, draws = 1 } = this.recipe;
    const batch = imagesOfBatch(images, { imageSize: given, microBatch: microBatch * draws }) / draws;
    const { size } = imagesOf(this.config, variant);
    const each = sizes ? keptImages(batch, size, sizes) : batch;
    const count = each * draws;
    const kept = each === batch ? images : firstOfEach(images, { draws, share: each / batch });
    if (size === given) return { images: kept, count };
    const square = { height: size, width: size };
    return { images: resizeImages(kept, [count, 3, given, given], square, 'degradation'), count };
  }

  #graph(variant: StepVariant, microBatch: number): Promise<ReplicatedExecutable> {
    const { config, recipe } = this;
    const { pixelLoss, pixelWeight, quantiser } = recipe;
    const { adversary } = this.#learning;
    const correction = variant.noiseIndex !== null;
    const image = imagesOf(config, variant);
    const key = [correction, adversary !== undefined, image.size, microBatch].join(' ');
    return this.#learning.graph(key, () =>
      tokenizerStepGraph({
        ...{ config, microBatch, correction, image, pixelLoss, pixelWeight, quantiser },
        isFrozen: frozenBy(recipe),
        hiddenLayer: this.#terms.find(({ hiddenLayer }) => hiddenLayer !== undefined)?.hiddenLayer,
        extraSpecs: this.#terms.flatMap(({ specs }) => specs),
        outputPixels: adversary !== undefined,
        extraLosses: (context) => this.#learning.extraLosses(context, adversary),
      }),
    );
  }

  /** @param first micro-batches of the step before these */
  async #microBatches(
    images: Float32Array,
    batch: number,
    variant: StepVariant,
    first: number,
  ): Promise<Tensors[]> {
    const image: StepImages = imagesOf(this.config, variant);
    const plane = 3 * image.size ** 2;
    const isCorrected = variant.noiseIndex !== null;
    const at = { seed: this.#seed, step: this.step };
    const moment = { ...at, canvas: image.size, size: variant.size, isCorrected };
    const shared = variantFeeds(this.config, variant);
    const dims = [batch, 3, image.size, image.size];
    const feeds: Tensors[] = [];
    for (let place = 0; place < images.length / (plane * batch); place++) {
      const part = images.slice(place * batch * plane, (place + 1) * batch * plane);
      const tensor = new Tensor('float32', part, dims);
      const target = new Tensor('float32', variantTarget(part, dims, variant), dims);
      const rows = { ...at, image: (first + place) * batch, batch, tokens: image.tokens };
      feeds.push({
        ...{ ...shared, images: tensor, target },
        ...(isCorrected && { ranks: drawRanks(this.config, rows) }),
        ...(await this.#learning.extraFeeds(moment, {
          ...{ place: first + place, images: tensor, target, restored: isCorrected ? 2 * batch : batch },
        })),
      });
    }
    return feeds;
  }

  /** Takes in the codes of all passes; in a self-correction step they count by their number of tokens. */
  #countCodes(results: readonly Record<string, Tensor>[], variant: StepVariant, life: CodebookLife): number {
    const { noiseIndex } = variant;
    const { tokens } = imagesOf(this.config, variant);
    const clean = joined(results.map(({ codes }) => codes.data as Int32Array));
    const usage = life.see(clean, this.step);
    if (noiseIndex === null) return usage;
    const end = noiseEnd(this.config, noiseIndex);
    const fresh = joined(results.map((result) => result.fresh.data as Int32Array)).filter(
      (_, i) => i % tokens >= end,
    );
    const freshUsage = life.see(fresh, this.step);
    return (usage * tokens + freshUsage * (tokens - end)) / (2 * tokens - end);
  }
}

/** The first images of each part of a batch. */
function firstOfEach(
  images: Float32Array,
  { draws, share }: { readonly draws: number; readonly share: number },
): Float32Array {
  const length = images.length / draws;
  const kept = Math.round(length * share);
  const result = new Float32Array(kept * draws);
  for (let draw = 0; draw < draws; draw++)
    result.set(images.subarray(draw * length, draw * length + kept), draw * kept);
  return result;
}
