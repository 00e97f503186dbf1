import { availableParallelism } from 'node:os';
import type { TokenModelConfig } from '@detailflow/ar-model';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { type Backend, checkOptions, DetailFlowError, type Picture } from '@detailflow/core';
import {
  codeViewCount,
  type HoldOutRecord,
  type ImageDataset,
  imageValues,
  type SkippedImage,
  type SourceUse,
  skipUnreadable,
  trainingView,
  withSkipped,
} from '@detailflow/data';
import { type OpenedDataset, openDataset } from '@detailflow/data/node';
import { createTokenizer, tokenizerParameters } from '@detailflow/tokenizer';
import type { Arrays } from '../initialise';
import { type CodeBatch, TokenModelTrainer } from '../token-model-trainer';
import { TokenizerTrainer } from '../tokenizer-trainer';
import type { TrainingConfig } from '../training-config';
import { readBatch } from './code-batch';
import { CodeStore } from './code-store';
import { codesOrigin, codesSettings } from './codes-origin';
import { type CodesWork, codesShard, codesView } from './codes-work';
import { writeDataUse } from './data-use';
import { centerOf, openingOf, viewOf } from './data-views';
import { type CodesElsewhere, extractCodes } from './extract-codes';
import { heldOutCodes } from './held-out-codes';
import { listHeldOut } from './held-out-list';
import type { ImagesIdentity } from './images-identity';
import { type LossNetworkFiles, openLossNetworks } from './loss-networks';
import { writeReport } from './report';
import { RunFolder } from './run-folder';
import { requireSameImages } from './run-images';
import { runStage, type SavedCheckpoint, type StageProgress } from './run-stage';
import { checkConfig, type TrainedTokenizer } from './trained-tokenizer';
import { sampleGrid, validateTokenizer } from './validate';
import { visitOrder } from './visit-order';
import { readArrays, weightsOf } from './weights';
import { type TrainedModel, writeModel } from './write-model';

/** Which part of a run: `all` is the tokenizer, then the codes, then the AR model. */
export type TrainingPart = 'tokenizer' | 'codes' | 'ar' | 'all';

/** Options of {@link train}. */
export interface TrainOptions {
  readonly part: TrainingPart;
  readonly config: TrainingConfig;
  /** The data set: see `openDataset`. */
  readonly data: string;
  /** The folder of the run. */
  readonly out: string;
  /** A tokenizer that is trained already: codes are made with it, and nothing is trained of it. */
  readonly tokenizer?: TrainedTokenizer;
  /** A tokenizer whose parameters training begins with, instead of drawing them. */
  readonly initial?: TrainedTokenizer;
  /** Files of the networks that losses of the configuration need. */
  readonly lossNetworks?: LossNetworkFiles;
  /** Go on from the last checkpoints. */
  readonly resume?: boolean;
  /** Saves and stops after so many milliseconds, at the end of a step. */
  readonly stopAfter?: number;
  /** Who makes the codes, if not this process: told what they are of and made by. */
  readonly codesElsewhere?: (work: CodesWork) => CodesElsewhere;
  /** Images of a file of codes, the part in which they are made; default 4096. */
  readonly codesShard?: number;
  /** Makes a backend; called once for each replica, with the threads that it should take. */
  readonly createBackend: (options: { threads: number }) => Promise<Backend>;
  /** Ends the run after the step under way, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (progress: StageProgress | CodesProgress) => void;
  /** Told what the data set holds and what in it is not used, before anything is trained. */
  readonly onData?: (use: SourceUse) => void;
  /** Told of every checkpoint, and of the one that a stage goes on from. */
  readonly onSaved?: (saved: SavedCheckpoint) => void;
  /** Told how many images have been compared with those that the run was begun with. */
  readonly onCompared?: (done: number, total: number) => void;
  /** Takes one-line notices. */
  readonly onNotice?: (message: string) => void;
  /** Told of every image that cannot be read. */
  readonly onSkip?: (skipped: SkippedImage) => void;
}

/** How far the encoding of images has come. */
export interface CodesProgress {
  readonly stage: 'codes';
  readonly done: number;
  readonly total: number;
}

/** The parts of a run, in their order. */
export type TrainingStage = 'tokenizer' | 'codes' | 'ar';

/** What a run has made. */
export interface TrainResult {
  /** The bundle, as `load` reads it: with the AR model once that is trained; missing where the run stopped before. */
  readonly bundle?: string;
  readonly report: string;
  /** Where the run stopped because its time was up. */
  readonly stopped?: { readonly stage: TrainingStage };
  readonly skipped: readonly SkippedImage[];
  /** What the data set gave, and what in it was not used, images that could not be read included. */
  readonly data: SourceUse;
}

/**
 * Trains in a folder: `config.json`, `tokenizer/` and `ar/` with checkpoints and log.jsonl, `codes/`, `report.html`, and
 * `bundle/` with the model, and `official/` with the same in the layout of the official training scripts.
 * @throws DetailFlowError as {@link RunFolder.open}, {@link runStage} and `openDataset`; the reason of the signal, after
 *   saving a checkpoint
 */
export async function train(options: TrainOptions): Promise<TrainResult> {
  checkOptions('train', options, {
    part: true,
    config: true,
    data: true,
    out: true,
    tokenizer: true,
    initial: true,
    ...{ codesElsewhere: true, codesShard: true },
    lossNetworks: true,
    resume: true,
    stopAfter: true,
    createBackend: true,
    signal: true,
    onProgress: true,
    onSkip: true,
    ...{ onData: true, onSaved: true, onCompared: true, onNotice: true },
  });
  const { config, part } = options;
  const isLater = part === 'codes' || part === 'ar';
  const trainsTokenizer = part === 'tokenizer' || (part === 'all' && options.tokenizer === undefined);
  if (options.tokenizer) checkTokenizer(options.tokenizer, options);
  if (options.initial) checkConfig(options.initial, config);
  if (config.tokenizer.model.mixture && part !== 'tokenizer') {
    throw new DetailFlowError(
      'config',
      'its tokens are mixtures of codes, which have no numbers, so there are no codes and no AR model: train the tokenizer alone',
      { entry: 'tokenizer.model.mixture' },
    );
  }
  const folder = await RunFolder.open(options.out, {
    settings: { ...config, trainedOn: options.data },
    resume: options.resume === true || isLater,
    lock: { onNotice: options.onNotice, signal: options.signal },
  });
  const started = performance.now();
  const { stopAfter = Number.POSITIVE_INFINITY } = options;
  const isTimeUp = () => performance.now() - started >= stopAfter;
  const signal = options.signal ? AbortSignal.any([options.signal, folder.lost]) : folder.lost;
  const backends: (Backend & { close?(): Promise<void> })[] = [];
  let opened: OpenedDataset | undefined;
  try {
    const skipped: SkippedImage[] = [];
    const told = new Set<string>();
    const onSkip = (image: SkippedImage) => {
      const text = JSON.stringify(image);
      if (told.has(text)) return; // by several machines
      told.add(text);
      skipped.push(image);
      options.onSkip?.(image);
    };
    opened = await openDataset(options.data, openingOf(config));
    await writeDataUse(folder, opened.use);
    options.onData?.(opened.use);
    const { onCompared: onProgress } = options;
    const images = await requireSameImages(folder, opened, { signal, onProgress });
    const { record } = await listHeldOut(folder, opened);
    const cores = availableParallelism();
    const replicas = Math.min(config.replicas, cores);
    if (replicas < config.replicas) {
      options.onNotice?.(`${replicas} of ${config.replicas} replicas are made: there are no more cores`);
    }
    const threads = Math.floor(cores / replicas);
    for (let i = 0; i < replicas; i++) backends.push(await options.createBackend({ threads }));
    const run = new Run({ ...options, signal, isTimeUp, onSkip }, folder, backends, {
      train: await skipUnreadable(opened.train, onSkip),
      heldOut: await skipUnreadable(opened.heldOut, onSkip),
      ...{ images, record },
    });
    const stages = {
      ...(trainsTokenizer && { tokenizer: () => run.trainTokenizer() }),
      ...((part === 'codes' || part === 'all') && { codes: () => run.makeCodes() }),
      ...((part === 'ar' || part === 'all') && { ar: () => run.trainTokenModel() }),
    };
    let stopped: TrainResult['stopped'];
    for (const [stage, make] of Object.entries(stages)) {
      if (!isTimeUp() && (await make())) continue;
      stopped = { stage: stage as TrainingStage };
      break;
    }
    const data = withSkipped(opened.use, skipped);
    await writeDataUse(folder, data);
    const report = await writeReport(folder);
    return stopped
      ? { report, stopped, skipped, data }
      : { bundle: await folder.place('bundle'), report, skipped, data };
  } finally {
    for (const backend of backends) await backend.close?.();
    for (const part of opened ? [opened.train, opened.heldOut] : []) await part.close?.();
    await folder.close();
  }
}

interface RunData {
  readonly train: ImageDataset;
  readonly heldOut: ImageDataset;
  /** Which images are trained with, and a digest of it. */
  readonly images: { readonly digest: string; readonly train: ImagesIdentity };
  /** How they were divided. */
  readonly record: HoldOutRecord;
}

type RunOptions = TrainOptions & { readonly isTimeUp: () => boolean };

class Run {
  readonly #config: TrainingConfig;
  readonly #options: RunOptions;
  readonly #folder: RunFolder;
  readonly #backends: readonly Backend[];
  readonly #data: RunData;

  constructor(options: RunOptions, folder: RunFolder, backends: readonly Backend[], data: RunData) {
    this.#config = options.config;
    this.#options = options;
    this.#folder = folder;
    this.#backends = backends;
    this.#data = data;
  }

  /** @returns whether it is trained to the end; so do the others */
  async trainTokenizer(): Promise<boolean> {
    const { seed, checkpoints, validation, tokenizer, data } = this.#config;
    const { model: config, recipe, batch } = tokenizer;
    const size = config.imageSize;
    const order = visitOrder(this.#data.train.labels, { balance: data.balance, seed });
    const { lossNetworks: files = {}, initial } = this.#options;
    const { networks, close } = await openLossNetworks(this.#config, files, this.#backends[0]);
    const trainer = await TokenizerTrainer.create({
      config,
      recipe,
      backends: this.#backends,
      seed,
      networks,
      ...(initial && { parameters: await readArrays(tokenizerParameters(config), initial.weights) }),
    });
    try {
      const isDone = await runStage<Float32Array>({
        ...this.#common(),
        stage: 'tokenizer',
        trainer: {
          get step() {
            return trainer.step;
          },
          get graphs() {
            return trainer.graphs;
          },
          train: async (batch) => ({ ...(await trainer.train(batch)) }),
          snapshot: () => trainer.snapshot(),
          restore: (snapshot) => trainer.restore(snapshot),
        },
        steps: recipe.schedule.steps,
        batchSize: batch,
        checkpoints,
        batch: async (step) => {
          const values = new Float32Array(batch * 3 * size * size);
          const indices = order.batch(step, batch);
          await Promise.all(
            indices.map(async (index, i) => {
              const view = { ...viewOf(data), size, seed, position: step * batch + i };
              const image = trainingView(await this.#data.train.image(index), view);
              imageValues(image, size, values.subarray(i * 3 * size * size, (i + 1) * 3 * size * size));
            }),
          );
          return values;
        },
        validation: {
          every: validation.every,
          run: async (step, signal) => {
            const parameters = await trainer.parameters(kept(recipe));
            const found = await validateTokenizer(this.#backends[0], {
              ...{ config, parameters, data: centerOf(data), images: validation.images },
              ...{ dataset: this.#data.heldOut, signal },
            });
            await this.#savePicture('tokenizer', step, found.picture);
            return { psnr: found.psnr };
          },
        },
      });
      if (isDone) await this.#write({ tokenizer: await trainer.parameters(kept(recipe)) });
      return isDone;
    } finally {
      await close();
      await trainer.dispose();
    }
  }

  async makeCodes(): Promise<boolean> {
    const { signal, onProgress } = this.#options;
    const { data, seed, tokenizer } = this.#config;
    const parameters = await this.#tokenizer();
    const { train: dataset } = this.#data;
    const { tokens, codebookSize } = tokenizer.model;
    const store = await CodeStore.begin(await this.#codesFolder(), {
      images: dataset.labels.length,
      views: codeViewCount(data.views),
      tokens,
      codebookSize,
      shard: codesShard(this.#options.codesShard),
      origin: this.#codesOrigin(parameters),
    });
    const tokenizers = this.#backends.map((backend) => this.#createTokenizer(backend, parameters));
    try {
      await extractCodes({
        ...{ tokenizers, dataset, store, seed, signal },
        ...codesView(this.#config),
        elsewhere: this.#options.codesElsewhere?.({
          ...{ config: this.#config, images: this.#data.images.train, origin: store.header.origin },
          views: store.header.views,
        }),
        onSkip: this.#options.onSkip,
        onProgress: (done, total) => onProgress?.({ stage: 'codes', done, total }),
      });
      return true;
    } finally {
      for (const one of tokenizers) await one.dispose();
      await store.close();
    }
  }

  async trainTokenModel(): Promise<boolean> {
    const { seed, checkpoints, validation, tokenModel, data } = this.#config;
    const { recipe, batch } = tokenModel;
    const { labels, classNames } = this.#data.train;
    const config: TokenModelConfig = { ...tokenModel.model, classes: classNames.length };
    const parameters = await this.#tokenizer();
    const store = await CodeStore.open(await this.#codesFolder());
    const { origin } = store.header;
    if (origin !== this.#codesOrigin(parameters)) {
      throw new DetailFlowError(
        'config',
        'the codes are of another tokenizer, of other images, or made with other settings; remove them and make them again',
        { file: await this.#codesFolder() },
      );
    }
    await this.#folder.bind('ar', origin);
    const order = visitOrder(labels, { balance: data.balance, seed: seed + 1 });
    const trainer = await TokenModelTrainer.create({ config, recipe, backends: this.#backends, seed });
    const tokenizer = this.#createTokenizer(this.#backends[0], parameters);
    try {
      const heldOut = await heldOutCodes(tokenizer, {
        ...{ dataset: this.#data.heldOut, view: centerOf(data), images: validation.images },
        ...{ microBatch: recipe.microBatch, signal: this.#options.signal },
      });
      const isDone = await runStage<CodeBatch>({
        ...this.#common(),
        stage: 'ar',
        trainer: {
          get step() {
            return trainer.step;
          },
          train: async (codes) => {
            const { positionLoss, ...report } = await trainer.train(codes);
            return {
              ...report,
              perplexity: Math.exp(report.loss),
              positionLoss: [...positionLoss].map(round),
            };
          },
          snapshot: () => trainer.snapshot(),
          restore: (snapshot) => trainer.restore(snapshot),
        },
        steps: recipe.schedule.steps,
        batchSize: batch,
        checkpoints,
        batch: async (step) => readBatch(store, { labels, order, step, batch, seed, views: data.views }),
        validation: {
          every: validation.every,
          run: async (step, signal) => {
            const { loss, positionLoss } = await trainer.evaluate(heldOut, { signal });
            const found = await trainer.parameters(kept(recipe));
            const cfg = 1.5;
            const options = { tokenizer, config, parameters: found, cfg, signal };
            await this.#savePicture('ar', step, await sampleGrid(this.#backends[0], options));
            return {
              heldOutLoss: loss,
              heldOutPerplexity: Math.exp(loss),
              heldOutPositionLoss: [...positionLoss].map(round),
            };
          },
        },
      });
      if (isDone) {
        const ar = { config, parameters: await trainer.parameters(kept(recipe)) };
        await this.#write({ tokenizer: parameters, ar });
      }
      return isDone;
    } finally {
      await tokenizer.dispose();
      await trainer.dispose();
      await store.close();
    }
  }

  #write(parts: Pick<TrainedModel, 'tokenizer' | 'ar'>): Promise<void> {
    const { classNames } = this.#data.train;
    const { record: heldOut } = this.#data;
    const { data: trainedOn } = this.#options;
    return writeModel(this.#folder, this.#config, { ...parts, classNames, trainedOn, heldOut });
  }

  #common() {
    const { signal, isTimeUp, onProgress, onSaved } = this.#options;
    return { folder: this.#folder, signal, isTimeUp, onStep: onProgress, onSaved };
  }

  #codesFolder(): Promise<string> {
    return this.#folder.place('codes', 'codes.json').then((file) => file.replace(/[/\\]codes\.json$/, ''));
  }

  #codesOrigin(parameters: Arrays): string {
    const settings = codesSettings(this.#config);
    return codesOrigin({ parameters, images: this.#data.images.digest, settings });
  }

  #createTokenizer(backend: Backend, parameters: Arrays) {
    const { model: config } = this.#config.tokenizer;
    return createTokenizer({ config, weights: weightsOf(tokenizerParameters(config), parameters), backend });
  }

  /** The parameters of the tokenizer that was given, or was trained here. @throws DetailFlowError `io` when it is not trained to the end */
  async #tokenizer(): Promise<Arrays> {
    const { model, recipe } = this.#config.tokenizer;
    const given = this.#options.tokenizer;
    if (given) return readArrays(tokenizerParameters(model), given.weights);
    const { steps } = recipe.schedule;
    const last = await this.#folder.last('tokenizer');
    if (!last || last.step < steps) {
      const found = last ? `is at step ${last.step} of ${steps}` : 'has not begun';
      throw new DetailFlowError(
        'io',
        `the tokenizer ${found}; train it first (detailflow train tokenizer), or give one`,
        {
          file: this.#folder.path,
        },
      );
    }
    const kind = recipe.averageDecay === undefined ? 'param' : 'ema';
    return new Map(
      tokenizerParameters(model).map(({ name }) => {
        const tensor = last.tensors[`${kind}.${name}`];
        if (!tensor) throw new DetailFlowError('weights', 'the checkpoint does not have it', { entry: name });
        return [name, tensor.data as Float32Array];
      }),
    );
  }

  async #savePicture(stage: 'tokenizer' | 'ar', step: number, picture: Picture): Promise<void> {
    const file = await this.#folder.place(stage, 'pictures', `step-${String(step).padStart(9, '0')}.png`);
    const bytes = await picture.toPng();
    await writeFileAtomically(file, (write) => write(bytes));
    await writeReport(this.#folder);
  }
}

/** @throws DetailFlowError `config` when a tokenizer that is given is not the one of the settings */
function checkTokenizer(given: TrainedTokenizer, { part, config }: TrainOptions): void {
  if (part === 'tokenizer') {
    throw new DetailFlowError('config', 'a tokenizer was given, so there is none to train');
  }
  checkConfig(given, config);
}

/** Which parameters a recipe ends with. */
const kept = ({ averageDecay }: { averageDecay?: number }) =>
  averageDecay === undefined ? ('current' as const) : ('average' as const);

const round = (x: number) => Math.round(1e5 * x) / 1e5;
