import { type Backend, DetailFlowError, Tensor, type Tensors } from '@detailflow/core';
import {
  CodebookUsage,
  createResolutionMap,
  type QuantiserLossOptions,
  type ResolutionMap,
  resolutionSettings,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import { type Arrays, initialTokenizer } from './initialise';
import { Learner, type ReplicatedExecutable } from './learner';
import { Buffer, type OptimiserOptions } from './optimiser';
import { CodeRevival, type RevivalOptions } from './revival';
import { type ScheduleOptions, tokenizerSchedule } from './schedule';
import { type PixelLoss, tokenizerStepGraph } from './tokenizer-graph';
import {
  drawRanks,
  drawVariant,
  noiseEnd,
  type StepVariant,
  variantFeeds,
  variantTarget,
} from './tokenizer-variant';

/** How a tokenizer is trained. Source: docs/method.md section 5. */
export interface TokenizerRecipe {
  /** Images of one run of a graph; a batch is several runs. */
  readonly microBatch: number;
  readonly learningRate: number;
  readonly schedule: ScheduleOptions;
  readonly optimiser: OptimiserOptions;
  /** Share of the running mean of the parameters that stays at a step; none is kept without it. */
  readonly averageDecay?: number;
  /** Probability of a step with fewer tokens (`degradation_prob`). */
  readonly degradation: number;
  /** Probability of a self-correction step. */
  readonly correction: number;
  readonly pixelLoss: PixelLoss;
  readonly quantiser: QuantiserLossOptions;
  readonly revival?: RevivalOptions;
}

export interface TokenizerTrainerOptions {
  readonly config: TokenizerConfig;
  readonly recipe: TokenizerRecipe;
  /** Each computes a micro-batch at the same time as the others. */
  readonly backends: readonly Backend[];
  readonly seed: number;
  /** Parameters to begin with; drawn from the seed if omitted. */
  readonly parameters?: Arrays;
}

/** What a step did. */
export interface TokenizerStepReport {
  readonly step: number;
  readonly variant: StepVariant;
  readonly loss: number;
  readonly reconstruction: number;
  readonly vq: number;
  readonly commit: number;
  readonly entropy: number;
  /** Norm of the gradients before clipping. */
  readonly norm: number;
  readonly learningRate: number;
  /** Share of the codebook among the latest 65536 codes. */
  readonly usage: number;
  /** Codes that were dead and got a new life. */
  readonly revived: number;
}

const RING = 'codebook.ring';
const LAST_USE = 'codebook.lastUse';

/** Trains a tokenizer, batch by batch. Everything a step changes is in its {@link snapshot}. */
export class TokenizerTrainer {
  readonly config: TokenizerConfig;
  readonly recipe: TokenizerRecipe;
  readonly #seed: number;
  readonly #learner: Learner;
  readonly #map: ResolutionMap;
  readonly #graphs = new Map<boolean, Promise<ReplicatedExecutable>>();
  #usage: CodebookUsage;
  #revival: CodeRevival | undefined;
  #step = 0;

  private constructor({ config, recipe, seed }: TokenizerTrainerOptions, learner: Learner) {
    this.config = config;
    this.recipe = recipe;
    this.#seed = seed;
    this.#learner = learner;
    this.#map = createResolutionMap(resolutionSettings(config));
    this.#usage = new CodebookUsage(config.codebookSize);
    this.#revival = recipe.revival && new CodeRevival(config.codebookSize, recipe.revival);
  }

  static async create(options: TokenizerTrainerOptions): Promise<TokenizerTrainer> {
    const { config, recipe, seed, backends } = options;
    if (recipe.correction > 0 && !config.correction) {
      throw new DetailFlowError(
        'config',
        `the probability of self-correction is ${recipe.correction}, but the tokenizer has no refine_conv; set it to 0`,
      );
    }
    const specs = tokenizerParameters(config);
    const parameters = options.parameters ?? initialTokenizer({ specs, seed });
    const optimiser = { ...recipe.optimiser, average: recipe.averageDecay !== undefined };
    return new TokenizerTrainer(options, await Learner.create({ backends, specs, optimiser, parameters }));
  }

  /** Steps made. */
  get step(): number {
    return this.#step;
  }

  /** Graphs of loss and gradient compiled so far: at most two, whatever the variants. */
  get graphs(): number {
    return this.#graphs.size;
  }

  /**
   * One step on a batch of images [B, 3, S, S] in [-1, 1]; B is a multiple of the micro-batch.
   * @throws DetailFlowError `diverged` when loss or gradients are not finite: parameters are as before the step;
   *   `shape` for other images
   */
  async train(images: Float32Array): Promise<TokenizerStepReport> {
    const { recipe } = this;
    const step = this.#step;
    const variant = drawVariant(this.#map, { seed: this.#seed, step, ...recipe });
    const isCorrected = variant.noiseIndex !== null;
    const graph = await this.#graph(isCorrected);
    const results = await this.#learner.accumulate(graph, this.#microBatches(images, variant));
    const mean = (name: string) =>
      results.reduce((sum, result) => sum + (result[name].data[0] as number), 0) / results.length;
    const loss = mean('loss');
    if (!Number.isFinite(loss)) throw new DetailFlowError('diverged', `step ${step}: the loss is ${loss}`);

    const learningRate = recipe.learningRate * tokenizerSchedule(step, recipe.schedule);
    const norm = await this.#learner.update({ step, learningRate, averageDecay: recipe.averageDecay });
    const usage = this.#countCodes(results, variant);
    const revived = await this.#revive(results);
    this.#step++;
    return {
      step,
      variant,
      loss,
      reconstruction: mean('reconstruction'),
      vq: mean('vq'),
      commit: mean('commit'),
      entropy: mean('entropy'),
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
    const ring = this.#usage.ring();
    const tensors = { ...(await this.#learner.snapshot()), [RING]: new Tensor('int32', ring, [ring.length]) };
    const lastUse = this.#revival?.lastUse();
    if (lastUse) Object.assign(tensors, { [LAST_USE]: new Tensor('int32', lastUse, [lastUse.length]) });
    return { step: this.#step, tensors };
  }

  /** Goes on from a snapshot. @throws DetailFlowError `weights` when it is of another configuration */
  async restore({ step, tensors }: { readonly step: number; readonly tensors: Tensors }): Promise<void> {
    const { codebookSize } = this.config;
    const integers = (name: string) => {
      const found = tensors[name];
      if (found?.type === 'int32') return found.data as Int32Array;
      throw new DetailFlowError('weights', 'the checkpoint does not have this tensor', { entry: name });
    };
    const usage = new CodebookUsage(codebookSize, integers(RING));
    const revival =
      this.recipe.revival && new CodeRevival(codebookSize, this.recipe.revival, integers(LAST_USE));
    await this.#learner.restore(tensors);
    this.#usage = usage;
    this.#revival = revival;
    this.#step = step;
  }

  async dispose(): Promise<void> {
    await this.#learner.dispose();
  }

  #graph(correction: boolean): Promise<ReplicatedExecutable> {
    const { config, recipe } = this;
    const { microBatch, pixelLoss, quantiser } = recipe;
    const known = this.#graphs.get(correction);
    if (known) return known;
    const made = this.#learner.compile(
      tokenizerStepGraph({ config, microBatch, correction, pixelLoss, quantiser }),
    );
    this.#graphs.set(correction, made);
    return made;
  }

  #microBatches(images: Float32Array, variant: StepVariant): Tensors[] {
    const { imageSize } = this.config;
    const { microBatch: batch } = this.recipe;
    const size = 3 * imageSize ** 2;
    const count = images.length / (size * batch);
    if (!Number.isInteger(count) || count < 1) {
      throw new DetailFlowError(
        'shape',
        `${images.length} values are no batch: give images [B, 3, ${imageSize}, ${imageSize}] with B a multiple of ${batch}`,
      );
    }
    const shared = variantFeeds(this.config, variant);
    const dims = [batch, 3, imageSize, imageSize];
    return Array.from({ length: count }, (_, i) => {
      const part = images.slice(i * batch * size, (i + 1) * batch * size);
      const at = { seed: this.#seed, step: this.#step, image: i * batch, batch };
      return {
        ...shared,
        images: new Tensor('float32', part, dims),
        target: new Tensor('float32', variantTarget(part, dims, variant), dims),
        ...(variant.noiseIndex !== null && { ranks: drawRanks(this.config, at) }),
      };
    });
  }

  /** Takes in the codes of all passes; in a self-correction step they count by their number of tokens. */
  #countCodes(results: readonly Record<string, Tensor>[], { noiseIndex }: StepVariant): number {
    const { tokens } = this.config;
    const clean = join(results.map(({ codes }) => codes.data as Int32Array));
    this.#revival?.see(clean, this.#step);
    const usage = this.#usage.add(clean);
    if (noiseIndex === null) return usage;
    const end = noiseEnd(this.config, noiseIndex);
    const fresh = join(results.map((result) => result.fresh.data as Int32Array)).filter(
      (_, i) => i % tokens >= end,
    );
    this.#revival?.see(fresh, this.#step);
    return (usage * tokens + this.#usage.add(fresh) * (tokens - end)) / (2 * tokens - end);
  }

  /** Dead codes become latents of this batch, and their moments zeros. */
  async #revive(results: readonly Record<string, Tensor>[]): Promise<number> {
    const step = this.#step;
    const dead = this.#revival?.dead(step, this.recipe.schedule.steps) ?? [];
    if (dead.length === 0) return 0;
    const name = 'quantize.embedding.weight';
    const { codebookDim: width } = this.config;
    const codebook = await this.#learner.readOne(Buffer.parameter, name);
    const latents = results.map(({ unit }) => unit);
    this.#revival?.revive(dead, codebook, latents, { seed: this.#seed, step });
    await this.#learner.writeOne(Buffer.parameter, name, codebook);
    for (const kind of [Buffer.moment1, Buffer.moment2]) {
      const moments = await this.#learner.readOne(kind, name);
      for (const code of dead) moments.fill(0, code * width, (code + 1) * width);
      await this.#learner.writeOne(kind, name, moments);
    }
    return dead.length;
  }
}

function join(parts: readonly Int32Array[]): Int32Array {
  const out = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
