import {
  add,
  type Backend,
  checkOptions,
  DetailFlowError,
  mul,
  type ParameterSpec,
  Tensor,
  type Tensors,
  type Value,
} from '@detailflow/core';
import {
  CodebookUsage,
  createResolutionMap,
  type ResolutionMap,
  resolutionSettings,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import type { QuantiserLossOptions } from '@detailflow/tokenizer/training';
import { type Arrays, initialDiscriminator, initialTokenizer } from './initialise';
import { Learner, type ReplicatedExecutable } from './learner';
import { type AdversarialRecipe, adaptiveWeight, generatorLoss } from './losses/adversarial';
import { Adversary, type AdversaryReport } from './losses/adversary';
import {
  type AlignmentRecipe,
  type AlignmentTarget,
  alignmentLoss,
  alignmentSpecs,
} from './losses/alignment';
import type { Discriminator } from './losses/discriminator';
import {
  type PerceptualNetwork,
  type PerceptualRecipe,
  perceptualFeeds,
  perceptualLoss,
} from './losses/perceptual';
import { Buffer, type OptimiserOptions } from './optimiser';
import { CodeRevival, type RevivalOptions } from './revival';
import { type ScheduleOptions, tokenizerSchedule } from './schedule';
import { type LossContext, type PixelLoss, tokenizerStepGraph } from './tokenizer-graph';
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
  readonly perceptual?: PerceptualRecipe;
  readonly adversarial?: AdversarialRecipe;
  readonly alignment?: AlignmentRecipe;
}

/** Networks that losses need; a recipe with the loss demands its network. */
export interface LossNetworks {
  /** See {@link lpipsNetwork} and {@link classifierNetwork}. */
  readonly perceptual?: PerceptualNetwork;
  readonly discriminator?: Discriminator;
  readonly alignment?: AlignmentTarget;
}

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

/** What a step did. */
export interface TokenizerStepReport {
  readonly step: number;
  readonly variant: StepVariant;
  readonly loss: number;
  readonly reconstruction: number;
  readonly vq: number;
  readonly commit: number;
  readonly entropy: number;
  /** The terms of further losses, as they were added: what the recipe has of perceptual, adversarial and alignment. */
  readonly extra?: Readonly<Record<string, number>>;
  /** The discriminator, once it plays. */
  readonly adversary?: AdversaryReport;
  /** Norm of the gradients before clipping. */
  readonly norm: number;
  readonly learningRate: number;
  /** Share of the codebook among the latest 65536 codes. */
  readonly usage: number;
  /** Codes that were dead and got a new life. */
  readonly revived: number;
}

const LAST_LAYER = 'decoder.to_pixel.model.weight';
const extraNames = ['perceptual', 'adversarial', 'alignment'];
const RING = 'codebook.ring';
const LAST_USE = 'codebook.lastUse';

/** Trains a tokenizer, batch by batch. Everything a step changes is in its {@link snapshot}. */
export class TokenizerTrainer {
  readonly config: TokenizerConfig;
  readonly recipe: TokenizerRecipe;
  readonly #seed: number;
  readonly #learner: Learner;
  readonly #networks: LossNetworks;
  readonly #adversary: Adversary | undefined;
  readonly #map: ResolutionMap;
  readonly #graphs = new Map<string, Promise<ReplicatedExecutable>>();
  #usage: CodebookUsage;
  #revival: CodeRevival | undefined;
  #step = 0;

  private constructor(options: TokenizerTrainerOptions, learner: Learner, adversary?: Adversary) {
    const { config, recipe, seed, networks = {} } = options;
    this.#networks = networks;
    this.#adversary = adversary;
    this.config = config;
    this.recipe = recipe;
    this.#seed = seed;
    this.#learner = learner;
    this.#map = createResolutionMap(resolutionSettings(config));
    this.#usage = new CodebookUsage(config.codebookSize);
    this.#revival = recipe.revival && new CodeRevival(config.codebookSize, recipe.revival);
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
    const networks = requireNetworks(options);
    const specs = [...tokenizerParameters(config), ...alignmentOf(options)];
    const optimiser = { ...recipe.optimiser, average: recipe.averageDecay !== undefined };
    const adversary =
      recipe.adversarial &&
      new Adversary({
        ...{ model: networks.discriminator as Discriminator, recipe: recipe.adversarial },
        ...{ optimiser, imageSize: config.imageSize, seed },
      });
    const others = adversary ? [adversary.group] : [];
    const parameters = new Map([
      ...initialTokenizer({ specs, seed }),
      ...others.flatMap((group) => [...initialDiscriminator({ specs: group.specs, seed })]),
      ...(options.parameters ?? []),
    ]);
    const learner = await Learner.create({ backends, specs, optimiser, others, parameters });
    return new TokenizerTrainer(options, learner, adversary);
  }

  /** Steps made. */
  get step(): number {
    return this.#step;
  }

  /** Graphs of the tokenizer's loss compiled so far: two, whatever the variants, and two more with a discriminator. */
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
    const { degradation, correction } = recipe;
    const variant = drawVariant(this.#map, { seed: this.#seed, step, degradation, correction });
    const isCorrected = variant.noiseIndex !== null;
    const adversary = this.#adversary?.isActive(step) ? this.#adversary : undefined;
    const graph = await this.#graph(isCorrected, adversary);
    const batches = await this.#microBatches(images, variant, adversary);
    const results = await this.#learner.accumulate(graph, batches);
    const mean = (name: string) =>
      results.reduce((sum, result) => sum + (result[name].data[0] as number), 0) / results.length;
    const loss = mean('loss');
    if (!Number.isFinite(loss)) throw new DetailFlowError('diverged', `step ${step}: the loss is ${loss}`);

    const learningRate = recipe.learningRate * tokenizerSchedule(step, recipe.schedule);
    const judged = adversary && (await this.#judge(adversary, { results, batches, size: variant.size }));
    const norm = await this.#learner.update({ step, learningRate, averageDecay: recipe.averageDecay });
    if (judged) await adversary.update(this.#learner, judged, { step, learningRate });
    const usage = this.#countCodes(results, variant);
    const revived = await this.#revive(results);
    this.#step++;
    const extra = extraNames.filter((name) => name in results[0]).map((name) => [name, mean(name)]);
    return {
      step,
      variant,
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
    const ring = this.#usage.ring();
    const tensors = {
      ...(await this.#learner.snapshot()),
      ...this.#adversary?.snapshot(),
      [RING]: new Tensor('int32', ring, [ring.length]),
    };
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
    this.#adversary?.restore(tensors);
    this.#usage = usage;
    this.#revival = revival;
    this.#step = step;
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#learner.dispose();
  }

  #graph(correction: boolean, adversary: Adversary | undefined): Promise<ReplicatedExecutable> {
    const { config, recipe } = this;
    const { microBatch, pixelLoss, quantiser, perceptual } = recipe;
    const key = `${correction} ${adversary !== undefined}`;
    const known = this.#graphs.get(key);
    if (known) return known;
    const graph = tokenizerStepGraph({
      ...{ config, microBatch, correction, pixelLoss, quantiser },
      extraSpecs: alignmentOf({ config, recipe, networks: this.#networks }),
      outputPixels: adversary !== undefined,
      extraLosses: (context) => this.#extraLosses(context, adversary),
    });
    const weights = new Map([
      ...((perceptual && this.#networks.perceptual?.weights) ?? []),
      ...(adversary?.model.fixed?.weights ?? []),
    ]);
    const made = this.#learner.compile(graph, { weights });
    this.#graphs.set(key, made);
    return made;
  }

  /** The terms of the loss beyond pixels and quantiser. */
  #extraLosses(context: LossContext, adversary: Adversary | undefined): Record<string, Value> {
    const { graph, parameter, pixels, target, pixelWeights, reconstruction, outputs } = context;
    const { alignment } = this.recipe;
    const perceptual = this.recipe.perceptual && this.#networks.perceptual;
    const losses: Record<string, Value> = {};
    if (perceptual) losses.perceptual = perceptualLoss(graph, perceptual, pixels, target);
    if (adversary) {
      const term = generatorLoss(graph, adversary.model, { pixels, pixelWeights });
      const { weight, adaptive } = adversary.recipe;
      const seen = perceptual ? add(reconstruction, losses.perceptual) : reconstruction;
      const factor = adaptive ? mul(adaptiveWeight(seen, term, parameter(LAST_LAYER)), weight) : weight;
      losses.adversarial = mul(term, factor);
    }
    if (alignment) {
      const { width } = this.#networks.alignment as AlignmentTarget;
      losses.alignment = alignmentLoss(graph, parameter, outputs.quantised, { ...alignment, width });
    }
    return losses;
  }

  async #microBatches(
    images: Float32Array,
    variant: StepVariant,
    adversary: Adversary | undefined,
  ): Promise<Tensors[]> {
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
    const step = this.#step;
    const moment = { step, canvas: imageSize, size: variant.size };
    const { perceptual, alignment } = this.recipe;
    const levels = this.#networks.perceptual?.levels ?? 0;
    const shared = {
      ...variantFeeds(this.config, variant),
      ...(perceptual && perceptualFeeds(perceptual, { ...moment, levels })),
    };
    const dims = [batch, 3, imageSize, imageSize];
    const isCorrected = variant.noiseIndex !== null;
    const feeds: Tensors[] = [];
    for (let place = 0; place < count; place++) {
      const part = images.slice(place * batch * size, (place + 1) * batch * size);
      const tensor = new Tensor('float32', part, dims);
      const at = { seed: this.#seed, step, image: place * batch, batch };
      const judged = { place, images: isCorrected ? 2 * batch : batch };
      feeds.push({
        ...shared,
        images: tensor,
        target: new Tensor('float32', variantTarget(part, dims, variant), dims),
        ...(isCorrected && { ranks: drawRanks(this.config, at) }),
        ...adversary?.generatorFeeds(moment, judged),
        ...(alignment && { alignmentTarget: await this.#networks.alignment?.features(tensor) }),
      } as Tensors);
    }
    return feeds;
  }

  /** Gradients of the discriminator, from what was restored. */
  #judge(
    adversary: Adversary,
    step: { results: readonly Tensors[]; batches: readonly Tensors[]; size: number },
  ): Promise<AdversaryReport> {
    const { results, batches, size } = step;
    const pairs = results.map(({ pixels: fake }, i) => ({ real: repeated(batches[i].target, fake), fake }));
    const { pixelWeights } = batches[0];
    return adversary.accumulate(this.#learner, pairs, { step: this.#step, size, pixelWeights });
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

type Networked = Pick<TokenizerTrainerOptions, 'config' | 'recipe' | 'networks'>;

/** @throws DetailFlowError `config` when a loss of the recipe has no network */
function requireNetworks({ recipe, networks = {} }: Networked): LossNetworks {
  const missing = [
    recipe.perceptual &&
      !networks.perceptual &&
      'the perceptual loss needs its network: VGG16 and LPIPS, or a classifier',
    recipe.adversarial && !networks.discriminator && 'the adversarial loss needs a discriminator',
    recipe.alignment && !networks.alignment && 'alignment needs a network whose features are to be told',
  ].find((message) => typeof message === 'string');
  if (missing) throw new DetailFlowError('config', `${missing}; give it, or take the loss out of the recipe`);
  return networks;
}

/** What alignment adds to the parameters. */
const alignmentOf = ({ config, recipe, networks }: Networked): ParameterSpec[] =>
  recipe.alignment && networks?.alignment ? alignmentSpecs(config.codebookDim, networks.alignment.width) : [];

/** Targets for as many images as were restored: a second time for the corrected ones. */
function repeated(target: Tensor, { dims, data: { length } }: Tensor): Tensor {
  if (target.data.length === length) return target;
  const data = new Float32Array(length);
  for (let at = 0; at < length; at += target.data.length) data.set(target.data as Float32Array, at);
  return new Tensor('float32', data, dims);
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
