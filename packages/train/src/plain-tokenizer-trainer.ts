import type { TrainableTokenizer } from '@detailflow/blocks';
import {
  add,
  type Backend,
  checkOptions,
  DetailFlowError,
  mul,
  Tensor,
  type Tensors,
  type Value,
} from '@detailflow/core';
import { CodebookLife } from './codebook-life';
import { type Arrays, initialDiscriminator, initialise } from './initialise';
import { Learner, type ReplicatedExecutable } from './learner';
import { adaptiveWeight, generatorLoss } from './losses/adversarial';
import { Adversary } from './losses/adversary';
import type { Discriminator } from './losses/discriminator';
import { imageLossTerms, type LossNetworks } from './losses/loss-networks';
import type { LossTerm } from './losses/loss-term';
import { Buffer } from './optimiser';
import { plainTokenizerStepGraph } from './plain-tokenizer-graph';
import type { PlainTokenizerRecipe, PlainTokenizerStepReport } from './plain-tokenizer-recipe';
import { tokenizerSchedule } from './schedule';
import { joined } from './tensor-parts';
import type { ImageLossContext } from './tokenizer-graph';
import { dividedByFrozen, frozenBy } from './tokenizer-recipe';

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

const extraNames = ['perceptual', 'adversarial'];

/**
 * Trains a tokenizer that restores whole images from whole codes, batch by batch. Everything a step changes is in its
 * {@link snapshot}.
 */
export class PlainTokenizerTrainer {
  readonly model: TrainableTokenizer;
  readonly recipe: PlainTokenizerRecipe;
  readonly #seed: number;
  readonly #learner: Learner;
  readonly #terms: readonly LossTerm<ImageLossContext>[];
  readonly #adversary: Adversary | undefined;
  readonly #graphs = new Map<boolean, Promise<ReplicatedExecutable>>();
  readonly #codes: CodebookLife;
  #step = 0;

  private constructor(
    { model, recipe, seed }: PlainTokenizerTrainerOptions,
    learner: Learner,
    parts: { readonly terms: readonly LossTerm<ImageLossContext>[]; readonly adversary?: Adversary },
  ) {
    this.model = model;
    this.recipe = recipe;
    this.#seed = seed;
    this.#learner = learner;
    this.#terms = parts.terms;
    this.#adversary = parts.adversary;
    this.#codes = new CodebookLife(model.codebookSize, recipe.revival);
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
    const terms = imageLossTerms(recipe, networks);
    const { specs, frozen } = dividedByFrozen(model.specs, recipe, 'tokenizer');
    const average = recipe.averageDecay !== undefined;
    const optimiser = { ...recipe.optimiser, average, ...(model.decays && { decays: model.decays }) };
    const adversary =
      recipe.adversarial &&
      new Adversary({
        ...{ model: networks.discriminator as Discriminator, recipe: recipe.adversarial },
        ...{ optimiser: recipe.optimiser, seed },
      });
    const others = adversary ? [adversary.group] : [];
    const parameters = new Map([
      ...initialise(model.specs, seed, model.initial),
      ...others.flatMap((group) => [...initialDiscriminator({ specs: group.specs, seed })]),
      ...(options.parameters ?? []),
    ]);
    const learner = await Learner.create({ backends, specs, frozen, optimiser, others, parameters });
    return new PlainTokenizerTrainer(options, learner, { terms, adversary });
  }

  /** Steps made. */
  get step(): number {
    return this.#step;
  }

  /** Side in pixels of the images that a step is given. */
  get imageSize(): number {
    return this.model.imageSize;
  }

  /** Graphs of the loss compiled so far: one, and another with a discriminator. */
  get graphs(): number {
    return this.#graphs.size;
  }

  /**
   * One step on a batch of images [B, 3, S, S] in [-1, 1]; B is a multiple of the micro-batch.
   * @throws DetailFlowError `diverged` when loss or gradients are not finite: parameters are as before the step;
   *   `shape` for other images
   */
  async train(images: Float32Array): Promise<PlainTokenizerStepReport> {
    const { recipe } = this;
    const step = this.#step;
    const adversary = this.#adversary?.isActive(step) ? this.#adversary : undefined;
    const batches = await this.#microBatches(images, adversary);
    const results = await this.#learner.accumulate(await this.#graph(adversary), batches);
    const mean = (name: string) =>
      results.reduce((sum, result) => sum + (result[name].data[0] as number), 0) / results.length;
    const loss = mean('loss');
    if (!Number.isFinite(loss)) throw new DetailFlowError('diverged', `step ${step}: the loss is ${loss}`);

    const learningRate = recipe.learningRate * tokenizerSchedule(step, recipe.schedule);
    const judged = adversary && (await this.#judge(adversary, results, batches));
    const norm = await this.#learner.update({ step, learningRate, averageDecay: recipe.averageDecay });
    if (judged) await adversary.update(this.#learner, judged, { step, learningRate });
    const usage = this.#codes.see(joined(results.map(({ codes }) => codes.data as Int32Array)), step);
    const revived = await this.#revive(results);
    this.#step++;
    const extra = extraNames.filter((name) => name in results[0]).map((name) => [name, mean(name)]);
    return {
      ...{ step, loss, reconstruction: mean('reconstruction') },
      ...{ vq: mean('vq'), commit: mean('commit'), entropy: mean('entropy') },
      ...(extra.length > 0 && { extra: Object.fromEntries(extra) }),
      ...(judged && { adversary: judged }),
      ...{ norm, learningRate, usage, revived },
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

  #graph(adversary: Adversary | undefined): Promise<ReplicatedExecutable> {
    const key = adversary !== undefined;
    const known = this.#graphs.get(key);
    if (known) return known;
    const { model, recipe } = this;
    const graph = plainTokenizerStepGraph({
      ...{ model, recipe, microBatch: recipe.microBatch },
      ...{ isFrozen: frozenBy(recipe), outputPixels: key },
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

  #extraLosses(context: ImageLossContext, adversary: Adversary | undefined): Record<string, Value> {
    const { graph, parameter, reconstruction } = context;
    const losses: Record<string, Value> = {};
    for (const term of this.#terms) losses[term.name] = term.loss(context);
    if (adversary) {
      const { weight, adaptive, generatorLoss: kind } = adversary.recipe;
      const term = generatorLoss(graph, adversary.model, context, kind);
      const seen = losses.perceptual ? add(reconstruction, losses.perceptual) : reconstruction;
      const last = parameter(this.model.lastLayer);
      losses.adversarial = mul(term, adaptive ? mul(adaptiveWeight(seen, term, last), weight) : weight);
    }
    return losses;
  }

  /** @throws DetailFlowError `shape` */
  async #microBatches(images: Float32Array, adversary: Adversary | undefined): Promise<Tensors[]> {
    const { imageSize: size } = this.model;
    const { microBatch } = this.recipe;
    const length = microBatch * 3 * size ** 2;
    const count = images.length / length;
    if (!Number.isInteger(count) || count < 1) {
      throw new DetailFlowError(
        'shape',
        `${images.length} values are no batch: give images [B, 3, ${size}, ${size}] with B a multiple of ${microBatch}`,
      );
    }
    const moment = { seed: this.#seed, step: this.#step, canvas: size, size, isCorrected: false };
    const feeds: Tensors[] = [];
    for (let place = 0; place < count; place++) {
      const part = images.slice(place * length, (place + 1) * length);
      const target = new Tensor('float32', part, [microBatch, 3, size, size]);
      const own: Record<string, Tensor> = { images: target };
      Object.assign(own, adversary?.generatorFeeds(moment, { place, images: microBatch }));
      for (const term of this.#terms)
        Object.assign(own, await term.feeds(moment, { place, images: target, target }));
      feeds.push(own);
    }
    return feeds;
  }

  /** Gradients of the discriminator, from what was restored. */
  #judge(adversary: Adversary, results: readonly Tensors[], batches: readonly Tensors[]) {
    const { imageSize: size } = this.model;
    const weights = new Float32Array(size * size).fill(1 / size ** 2);
    const pixelWeights = new Tensor('float32', weights, [1, 1, size, size]);
    const pairs = results.map(({ pixels: fake }, i) => ({ real: batches[i].images, fake }));
    return adversary.accumulate(this.#learner, pairs, { step: this.#step, size, canvas: size, pixelWeights });
  }

  /** Dead codes become vectors of this batch. */
  async #revive(results: readonly Tensors[]): Promise<number> {
    const { codebook: name, specs } = this.model;
    if (frozenBy(this.recipe)(name)) return 0;
    const width = specs.find((spec) => spec.name === name)?.shape[1] as number;
    const vectors = results.map((result) => result.vectors);
    const at = { seed: this.#seed, step: this.#step, steps: this.recipe.schedule.steps };
    return this.#codes.revive(this.#learner, { name, width }, vectors, at);
  }
}
