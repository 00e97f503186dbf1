import { DetailFlowError, type ParameterSpec, RandomStream, Tensor, type Tensors } from '@detailflow/core';
import { type Arrays, initialDiscriminator } from '../initialise';
import type { Learner, ParameterGroup, ReplicatedExecutable } from '../learner';
import type { OptimiserOptions } from '../optimiser';
import { Purpose } from '../purpose';
import {
  type AdversarialRecipe,
  discriminatorStepGraph,
  JUDGED,
  JUDGED_VIEW,
  judgedWeights,
  judgementSize,
  LECAM_DECAY,
  nextSingular,
} from './adversarial';
import { drawAugmentation, noAugmentation, strongAugmentation, weakAugmentation } from './augmentation';
import { cornerView } from './corner-view';
import { type Discriminator, discriminatorSpecs, singularFeed } from './discriminator';

export interface AdversaryOptions {
  readonly model: Discriminator;
  readonly recipe: AdversarialRecipe;
  readonly optimiser: OptimiserOptions;
  readonly seed: number;
}

/** Which step it is, the side of its images in pixels, and that of the canvas that they lie on. */
interface Moment {
  readonly step: number;
  readonly size: number;
  readonly canvas: number;
}

/** What the discriminator thinks of a batch. */
export interface AdversaryReport {
  readonly discriminator: number;
  /** Mean judgements. */
  readonly judgedReal: number;
  readonly judgedFake: number;
}

const MEANS = 'adversary.means';
const SINGULAR = 'adversary.singular.';
/** Distance between the random places of generator, real and restored images. */
const PLACES = 1 << 20;

/**
 * The discriminator in the training of a tokenizer: its graphs, what they are fed, its running means, and the singular vectors of its
 * weights. These are the same for all micro-batches and replicas of a step, and move once a step.
 */
export class Adversary {
  readonly model: Discriminator;
  readonly recipe: AdversarialRecipe;
  readonly group: ParameterGroup;
  readonly #options: AdversaryOptions;
  /** Height and width of the judgements, by canvas. */
  readonly #judgements = new Map<number, readonly [number, number]>();
  readonly #graphs = new Map<string, Promise<ReplicatedExecutable>>();
  /** Running means of the judgements of real and restored images. */
  #means: Float32Array = new Float32Array(2);
  /** Singular vectors of weights by their names, and what becomes of them once the step is made. */
  #singular: ReadonlyMap<string, Float32Array>;
  #nextSingular: ReadonlyMap<string, Float32Array> | undefined;

  constructor(options: AdversaryOptions) {
    const { model, recipe, optimiser } = options;
    this.#options = options;
    this.model = model;
    this.recipe = recipe;
    this.group = { specs: discriminatorSpecs(model), optimiser: { ...optimiser, average: false } };
    this.#singular = drawnSingular(model, options.seed);
  }

  /** Where what it learns begins. */
  initialParameters(): Arrays {
    const { seed } = this.#options;
    const { initial } = this.model;
    return initialDiscriminator({ specs: this.group.specs, seed, ...(initial && { initial }) });
  }

  isActive(step: number): boolean {
    return step >= this.recipe.start;
  }

  /** What the term of the generator is fed for restored images [B, 3, S, S], the `place`th of the step. */
  generatorFeeds(moment: Moment, { place, images }: { place: number; images: number }): Tensors {
    return {
      ...this.#judged(moment),
      ...this.#singularFeeds(),
      ...this.#changes('weak', moment, { place: 3 * place, images }),
    };
  }

  /**
   * Adds to the gradients of the discriminator, from pairs of images [B, 3, S, S] and the weights of their pixels.
   * @param moment `first`: how many pairs of the step came before
   */
  async accumulate(
    learner: Learner,
    pairs: readonly { real: Tensor; fake: Tensor }[],
    moment: Moment & { pixelWeights: Tensor; first?: number },
  ): Promise<AdversaryReport> {
    const [images] = pairs[0].fake.dims;
    const scalar = (value: number) => new Tensor('float32', Float32Array.of(value), [1]);
    const shared = {
      ...this.#judged(moment),
      ...this.#singularFeeds(),
      pixelWeights: moment.pixelWeights,
      emaReal: scalar(this.#means[0]),
      emaFake: scalar(this.#means[1]),
    };
    const batches = pairs.map(({ real, fake }, i) => {
      const both = (name: 'weak' | 'strong') => {
        const half = (at: number) =>
          this.#changes(name, moment, { place: 3 * ((moment.first ?? 0) + i) + at, images });
        return stacked(half(1), half(2));
      };
      return { ...shared, real, fake, ...both('weak'), ...both('strong') };
    });
    const graph = await this.#graph(learner, images, moment.canvas);
    const results = await learner.accumulate(graph, batches, this.group);
    const [first] = results; // weights and vectors are the same for all
    this.#nextSingular = new Map(
      [...this.#singular.keys()].map((name) => [name, first[nextSingular(name)].data as Float32Array]),
    );
    const mean = (name: string) =>
      results.reduce((sum, result) => sum + (result[name].data[0] as number), 0) / results.length;
    const found = {
      discriminator: mean('loss'),
      judgedReal: mean('judgedReal'),
      judgedFake: mean('judgedFake'),
    };
    if (Number.isFinite(found.discriminator)) return found;
    throw new DetailFlowError(
      'diverged',
      `step ${moment.step}: the loss of the discriminator is ${found.discriminator}`,
    );
  }

  /** One step of the discriminator, after {@link accumulate}. */
  async update(
    learner: Learner,
    { judgedReal, judgedFake }: AdversaryReport,
    step: { step: number; learningRate: number },
  ): Promise<void> {
    await learner.update({ ...step, step: step.step - this.recipe.start }, this.group);
    this.#means = this.#means.map(
      (mean, i) => LECAM_DECAY * mean + (1 - LECAM_DECAY) * [judgedReal, judgedFake][i],
    );
    this.#singular = this.#nextSingular ?? this.#singular;
  }

  snapshot(): Tensors {
    const vectors = [...this.#singular].map(([name, u]) => [
      SINGULAR + name,
      new Tensor('float32', u.slice(), [u.length]),
    ]);
    return { [MEANS]: new Tensor('float32', this.#means.slice(), [2]), ...Object.fromEntries(vectors) };
  }

  /** @throws DetailFlowError `weights` */
  restore(tensors: Tensors): void {
    const vector = (entry: string, length: number) => {
      const found = tensors[entry];
      if (found?.type === 'float32' && found.data.length === length)
        return Float32Array.from(found.data as Float32Array);
      throw new DetailFlowError('weights', `the checkpoint does not have this tensor of ${length} values`, {
        entry,
      });
    };
    const means = vector(MEANS, 2);
    this.#singular = new Map(
      [...this.#singular].map(([name, u]) => [name, vector(SINGULAR + name, u.length)]),
    );
    this.#means = means;
  }

  #graph(learner: Learner, images: number, size: number): Promise<ReplicatedExecutable> {
    const { model, recipe } = this.#options;
    const key = `${images} ${size}`;
    const made =
      this.#graphs.get(key) ??
      learner.compile(discriminatorStepGraph({ model, recipe, images, size }), {
        weights: model.fixed?.weights,
      });
    this.#graphs.set(key, made);
    return made;
  }

  #judged({ size, canvas }: Moment): Tensors {
    const { side } = this.model;
    const known = this.#judgements.get(canvas) ?? judgementSize(this.model, canvas);
    this.#judgements.set(canvas, known);
    const [height, width] = known;
    const seen = side === undefined ? { canvas, size } : { canvas: side, size: side };
    return {
      [JUDGED]: new Tensor('float32', judgedWeights([height, width], seen), [1, 1, height, width]),
      ...(side !== undefined && { [JUDGED_VIEW]: cornerView(side, { canvas, size }) }),
    };
  }

  #singularFeeds(): Tensors {
    const feeds = [...this.#singular].map(([name, u]) => [
      singularFeed(name),
      new Tensor('float32', u, [u.length]),
    ]);
    return Object.fromEntries(feeds);
  }

  #changes(name: 'weak' | 'strong', moment: Moment, { place, images }: { place: number; images: number }) {
    const { seed, recipe } = this.#options;
    const weak = (recipe.augment ?? true) ? weakAugmentation : noAugmentation;
    const strength = name === 'weak' ? weak : strongAugmentation;
    const shift = name === 'weak' ? 0 : PLACES;
    const { step, size, canvas } = moment;
    return drawAugmentation(name, {
      ...{ step, size, place: place + shift, seed, images, canvas, strength },
    });
  }
}

/** Where power iteration begins: vectors of unit length in any direction. */
function drawnSingular({ specs, spectral = [] }: Discriminator, seed: number): Map<string, Float32Array> {
  return new Map(
    spectral.map((name, position) => {
      const { shape } = specs.find((spec) => spec.name === name) as ParameterSpec;
      const [rows] = shape;
      const random = new RandomStream({ seed, purpose: Purpose.singular, position });
      const drawn = Float64Array.from({ length: rows }, () => random.normal());
      const length = Math.hypot(...drawn);
      return [name, Float32Array.from(drawn, (x) => x / length)];
    }),
  );
}

/** Tensors of two batches, one after the other. */
function stacked(first: Record<string, Tensor>, second: Record<string, Tensor>): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(first).map(([name, { data, dims }]) => {
      const joined = new Float32Array(2 * data.length);
      joined.set(data as Float32Array);
      joined.set(second[name].data as Float32Array, data.length);
      return [name, new Tensor('float32', joined, [2 * dims[0], ...dims.slice(1)])];
    }),
  );
}
