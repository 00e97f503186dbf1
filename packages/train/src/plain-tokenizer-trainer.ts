import type { TrainableTokenizer } from '@detailflow/blocks';
import { type Backend, checkOptions, Tensor, type Tensors } from '@detailflow/core';
import { type Arrays, initialise } from './initialise';
import type { ReplicatedExecutable } from './learner';
import { imageLossTerms, type LossNetworks, requireJudgeable } from './losses/loss-networks';
import { plainTokenizerStepGraph } from './plain-tokenizer-graph';
import type { PlainTokenizerRecipe, PlainTokenizerStepReport } from './plain-tokenizer-recipe';
import { joined } from './tensor-parts';
import type { ImageLossContext } from './tokenizer-graph';
import { imagesOfBatch, TokenizerLearning } from './tokenizer-learning';
import { frozenBy } from './tokenizer-recipe';

/** What a trainer of a tokenizer of whole images is made of. */
export interface PlainTokenizerTrainerOptions {
  readonly model: TrainableTokenizer;
  readonly recipe: PlainTokenizerRecipe;
  /** Each computes a micro-batch at the same time as the others. */
  readonly backends: readonly Backend[];
  readonly seed: number;
  readonly networks?: Pick<LossNetworks, 'perceptual' | 'discriminator'>;
  /** Parameters to begin with; those that are not among them are drawn from the seed. */
  readonly parameters?: Arrays;
}

/**
 * Trains a tokenizer that restores whole images from whole codes, batch by batch. Everything a step changes is in its
 * {@link snapshot}.
 */
export class PlainTokenizerTrainer {
  readonly model: TrainableTokenizer;
  readonly recipe: PlainTokenizerRecipe;
  readonly #seed: number;
  readonly #learning: TokenizerLearning<ImageLossContext>;

  private constructor(
    { model, recipe, seed }: PlainTokenizerTrainerOptions,
    learning: TokenizerLearning<ImageLossContext>,
  ) {
    this.model = model;
    this.recipe = recipe;
    this.#seed = seed;
    this.#learning = learning;
  }

  /**
   * Begins with drawn parameters, or with those given.
   * @throws DetailFlowError `config` when a loss of the recipe has no network, or nothing is left to learn
   */
  static async create(options: PlainTokenizerTrainerOptions): Promise<PlainTokenizerTrainer> {
    checkOptions('PlainTokenizerTrainer.create', options, {
      ...{ model: true, recipe: true, backends: true, seed: true, networks: true, parameters: true },
    });
    const { model, recipe, seed, backends, networks = {} } = options;
    const { specs, codebook: name, decays, lastLayer } = model;
    const terms = imageLossTerms(recipe, networks);
    requireJudgeable(recipe, networks, model.imageSize);
    const width = specs.find((spec) => spec.name === name)?.shape[1] as number;
    const learning = await TokenizerLearning.create({
      ...{ recipe, backends, seed, specs, decays, lastLayer },
      ...{ terms, discriminator: networks.discriminator },
      ...{ drawn: initialise(specs, seed, model.initial), given: options.parameters },
      codebook: { name, size: model.codebookSize, width },
    });
    return new PlainTokenizerTrainer(options, learning);
  }

  /** Steps made. */
  get step(): number {
    return this.#learning.step;
  }

  /** Side in pixels of the images that a step is given. */
  get imageSize(): number {
    return this.model.imageSize;
  }

  /** Graphs of the loss compiled so far: one, and another with a discriminator. */
  get graphs(): number {
    return this.#learning.graphs;
  }

  /**
   * One step on a batch of images [B, 3, S, S] in [-1, 1]; B is a multiple of the micro-batch.
   * @throws DetailFlowError `diverged` when loss or gradients are not finite: parameters are as before the step;
   *   `shape` for other images
   */
  async train(images: Float32Array): Promise<PlainTokenizerStepReport> {
    const { imageSize: size } = this;
    const { step } = this.#learning;
    const batches = await this.#microBatches(images);
    return this.#learning.train({
      ...{ graph: await this.#graph(), batches, vectors: 'vectors' },
      count: (results, life) => life.see(joined(results.map(({ codes }) => codes.data as Int32Array)), step),
      judging: () => {
        const weights = new Float32Array(size * size).fill(1 / size ** 2);
        const pixelWeights = new Tensor('float32', weights, [1, 1, size, size]);
        const count = batches.length;
        return { real: (batch) => batch.images, count, size, canvas: size, pixelWeights };
      },
    });
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

  #graph(): Promise<ReplicatedExecutable> {
    const { model, recipe } = this;
    const { adversary } = this.#learning;
    const outputPixels = adversary !== undefined;
    return this.#learning.graph(`${outputPixels}`, () =>
      plainTokenizerStepGraph({
        ...{ model, recipe, microBatch: recipe.microBatch, outputPixels, isFrozen: frozenBy(recipe) },
        extraLosses: (context) => this.#learning.extraLosses(context, adversary),
      }),
    );
  }

  async #microBatches(images: Float32Array): Promise<Tensors[]> {
    const { imageSize: size } = this.model;
    const { microBatch } = this.recipe;
    const count = imagesOfBatch(images, { imageSize: size, microBatch }) / microBatch;
    const length = microBatch * 3 * size ** 2;
    const moment = { seed: this.#seed, step: this.step, canvas: size, size, isCorrected: false };
    const feeds: Tensors[] = [];
    for (let place = 0; place < count; place++) {
      const part = images.slice(place * length, (place + 1) * length);
      const target = new Tensor('float32', part, [microBatch, 3, size, size]);
      const more = await this.#learning.extraFeeds(moment, {
        ...{ place, images: target, target, restored: microBatch },
      });
      feeds.push({ images: target, ...more });
    }
    return feeds;
  }
}
