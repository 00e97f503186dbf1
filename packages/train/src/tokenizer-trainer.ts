import {
  add,
  type Backend,
  checkOptions,
  DetailFlowError,
  mul,
  resizeImages,
  Tensor,
  type Tensors,
  type Value,
} from '@detailflow/core';
import {
  createResolutionMap,
  type ResolutionMap,
  resolutionSettings,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import { CodebookLife } from './codebook-life';
import { type Arrays, initialDiscriminator, initialTokenizer } from './initialise';
import { Learner, type ReplicatedExecutable } from './learner';
import { adaptiveWeight, generatorLoss } from './losses/adversarial';
import { Adversary, type AdversaryReport } from './losses/adversary';
import type { Discriminator } from './losses/discriminator';
import { type LossNetworks, lossTerms } from './losses/loss-networks';
import type { LossTerm } from './losses/loss-term';
import { Buffer } from './optimiser';
import { tokenizerSchedule } from './schedule';
import { checkSizes, cropSize, dividingBatch, keptImages, type StepImages } from './step-size';
import { joined, repeated } from './tensor-parts';
import { type LossContext, tokenizerStepGraph } from './tokenizer-graph';
import {
  dividedByFrozen,
  frozenBy,
  type TokenizerRecipe,
  type TokenizerStepReport,
} from './tokenizer-recipe';
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

const CODEBOOK = 'quantize.embedding.weight';
const LAST_LAYER = 'decoder.to_pixel.model.weight';
const extraNames = ['perceptual', 'adversarial', 'alignment', 'repa'];

/** Trains a tokenizer, batch by batch. Everything a step changes is in its {@link snapshot}. */
export class TokenizerTrainer {
  readonly config: TokenizerConfig;
  readonly recipe: TokenizerRecipe;
  readonly #seed: number;
  readonly #learner: Learner;
  readonly #terms: readonly LossTerm[];
  readonly #adversary: Adversary | undefined;
  readonly #map: ResolutionMap;
  readonly #graphs = new Map<string, Promise<ReplicatedExecutable>>();
  readonly #codes: CodebookLife;
  #step = 0;

  private constructor(
    options: TokenizerTrainerOptions,
    learner: Learner,
    parts: { readonly terms: readonly LossTerm[]; readonly adversary?: Adversary },
  ) {
    const { config, recipe, seed } = options;
    this.#terms = parts.terms;
    this.#adversary = parts.adversary;
    this.config = config;
    this.recipe = recipe;
    this.#seed = seed;
    this.#learner = learner;
    this.#map = createResolutionMap(resolutionSettings(config));
    this.#codes = new CodebookLife(config.codebookSize, recipe.revival);
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
    const all = [...tokenizerParameters(config), ...terms.flatMap((term) => term.specs)];
    const { specs, frozen } = dividedByFrozen(all, recipe, 'tokenizer');
    const optimiser = { ...recipe.optimiser, average: recipe.averageDecay !== undefined };
    const adversary =
      recipe.adversarial &&
      new Adversary({
        ...{ model: networks.discriminator as Discriminator, recipe: recipe.adversarial },
        ...{ optimiser, seed },
      });
    const others = adversary ? [adversary.group] : [];
    const parameters = new Map([
      ...initialTokenizer({ specs: all, seed, isNormalised: config.normalisedCodebook }),
      ...others.flatMap((group) => [...initialDiscriminator({ specs: group.specs, seed })]),
      ...(options.parameters ?? []),
    ]);
    const learner = await Learner.create({ backends, specs, frozen, optimiser, others, parameters });
    return new TokenizerTrainer(options, learner, { terms, adversary });
  }

  /** Steps made. */
  get step(): number {
    return this.#step;
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
    return this.#graphs.size;
  }

  /**
   * One step on a batch of images [B, 3, S, S] in [-1, 1], S being {@link imageSize}; B is a multiple of the micro-batch.
   * @throws DetailFlowError `diverged` when loss or gradients are not finite: parameters are as before the step;
   *   `shape` for other images
   */
  async train(images: Float32Array): Promise<TokenizerStepReport> {
    const { recipe } = this;
    const step = this.#step;
    const { degradation, correction, sizes } = recipe;
    const variant = drawVariant(this.#map, { seed: this.#seed, step, degradation, correction, sizes });
    const adversary = this.#adversary?.isActive(step) ? this.#adversary : undefined;
    const seen = this.#seenImages(images, variant);
    const microBatch = dividingBatch(seen.count, recipe.microBatch);
    const graph = await this.#graph(variant, microBatch, adversary);
    const batches = await this.#microBatches(seen.images, microBatch, variant, adversary);
    const results = await this.#learner.accumulate(graph, batches);
    const mean = (name: string) =>
      results.reduce((sum, result) => sum + (result[name].data[0] as number), 0) / results.length;
    const loss = mean('loss');
    if (!Number.isFinite(loss)) throw new DetailFlowError('diverged', `step ${step}: the loss is ${loss}`);

    const learningRate = recipe.learningRate * tokenizerSchedule(step, recipe.schedule);
    const judged = adversary && (await this.#judge(adversary, { results, batches, variant }));
    const norm = await this.#learner.update({ step, learningRate, averageDecay: recipe.averageDecay });
    if (judged) await adversary.update(this.#learner, judged, { step, learningRate });
    const usage = this.#countCodes(results, variant);
    const revived = await this.#revive(results);
    this.#step++;
    const extra = extraNames.filter((name) => name in results[0]).map((name) => [name, mean(name)]);
    return {
      step,
      variant,
      images: seen.count,
      loss,
      reconstruction: mean('reconstruction'),
      vq: mean('vq'),
      commit: mean('commit'),
      entropy: mean('entropy'),
      ...(extra.length > 0 && { extra: Object.fromEntries(extra) }),
      ...(judged && { adversary: judged }),
      norm,
      learningRate,
      usage,
      revived,
    };
  }

  /** Parameters, or their running means. */
  parameters(kind: 'current' | 'average' = 'current'): Promise<Arrays> {
    return this.#learner.read(kind === 'current' ? Buffer.parameter : Buffer.average);
  }

  /** Everything that a step changes. */
  async snapshot(): Promise<{ readonly step: number; readonly tensors: Tensors }> {
    const tensors = {
      ...(await this.#learner.snapshot()),
      ...this.#adversary?.snapshot(),
      ...this.#codes.snapshot(),
    };
    return { step: this.#step, tensors };
  }

  /** Goes on from a snapshot. @throws DetailFlowError `weights` when it is of another configuration */
  async restore({ step, tensors }: { readonly step: number; readonly tensors: Tensors }): Promise<void> {
    const takeCodes = this.#codes.restoring(tensors);
    await this.#learner.restore(tensors);
    this.#adversary?.restore(tensors);
    takeCodes();
    this.#step = step;
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#learner.dispose();
  }

  /**
   * The images of a step at their size, and how many they are.
   * @throws DetailFlowError `shape`
   */
  #seenImages(images: Float32Array, variant: StepVariant): { images: Float32Array; count: number } {
    const { imageSize: given } = this;
    const { microBatch, sizes } = this.recipe;
    const plane = 3 * given ** 2;
    const batch = images.length / plane;
    if (!Number.isInteger(batch / microBatch) || batch < 1) {
      throw new DetailFlowError(
        'shape',
        `${images.length} values are no batch: give images [B, 3, ${given}, ${given}] with B a multiple of ${microBatch}`,
      );
    }
    const { size } = imagesOf(this.config, variant);
    const count = sizes ? keptImages(batch, size, sizes) : batch;
    const kept = images.subarray(0, count * plane);
    if (size === given) return { images: kept, count };
    const square = { height: size, width: size };
    return { images: resizeImages(kept, [count, 3, given, given], square, 'degradation'), count };
  }

  #graph(
    variant: StepVariant,
    microBatch: number,
    adversary: Adversary | undefined,
  ): Promise<ReplicatedExecutable> {
    const { config, recipe } = this;
    const { pixelLoss, pixelWeight, quantiser } = recipe;
    const correction = variant.noiseIndex !== null;
    const image = imagesOf(config, variant);
    const key = [correction, adversary !== undefined, image.size, microBatch].join(' ');
    const known = this.#graphs.get(key);
    if (known) return known;
    const graph = tokenizerStepGraph({
      ...{ config, microBatch, correction, image, pixelLoss, pixelWeight, quantiser },
      isFrozen: frozenBy(recipe),
      hiddenLayer: this.#terms.find(({ hiddenLayer }) => hiddenLayer !== undefined)?.hiddenLayer,
      extraSpecs: this.#terms.flatMap(({ specs }) => specs),
      outputPixels: adversary !== undefined,
      extraLosses: (context) => this.#extraLosses(context, adversary),
    });
    const weights = new Map([
      ...this.#terms.flatMap((term) => [...(term.weights ?? [])]),
      ...(adversary?.model.fixed?.weights ?? []),
    ]);
    const made = this.#learner.compile(graph, { weights });
    this.#graphs.set(key, made);
    return made;
  }

  /** The terms of the loss beyond pixels and quantiser. */
  #extraLosses(context: LossContext, adversary: Adversary | undefined): Record<string, Value> {
    const { graph, parameter, pixels, pixelWeights, reconstruction } = context;
    const losses: Record<string, Value> = {};
    for (const term of this.#terms) losses[term.name] = term.loss(context);
    if (adversary) {
      const { weight, adaptive, generatorLoss: kind } = adversary.recipe;
      const term = generatorLoss(graph, adversary.model, { pixels, pixelWeights }, kind);
      const seen = losses.perceptual ? add(reconstruction, losses.perceptual) : reconstruction;
      const factor = adaptive ? mul(adaptiveWeight(seen, term, parameter(LAST_LAYER)), weight) : weight;
      losses.adversarial = mul(term, factor);
    }
    return losses;
  }

  async #microBatches(
    images: Float32Array,
    batch: number,
    variant: StepVariant,
    adversary: Adversary | undefined,
  ): Promise<Tensors[]> {
    const image: StepImages = imagesOf(this.config, variant);
    const plane = 3 * image.size ** 2;
    const isCorrected = variant.noiseIndex !== null;
    const moment = {
      ...{ seed: this.#seed, step: this.#step, canvas: image.size, size: variant.size, isCorrected },
    };
    const shared = variantFeeds(this.config, variant);
    const dims = [batch, 3, image.size, image.size];
    const feeds: Tensors[] = [];
    for (let place = 0; place < images.length / (plane * batch); place++) {
      const part = images.slice(place * batch * plane, (place + 1) * batch * plane);
      const tensor = new Tensor('float32', part, dims);
      const target = new Tensor('float32', variantTarget(part, dims, variant), dims);
      const at = { seed: this.#seed, step: this.#step, image: place * batch, batch, tokens: image.tokens };
      const judged = { place, images: isCorrected ? 2 * batch : batch };
      const own: Record<string, Tensor> = { ...shared, images: tensor, target };
      if (isCorrected) own.ranks = drawRanks(this.config, at);
      Object.assign(own, adversary?.generatorFeeds(moment, judged));
      for (const term of this.#terms)
        Object.assign(own, await term.feeds(moment, { place, images: tensor, target }));
      feeds.push(own);
    }
    return feeds;
  }

  /** Gradients of the discriminator, from what was restored. */
  #judge(
    adversary: Adversary,
    step: { results: readonly Tensors[]; batches: readonly Tensors[]; variant: StepVariant },
  ): Promise<AdversaryReport> {
    const { results, batches, variant } = step;
    const { size } = variant;
    const { size: canvas } = imagesOf(this.config, variant);
    const pairs = results.map(({ pixels: fake }, i) => ({ real: repeated(batches[i].target, fake), fake }));
    const { pixelWeights } = batches[0];
    return adversary.accumulate(this.#learner, pairs, { step: this.#step, size, canvas, pixelWeights });
  }

  /** Takes in the codes of all passes; in a self-correction step they count by their number of tokens. */
  #countCodes(results: readonly Record<string, Tensor>[], variant: StepVariant): number {
    const { noiseIndex } = variant;
    const { tokens } = imagesOf(this.config, variant);
    const clean = joined(results.map(({ codes }) => codes.data as Int32Array));
    const usage = this.#codes.see(clean, this.#step);
    if (noiseIndex === null) return usage;
    const end = noiseEnd(this.config, noiseIndex);
    const fresh = joined(results.map((result) => result.fresh.data as Int32Array)).filter(
      (_, i) => i % tokens >= end,
    );
    const freshUsage = this.#codes.see(fresh, this.#step);
    return (usage * tokens + freshUsage * (tokens - end)) / (2 * tokens - end);
  }

  /** Dead codes become latents of this batch. */
  async #revive(results: readonly Record<string, Tensor>[]): Promise<number> {
    if (frozenBy(this.recipe)(CODEBOOK)) return 0;
    const { steps } = this.recipe.schedule;
    const codebook = { name: CODEBOOK, width: this.config.codebookDim };
    const latents = results.map(({ unit }) => unit);
    return this.#codes.revive(this.#learner, codebook, latents, {
      ...{ seed: this.#seed, step: this.#step, steps },
    });
  }
}
