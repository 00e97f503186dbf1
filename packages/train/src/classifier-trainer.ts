import {
  type Backend,
  checkOptions,
  DetailFlowError,
  mul,
  RandomStream,
  select,
  Tensor,
  trace,
} from '@detailflow/core';
import { gradients } from '@detailflow/core/gradients';
import { crossEntropy } from '@detailflow/core/losses';
import { type ClassifierConfig, classifier, classifierParameters } from '@detailflow/features';
import { type Arrays, initialClassifier } from './initialise';
import { Learner, type ReplicatedExecutable } from './learner';
import { accumulateGradients, Buffer, sharedParameters } from './optimiser';
import { Purpose } from './purpose';
import { tokenizerSchedule } from './schedule';

/** How a classifier is trained: AdamW, warm-up and cosine, dropout before the last layer. */
export interface ClassifierRecipe {
  readonly steps: number;
  /** Images of a step, a multiple of microBatch. */
  readonly batch: number;
  readonly microBatch: number;
  readonly learningRate: number;
  readonly warmup: number;
  readonly weightDecay: number;
  /** Share of the features that is dropped, below 1. */
  readonly dropout: number;
}

/** What a trainer of a classifier is made of. */
export interface ClassifierTrainerOptions {
  readonly config: ClassifierConfig;
  readonly recipe: ClassifierRecipe;
  /** Each computes a micro-batch at the same time as the others. */
  readonly backends: readonly Backend[];
  readonly seed: number;
}

/** Trains a classifier, batch by batch. */
export class ClassifierTrainer {
  readonly config: ClassifierConfig;
  readonly recipe: ClassifierRecipe;
  readonly #seed: number;
  readonly #learner: Learner;
  readonly #train: ReplicatedExecutable;
  readonly #judge: ReplicatedExecutable;
  #step = 0;

  private constructor(
    options: ClassifierTrainerOptions,
    learner: Learner,
    graphs: readonly ReplicatedExecutable[],
  ) {
    this.config = options.config;
    this.recipe = options.recipe;
    this.#seed = options.seed;
    this.#learner = learner;
    [this.#train, this.#judge] = graphs;
  }

  /** Begins with drawn parameters, or with those given. */
  static async create(options: ClassifierTrainerOptions): Promise<ClassifierTrainer> {
    checkOptions('ClassifierTrainer.create', options, {
      config: true,
      recipe: true,
      seed: true,
      backends: true,
    });
    const { config, recipe, seed, backends } = options;
    const specs = classifierParameters(config);
    const optimiser = {
      ...{ betas: [0.9, 0.99] as const, epsilon: 1e-8, clip: 1 },
      weightDecay: recipe.weightDecay,
    };
    const parameters = initialClassifier({ specs, seed });
    const learner = await Learner.create({ backends, specs, optimiser, parameters });
    const { microBatch: batch } = recipe;
    const shape = [batch, 3, config.imageSize, config.imageSize];
    const train = await learner.compile(
      trace((g) => {
        const p = sharedParameters(g, specs);
        const kept = g.input('kept', 'bool', [batch, config.features]);
        const { logits } = classifier(p, config, g.input('images', 'f32', shape), (features) =>
          select(kept, mul(features, 1 / (1 - recipe.dropout)), 0),
        );
        const loss = crossEntropy(logits, g.input('labels', 'i32', [batch]));
        const wanted = specs.map(({ name }) => p(name));
        accumulateGradients(g, specs, gradients(loss, wanted));
        return { loss };
      }),
    );
    const judge = await learner.compile(
      trace((g) => {
        const p = sharedParameters(g, specs);
        return { logits: classifier(p, config, g.input('images', 'f32', shape)).logits };
      }),
      { firstOnly: true },
    );
    return new ClassifierTrainer(options, learner, [train, judge]);
  }

  /** Steps made. */
  get step(): number {
    return this.#step;
  }

  /**
   * One step on images [batch, 3, S, S] in [-1, 1] and their classes.
   * @returns the mean cross-entropy
   * @throws DetailFlowError `diverged`, `shape`
   */
  async train(images: Float32Array, labels: Int32Array): Promise<number> {
    const { microBatch, batch, dropout, steps, warmup, learningRate } = this.recipe;
    const { features, imageSize } = this.config;
    const length = 3 * imageSize ** 2;
    if (labels.length !== batch || images.length !== batch * length) {
      throw new DetailFlowError(
        'shape',
        `${images.length} values and ${labels.length} classes are no batch of ${batch}`,
      );
    }
    const random = new RandomStream({ seed: this.#seed, purpose: Purpose.dropout, position: this.#step });
    const batches = Array.from({ length: batch / microBatch }, (_, i) => {
      const [from, to] = [i * microBatch, (i + 1) * microBatch];
      const kept = Uint8Array.from({ length: microBatch * features }, () =>
        Number(random.uniform() >= dropout),
      );
      return {
        images: this.#tensor(images.slice(from * length, to * length)),
        labels: new Tensor('int32', labels.slice(from, to), [microBatch]),
        kept: new Tensor('bool', kept, [microBatch, features]),
      };
    });
    const results = await this.#learner.accumulate(this.#train, batches);
    const loss = results.reduce((sum, found) => sum + (found.loss.data[0] as number), 0) / results.length;
    if (!Number.isFinite(loss)) {
      throw new DetailFlowError('diverged', `step ${this.#step}: the loss is ${loss}`);
    }
    const factor = tokenizerSchedule(this.#step, { steps, warmup, initialFactor: 0.1, finalFactor: 0.01 });
    await this.#learner.update({ step: this.#step, learningRate: learningRate * factor });
    this.#step++;
    return loss;
  }

  /** The most likely class of every image [n, 3, S, S], whatever n is. */
  async classify(images: Float32Array): Promise<Int32Array> {
    const { microBatch } = this.recipe;
    const { classes, imageSize } = this.config;
    const length = 3 * imageSize ** 2;
    const count = images.length / length;
    const found = new Int32Array(count);
    for (let first = 0; first < count; first += microBatch) {
      const part = new Float32Array(microBatch * length);
      part.set(images.subarray(first * length, Math.min(count, first + microBatch) * length));
      const { logits } = await this.#learner.run(this.#judge, { images: this.#tensor(part) });
      for (let i = first; i < Math.min(count, first + microBatch); i++) {
        const row = (logits.data as Float32Array).subarray((i - first) * classes, (i - first + 1) * classes);
        found[i] = row.indexOf(row.reduce((a, b) => Math.max(a, b)));
      }
    }
    return found;
  }

  /** The parameters as they are now, by name. */
  parameters(): Promise<Arrays> {
    return this.#learner.read(Buffer.parameter);
  }

  /** Frees what it holds on the device. */
  async dispose(): Promise<void> {
    await this.#learner.dispose();
  }

  #tensor(values: Float32Array): Tensor {
    const { imageSize: size } = this.config;
    return new Tensor('float32', values, [this.recipe.microBatch, 3, size, size]);
  }
}
