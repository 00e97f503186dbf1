import type { TokenModelConfig } from '@detailflow/ar-model';
import type { CodeRowsFed, TrainableTokenModel } from '@detailflow/blocks';
import {
  type Backend,
  checkOptions,
  DetailFlowError,
  philoxWords,
  RandomStream,
  Tensor,
  type Tensors,
  type Weights,
} from '@detailflow/core';
import { type Arrays, initialise } from './initialise';
import { Learner, type ReplicatedExecutable } from './learner';
import { Buffer, type OptimiserOptions } from './optimiser';
import { Purpose } from './purpose';
import { type ScheduleOptions, tokenModelSchedule } from './schedule';
import {
  dropoutMasks,
  dropPathMasks,
  dropPathRate,
  sequenceLossGraph,
  sequenceStepGraph,
  trainableTokenModel,
} from './token-model-graph';
import { dividedByFrozen, frozenBy } from './tokenizer-recipe';

/** How an AR model is trained. Source: docs/method.md section 5. */
export interface TokenModelRecipe {
  /** Sequences of one run of a graph; a batch is several runs. */
  readonly microBatch: number;
  readonly learningRate: number;
  readonly schedule: ScheduleOptions;
  readonly optimiser: OptimiserOptions;
  /** Share of the running mean of the parameters that stays at a step; none is kept without it. */
  readonly averageDecay?: number;
  /** Probability that a row loses its class. */
  readonly labelDropout: number;
  /** Probability that a row is learned from its self-correction codes (`correction_prob`). */
  readonly correction: number;
  /** Probability of dropout on what attention and feed-forward add (`dropout_p`). */
  readonly dropout: number;
  /** Probability of dropout on the embedded sequence (`token_dropout_p`); default `dropout`. */
  readonly tokenDropout?: number;
  /**
   * Probability with which a row loses a branch of the last layer; less in earlier ones, none in the first (`drop_path_rate`). Then
   * `dropout` is 0, as in the official training.
   */
  readonly dropPath?: number;
  /** Beginnings of the names of parameters that stay as they are, such as `tok_embeddings`. */
  readonly frozen?: readonly string[];
}

/** What a trainer of an AR model is made of. */
export interface TokenModelTrainerOptions {
  /** DetailFlow's AR model, or what learns as a value. */
  readonly config: TokenModelConfig | TrainableTokenModel;
  /** Weights of the tokenizer, where the loss reads some. */
  readonly tokenizer?: Weights;
  readonly recipe: TokenModelRecipe;
  /** Each computes a micro-batch at the same time as the others. */
  readonly backends: readonly Backend[];
  readonly seed: number;
  /** Parameters to begin with; those that are not among them are drawn from the seed. */
  readonly parameters?: Arrays;
}

/** The codes of B images, each i32 [B, N]: see `CorrectedCodes` of the tokenizer. */
export interface CodeBatch {
  /** Class of every image. */
  readonly labels: Int32Array;
  readonly clean: Int32Array;
  readonly input: Int32Array;
  readonly target: Int32Array;
}

/** What a step did. Losses are in nats; their exponentials are perplexities. */
export interface TokenModelStepReport {
  readonly step: number;
  readonly loss: number;
  /** By position, N. */
  readonly positionLoss: Float32Array;
  /** Norm of the gradients before clipping. */
  readonly norm: number;
  readonly learningRate: number;
}

/** Trains an AR model, batch by batch. Everything a step changes is in its {@link snapshot}. */
export class TokenModelTrainer {
  readonly model: TrainableTokenModel;
  readonly recipe: TokenModelRecipe;
  readonly #seed: number;
  readonly #learner: Learner;
  readonly #tokenizer: Weights | undefined;
  #gradients: Promise<ReplicatedExecutable> | undefined;
  #losses: Promise<ReplicatedExecutable> | undefined;
  #step = 0;

  private constructor(
    { recipe, seed, tokenizer }: TokenModelTrainerOptions,
    model: TrainableTokenModel,
    learner: Learner,
  ) {
    this.model = model;
    this.#tokenizer = tokenizer;
    this.recipe = recipe;
    this.#seed = seed;
    this.#learner = learner;
  }

  /** Begins with drawn parameters, or with those given. */
  static async create(options: TokenModelTrainerOptions): Promise<TokenModelTrainer> {
    checkOptions('TokenModelTrainer.create', options, {
      config: true,
      tokenizer: true,
      recipe: true,
      backends: true,
      seed: true,
      parameters: true,
    });
    const { config, recipe, seed, backends } = options;
    const model = 'specs' in config ? config : trainableTokenModel(config);
    if ((recipe.dropPath ?? 0) > 0 && recipe.dropout > 0) {
      throw new DetailFlowError(
        'config',
        `dropPath takes the place of dropout: set dropout (${recipe.dropout}) to 0`,
      );
    }
    const all = model.specs;
    const { specs, frozen } = dividedByFrozen(all, recipe, 'tokenModel');
    const parameters = new Map([...initialise(all, seed, model.initial), ...(options.parameters ?? [])]);
    const average = recipe.averageDecay !== undefined;
    const optimiser = { ...recipe.optimiser, average, ...(model.decays && { decays: model.decays }) };
    const learner = await Learner.create({ backends, specs, frozen, optimiser, parameters });
    return new TokenModelTrainer(options, model, learner);
  }

  /** Steps made. */
  get step(): number {
    return this.#step;
  }

  /** Graphs of the loss compiled so far: one to learn by and one to measure by. */
  get graphs(): number {
    return [this.#gradients, this.#losses].filter((graph) => graph !== undefined).length;
  }

  /**
   * One step on the codes of B images; B is a multiple of the micro-batch.
   * @throws DetailFlowError `diverged` when loss or gradients are not finite: parameters are as before the step;
   *   `shape` or `invalid-argument` for other codes
   */
  async train(batch: CodeBatch): Promise<TokenModelStepReport> {
    const { recipe, model } = this;
    const { microBatch, dropout, tokenDropout, dropPath } = recipe;
    const step = this.#step;
    const parts = this.#split(this.#drawRows(batch), (part) => this.#dropoutFeeds(part));
    this.#gradients ??= this.#learner.compile(
      sequenceStepGraph(model, { microBatch, dropout, tokenDropout, dropPath, isFrozen: frozenBy(recipe) }),
      { weights: this.#tokenizer },
    );
    const { loss, positionLoss } = meanLoss(await this.#learner.accumulate(await this.#gradients, parts));
    if (!Number.isFinite(loss)) throw new DetailFlowError('diverged', `step ${step}: the loss is ${loss}`);
    const learningRate = recipe.learningRate * tokenModelSchedule(step, recipe.schedule);
    const norm = await this.#learner.update({ step, learningRate, averageDecay: recipe.averageDecay });
    this.#step++;
    return { step, loss, positionLoss, norm, learningRate };
  }

  /** The loss on clean codes that are not learned, of the running means where they are kept. */
  async evaluate(
    batch: Pick<CodeBatch, 'labels' | 'clean'>,
    { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<{ loss: number; positionLoss: Float32Array }> {
    const { model, recipe } = this;
    const kind = recipe.averageDecay === undefined ? Buffer.parameter : Buffer.average;
    this.#losses ??= this.#learner.compile(
      sequenceLossGraph(model, recipe.microBatch, kind, frozenBy(recipe)),
      {
        ...{ firstOnly: true, weights: this.#tokenizer },
      },
    );
    const graph = await this.#losses;
    const results = [];
    for (const feeds of this.#split({ labels: batch.labels, rows: batch.clean, targets: batch.clean })) {
      signal?.throwIfAborted();
      results.push(await this.#learner.run(graph, feeds));
    }
    return meanLoss(results);
  }

  /** Parameters, or their running means. */
  parameters(kind: 'current' | 'average' = 'current'): Promise<Arrays> {
    return this.#learner.read(kind === 'current' ? Buffer.parameter : Buffer.average);
  }

  /** Everything that a step changes. */
  async snapshot(): Promise<{ readonly step: number; readonly tensors: Tensors }> {
    return { step: this.#step, tensors: await this.#learner.snapshot() };
  }

  /** Goes on from a snapshot. @throws DetailFlowError `weights` when it is of another configuration */
  async restore({ step, tensors }: { readonly step: number; readonly tensors: Tensors }): Promise<void> {
    await this.#learner.restore(tensors);
    this.#step = step;
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#learner.dispose();
  }

  /** Draws which rows lose their class, and which are learned from their self-correction codes. */
  #drawRows({ labels, clean, input, target }: CodeBatch): CodeRowsFed {
    const { tokens, classes } = this.model;
    const at = { seed: this.#seed, position: this.#step };
    const forLabels = new RandomStream({ ...at, purpose: Purpose.labelDropout });
    const forRows = new RandomStream({ ...at, purpose: Purpose.correction });
    const rows = clean.slice();
    const targets = clean.slice();
    const kept = labels.map((label, row) => {
      if (forRows.uniform() < this.recipe.correction) {
        rows.set(input.subarray(row * tokens, (row + 1) * tokens), row * tokens);
        targets.set(target.subarray(row * tokens, (row + 1) * tokens), row * tokens);
      }
      return forLabels.uniform() < this.recipe.labelDropout ? classes : label;
    });
    return { labels: kept, rows, targets };
  }

  #split({ labels, rows, targets }: CodeRowsFed, more: (part: number) => Tensors = () => ({})): Tensors[] {
    const { tokens } = this.model;
    const { microBatch } = this.recipe;
    const count = labels.length / microBatch;
    if (
      !Number.isInteger(count) ||
      count < 1 ||
      [rows, targets].some((x) => x.length !== labels.length * tokens)
    ) {
      throw new DetailFlowError(
        'shape',
        `${labels.length} classes and ${rows.length} codes are no batch: give a multiple of ${microBatch} rows of ${tokens} codes`,
      );
    }
    this.#check(labels, rows, targets);
    return Array.from({ length: count }, (_, i) => {
      const part = (x: Int32Array, width: number) =>
        x.slice(i * microBatch * width, (i + 1) * microBatch * width);
      const known = { labels: part(labels, 1), rows: part(rows, tokens), targets: part(targets, tokens) };
      return { ...this.model.feeds(known), ...more(i) };
    });
  }

  #check(labels: Int32Array, ...codes: Int32Array[]): void {
    const { vocabularySize, classes } = this.model;
    for (const [what, values, limit] of [
      ['class', labels, classes + 1],
      ...codes.map((x) => ['code', x, vocabularySize] as const),
    ] as const) {
      const wrong = values.find((value) => value < 0 || value >= limit);
      if (wrong !== undefined) {
        throw new DetailFlowError('invalid-argument', `the ${what} ${wrong} is not in 0..${limit - 1}`);
      }
    }
  }

  /** What is kept, by counters of step and micro-batch: two draws from a word. */
  #dropoutFeeds(part: number): Tensors {
    const { model, recipe } = this;
    const { dropout, tokenDropout = dropout } = recipe;
    const dims = [recipe.microBatch, model.tokens, model.dim];
    const count = dims.reduce((a, b) => a * b, 1);
    const feeds: Record<string, Tensor> = this.#dropPathFeeds(part);
    for (const [i, name] of dropoutMasks(model).entries()) {
      const probability = i === 0 ? tokenDropout : dropout;
      if (probability === 0) continue;
      const threshold = Math.round(probability * 65536);
      const words = philoxWords({
        seed: this.#seed + part * (1 + 2 * model.layers) + i,
        position: this.#step,
        stream: Purpose.dropout,
        count: Math.ceil(count / 2),
      });
      const draws = new Uint16Array(words.buffer);
      const keep = Uint8Array.from({ length: count }, (_, at) => Number(draws[at] >= threshold));
      feeds[name] = new Tensor('bool', keep, dims);
    }
    return feeds;
  }

  /** For which rows branches are kept, by counters of step and row. */
  #dropPathFeeds(part: number): Record<string, Tensor> {
    const { model, recipe } = this;
    const { microBatch, dropPath = 0 } = recipe;
    const feeds: Record<string, Tensor> = {};
    if (dropPath === 0) return feeds;
    for (const [i, name] of dropPathMasks(model).entries()) {
      const random = new RandomStream({
        ...{
          seed: this.#seed + part * 2 * model.layers + i,
          purpose: Purpose.dropPath,
          position: this.#step,
        },
      });
      const rate = dropPathRate(model, 1 + Math.floor(i / 2), dropPath);
      const keep = Uint8Array.from({ length: microBatch }, () => Number(random.uniform() >= rate));
      feeds[name] = new Tensor('bool', keep, [microBatch, 1, 1]);
    }
    return feeds;
  }
}

function meanLoss(results: readonly Record<string, Tensor>[]): { loss: number; positionLoss: Float32Array } {
  const positionLoss = new Float32Array(results[0].positionLoss.data.length);
  for (const { positionLoss: part } of results) {
    for (const [i, value] of (part.data as Float32Array).entries()) positionLoss[i] += value / results.length;
  }
  const loss = results.reduce((total, result) => total + (result.loss.data[0] as number), 0) / results.length;
  return { loss, positionLoss };
}
