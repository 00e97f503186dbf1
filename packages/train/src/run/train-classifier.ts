import { mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import type { TrainableFamily } from '@detailflow/blocks';
import { ioError, writeFileAtomically } from '@detailflow/checkpoint/node';
import type { Backend } from '@detailflow/core';
import { checkOptions } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import {
  centerView,
  type ImageDataset,
  imageValues,
  type SkippedImage,
  skipUnreadable,
  trainingView,
} from '@detailflow/data';
import { openDataset } from '@detailflow/data/node';
import { readableImages } from '@detailflow/eval';
import { type ClassifierConfig, classifierParameters } from '@detailflow/features';
import { ClassifierTrainer } from '../classifier-trainer';
import type { RunConfig } from '../family-config';
import type { Arrays } from '../initialise';
import { centerOf, openingOf, viewOf } from './data-views';
import { modelsOf } from './models-of';
import { Pace } from './pace';
import { visitOrder } from './visit-order';

/** Options of `trainClassifier`. */
export interface TrainClassifierOptions {
  readonly config: RunConfig;
  /** The family that the settings are of, where that is not DetailFlow. */
  readonly family?: TrainableFamily;
  /** The data set: see `openDataset`. */
  readonly data: string;
  /** The .safetensors file. */
  readonly out: string;
  /** Makes a backend for each replica, closed at the end. */
  readonly createBackend: (options: { threads: number }) => Promise<Backend>;
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (progress: ClassifierProgress) => void;
}

/** How far a classifier has come. */
export interface ClassifierProgress {
  readonly stage: 'classifier';
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
  /** Unknown before the first step. */
  readonly samplesPerSecond?: number;
  readonly secondsLeft?: number;
}

/** What was trained. */
export interface TrainedClassifier {
  readonly file: string;
  /** Share of the held-out images whose class it names. */
  readonly accuracy: number;
  readonly heldOut: number;
  /** Right ones and all, by class. */
  readonly byClass: Readonly<Record<string, readonly [number, number]>>;
  readonly skipped: readonly SkippedImage[];
}

/** Images that are judged at a time. */
const BATCH = 64;

/**
 * Trains a classifier of the classes of a data set, on its training part alone, by the `data` and `classifier` settings
 * of a run: the judge of generated pictures (`openExtractor`), and the network of a perceptual loss. Nothing is written
 * before it is done.
 * @throws DetailFlowError as `openDataset`; `diverged`; the reason of the signal
 */
export async function trainClassifier(options: TrainClassifierOptions): Promise<TrainedClassifier> {
  checkOptions('trainClassifier', options, {
    ...{ config: true, family: true, data: true, out: true, createBackend: true, signal: true },
    onProgress: true,
  });
  const { config, signal, onProgress } = options;
  const { data, seed, classifier, replicas } = config;
  const { widths, features, recipe } = classifier;
  const size = modelsOf(config, options.family).tokenizer.imageSize;
  await mkdir(path.dirname(options.out), { recursive: true }).catch((cause) => {
    throw ioError('the folder cannot be made', options.out, cause);
  });
  const opened = await openDataset(options.data, openingOf(config));
  const skipped: SkippedImage[] = [];
  const onSkip = (image: SkippedImage) => skipped.push(image);
  const train = await skipUnreadable(opened.train, onSkip);
  const { dataset: heldOut, skipped: unread } = await readableImages(opened.heldOut, { signal });
  skipped.push(...unread);
  const backends: (Backend & { close?(): Promise<void> })[] = [];
  let trainer: ClassifierTrainer | undefined;
  try {
    const threads = Math.max(1, Math.floor(availableParallelism() / replicas));
    for (let i = 0; i < replicas; i++) backends.push(await options.createBackend({ threads }));
    const model = { imageSize: size, classes: train.classNames.length, widths, features };
    trainer = await ClassifierTrainer.create({ config: model, recipe, backends, seed });
    const order = visitOrder(train.labels, { balance: data.balance, seed: seed + 2 });
    const plane = 3 * size ** 2;
    const pace = new Pace(recipe.batch);
    while (trainer.step < recipe.steps) {
      signal?.throwIfAborted();
      const { step } = trainer;
      pace.begin(0);
      const indices = order.batch(step, recipe.batch);
      const images = new Float32Array(recipe.batch * plane);
      for (const [i, index] of indices.entries()) {
        const view = { ...viewOf(data), size, seed: seed + 2, position: step * recipe.batch + i };
        imageValues(
          trainingView(await train.image(index), view),
          size,
          images.subarray(i * plane, (i + 1) * plane),
        );
      }
      const labels = Int32Array.from(indices, (index) => train.labels[index]);
      const loss = await trainer.train(images, labels);
      pace.end(0);
      onProgress?.({
        ...{ stage: 'classifier', step: trainer.step, steps: recipe.steps, loss },
        ...pace.left(recipe.steps - trainer.step),
      });
    }
    const { byClass, right } = await judge(trainer, heldOut, { ...centerOf(data), size }, signal);
    const accuracy = right / heldOut.labels.length;
    await write(options.out, model, await trainer.parameters(), { accuracy, classNames: train.classNames });
    return { file: options.out, accuracy, heldOut: heldOut.labels.length, byClass, skipped };
  } finally {
    await trainer?.dispose();
    for (const backend of backends) await backend.close?.();
    for (const part of [opened.train, opened.heldOut]) await part.close?.();
  }
}

async function judge(
  trainer: ClassifierTrainer,
  dataset: ImageDataset,
  view: Parameters<typeof centerView>[1],
  signal?: AbortSignal,
): Promise<{ byClass: Record<string, [number, number]>; right: number }> {
  const plane = 3 * view.size ** 2;
  const byClass: Record<string, [number, number]> = {};
  let right = 0;
  for (let first = 0; first < dataset.labels.length; first += BATCH) {
    signal?.throwIfAborted();
    const count = Math.min(BATCH, dataset.labels.length - first);
    const images = new Float32Array(count * plane);
    for (let i = 0; i < count; i++) {
      const image = centerView(await dataset.image(first + i), view);
      imageValues(image, view.size, images.subarray(i * plane, (i + 1) * plane));
    }
    for (const [i, found] of (await trainer.classify(images)).entries()) {
      const label = dataset.labels[first + i];
      const name = dataset.classNames[label];
      byClass[name] ??= [0, 0];
      byClass[name][0] += Number(found === label);
      byClass[name][1]++;
      right += Number(found === label);
    }
  }
  return { byClass, right };
}

async function write(
  file: string,
  config: ClassifierConfig,
  parameters: Arrays,
  { accuracy, classNames }: { accuracy: number; classNames: readonly string[] },
): Promise<void> {
  const entries = classifierParameters(config).map(({ name, shape }) => ({
    ...{ name, shape },
    dtype: 'f32' as const,
  }));
  const plan = encodeSafetensors(entries, {
    config: JSON.stringify(config),
    accuracy: `${accuracy}`,
    classNames: JSON.stringify(classNames),
  });
  await writeFileAtomically(file, async (put) => {
    await put(plan.header);
    for (const { entry } of plan.tensors) {
      const { buffer, byteOffset, byteLength } = parameters.get(entry.name) as Float32Array;
      await put(new Uint8Array(buffer, byteOffset, byteLength));
    }
  });
}
