import {
  add,
  type Backend,
  DetailFlowError,
  type Graph,
  mul,
  type ParameterSpec,
  type Tensor,
  type Tensors,
  type Value,
} from '@detailflow/core';
import { CodebookLife } from './codebook-life';
import type { Arrays } from './initialise';
import { Learner, type ReplicatedExecutable } from './learner';
import { adaptiveWeight, generatorLoss } from './losses/adversarial';
import { Adversary, type AdversaryReport } from './losses/adversary';
import type { Discriminator } from './losses/discriminator';
import type { LossTerm, StepMoment, StepPart } from './losses/loss-term';
import { Buffer, type OptimiserOptions } from './optimiser';
import { tokenizerSchedule } from './schedule';
import type { ImageLossContext } from './tokenizer-graph';
import {
  dividedByFrozen,
  frozenBy,
  type TokenizerRecipe,
  type TokenizerStepReport,
} from './tokenizer-recipe';

/** What of a recipe holds for a tokenizer of any kind. */
type Recipe = Pick<
  TokenizerRecipe,
  | 'learningRate'
  | 'schedule'
  | 'optimiser'
  | 'averageDecay'
  | 'finetuneDecoder'
  | 'frozen'
  | 'revival'
  | 'adversarial'
>;

/** What the learning of a tokenizer is made of. */
export interface TokenizerLearningOptions<Context extends ImageLossContext> {
  readonly recipe: Recipe;
  readonly backends: readonly Backend[];
  readonly seed: number;
  readonly terms: readonly LossTerm<Context>[];
  readonly discriminator?: Discriminator;
  /** All parameters but those of the discriminator, their drawn beginnings, and those that take their place. */
  readonly specs: readonly ParameterSpec[];
  readonly drawn: Arrays;
  readonly given?: Arrays;
  readonly decays?: OptimiserOptions['decays'];
  /** The parameter [size, width] of the codes, and the weight that the pixels come from. */
  readonly codebook: { readonly name: string; readonly size: number; readonly width: number };
  readonly lastLayer: string;
}

/** What a step computes, and how the discriminator is to see it. */
export interface LearningStep {
  /** The graph, or one for each micro-batch. */
  readonly graph: ReplicatedExecutable | readonly ReplicatedExecutable[];
  /** What each micro-batch is fed. */
  readonly batches: readonly Tensors[];
  /** The output with the vectors [B, n, d] that dead codes become. */
  readonly vectors: string;
  /** Takes in the codes of the micro-batches. @returns the share of the codebook in use */
  count(results: readonly Record<string, Tensor>[], codes: CodebookLife): number;
  /**
   * The images that restored ones [B, 3, S, S] are told from; their side, that of the canvas, and the weights of pixels. Micro-batches
   * with as many images and all of this alike are the first `count`, and so on.
   * @param first the micro-batch that is asked about
   */
  judging(first: number): {
    readonly count: number;
    readonly real: (batch: Tensors, fake: Tensor) => Tensor;
    readonly size: number;
    readonly canvas: number;
    readonly pixelWeights: Tensor;
  };
}

const extraNames = ['perceptual', 'adversarial', 'alignment', 'repa'];

/**
 * What a tokenizer of any kind has in training beside its own graph: parameters and optimiser, further losses, the discriminator, the life
 * of its codebook, and the order of a step. Everything a step changes is in its {@link snapshot}.
 */
export class TokenizerLearning<Context extends ImageLossContext> {
  readonly #options: TokenizerLearningOptions<Context>;
  readonly #learner: Learner;
  readonly #adversary: Adversary | undefined;
  readonly #graphs = new Map<string, Promise<ReplicatedExecutable>>();
  readonly #codes: CodebookLife;
  #step = 0;

  private constructor(
    options: TokenizerLearningOptions<Context>,
    learner: Learner,
    adversary: Adversary | undefined,
  ) {
    this.#options = options;
    this.#learner = learner;
    this.#adversary = adversary;
    this.#codes = new CodebookLife(options.codebook.size, options.recipe.revival);
  }

  /** @throws DetailFlowError `config` when nothing is left to learn, `weights` when given parameters do not fit */
  static async create<Context extends ImageLossContext>(
    options: TokenizerLearningOptions<Context>,
  ): Promise<TokenizerLearning<Context>> {
    const { recipe, backends, seed, decays, discriminator: model } = options;
    const { specs, frozen } = dividedByFrozen(options.specs, recipe, 'tokenizer');
    const average = recipe.averageDecay !== undefined;
    const adversary =
      recipe.adversarial &&
      new Adversary({
        ...{ model: model as Discriminator, recipe: recipe.adversarial },
        ...{ optimiser: recipe.optimiser, seed },
      });
    const others = adversary ? [adversary.group] : [];
    const learner = await Learner.create({
      ...{ backends, specs, frozen, others },
      optimiser: { ...recipe.optimiser, average, ...(decays && { decays }) },
      parameters: new Map([
        ...options.drawn,
        ...(adversary?.initialParameters() ?? []),
        ...(options.given ?? []),
      ]),
    });
    return new TokenizerLearning(options, learner, adversary);
  }

  /** Steps made. */
  get step(): number {
    return this.#step;
  }

  /** Graphs compiled so far. */
  get graphs(): number {
    return this.#graphs.size;
  }

  /** The discriminator, where it plays at this step. */
  get adversary(): Adversary | undefined {
    return this.#adversary?.isActive(this.#step) ? this.#adversary : undefined;
  }

  /** A graph by its key, compiled with the networks of losses when it is first asked for. */
  graph(key: string, build: () => Graph): Promise<ReplicatedExecutable> {
    const known = this.#graphs.get(key);
    if (known) return known;
    const weights = new Map([
      ...this.#options.terms.flatMap((term) => [...(term.weights ?? [])]),
      ...(this.#adversary?.model.fixed?.weights ?? []),
    ]);
    const made = this.#learner.compile(build(), { weights });
    this.#graphs.set(key, made);
    return made;
  }

  /** The terms of the loss beyond pixels and quantiser, with that of the discriminator where there is one. */
  extraLosses(context: Context, adversary: Adversary | undefined): Record<string, Value> {
    const { graph, parameter, pixels, pixelWeights, reconstruction } = context;
    const losses: Record<string, Value> = {};
    for (const term of this.#options.terms) losses[term.name] = term.loss(context);
    if (adversary) {
      const { weight, adaptive, generatorLoss: kind } = adversary.recipe;
      const term = generatorLoss(graph, adversary.model, { pixels, pixelWeights }, kind);
      const seen = losses.perceptual ? add(reconstruction, losses.perceptual) : reconstruction;
      const last = parameter(this.#options.lastLayer);
      losses.adversarial = mul(term, adaptive ? mul(adaptiveWeight(seen, term, last), weight) : weight);
    }
    return losses;
  }

  /** What the further losses are fed for a micro-batch, of which as many images are restored. */
  async extraFeeds(
    moment: StepMoment,
    { restored, ...part }: StepPart & { readonly restored: number },
  ): Promise<Tensors> {
    const feeds: Record<string, Tensor> = {
      ...this.adversary?.generatorFeeds(moment, { place: part.place, images: restored }),
    };
    for (const term of this.#options.terms) Object.assign(feeds, await term.feeds(moment, part));
    return feeds;
  }

  /**
   * One step: gradients of all micro-batches and of the discriminator, then all that learns is moved, and dead codes come back.
   * @throws DetailFlowError `diverged` when loss or gradients are not finite: parameters are as before the step
   */
  async train(part: LearningStep): Promise<Omit<TokenizerStepReport, 'variant' | 'images'>> {
    const { recipe } = this.#options;
    const step = this.#step;
    const { adversary } = this;
    const results = await this.#learner.accumulate(part.graph, part.batches);
    const mean = (name: string) =>
      results.reduce((sum, result) => sum + (result[name].data[0] as number), 0) / results.length;
    const loss = mean('loss');
    if (!Number.isFinite(loss)) throw new DetailFlowError('diverged', `step ${step}: the loss is ${loss}`);

    const learningRate = recipe.learningRate * tokenizerSchedule(step, recipe.schedule);
    const judged = adversary && (await this.#judge(adversary, results, part));
    const norm = await this.#learner.update({ step, learningRate, averageDecay: recipe.averageDecay });
    if (judged) await adversary.update(this.#learner, judged, { step, learningRate });
    const usage = part.count(results, this.#codes);
    const revived = await this.#revive(results.map((result) => result[part.vectors]));
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
  parameters(kind: 'current' | 'average'): Promise<Arrays> {
    return this.#learner.read(kind === 'current' ? Buffer.parameter : Buffer.average);
  }

  async snapshot(): Promise<{ readonly step: number; readonly tensors: Tensors }> {
    const tensors = {
      ...(await this.#learner.snapshot()),
      ...this.#adversary?.snapshot(),
      ...this.#codes.snapshot(),
    };
    return { step: this.#step, tensors };
  }

  /** @throws DetailFlowError `weights` when the snapshot is of another configuration */
  async restore({ step, tensors }: { readonly step: number; readonly tensors: Tensors }): Promise<void> {
    const takeCodes = this.#codes.restoring(tensors);
    await this.#learner.restore(tensors);
    this.#adversary?.restore(tensors);
    takeCodes();
    this.#step = step;
  }

  async dispose(): Promise<void> {
    await this.#learner.dispose();
  }

  /** Gradients of the discriminator, from what was restored. */
  async #judge(
    adversary: Adversary,
    results: readonly Tensors[],
    { batches, judging }: LearningStep,
  ): Promise<AdversaryReport> {
    const found = { discriminator: 0, judgedReal: 0, judgedFake: 0 };
    for (let first = 0; first < results.length; ) {
      const { real, count, ...images } = judging(first);
      const pairs = results.slice(first, first + count).map(({ pixels: fake }, i) => ({
        ...{ real: real(batches[first + i], fake), fake },
      }));
      const step = this.#step;
      const part = await adversary.accumulate(this.#learner, pairs, { step, first, ...images });
      for (const name of ['discriminator', 'judgedReal', 'judgedFake'] as const)
        found[name] += (part[name] * pairs.length) / results.length;
      first += count;
    }
    return found;
  }

  /** Dead codes become vectors of this batch. */
  async #revive(vectors: readonly Tensor[]): Promise<number> {
    const { recipe, codebook, seed } = this.#options;
    if (frozenBy(recipe)(codebook.name)) return 0;
    const { steps } = recipe.schedule;
    return this.#codes.revive(this.#learner, codebook, vectors, { seed, step: this.#step, steps });
  }
}

/**
 * How many images [B, 3, S, S] a batch has, a multiple of the micro-batch.
 * @throws DetailFlowError `shape`
 */
export function imagesOfBatch(
  images: Float32Array,
  { imageSize: size, microBatch }: { readonly imageSize: number; readonly microBatch: number },
): number {
  const count = images.length / (3 * size ** 2);
  if (Number.isInteger(count / microBatch) && count >= 1) return count;
  throw new DetailFlowError(
    'shape',
    `${images.length} values are no batch: give images [B, 3, ${size}, ${size}] with B a multiple of ${microBatch}`,
  );
}
