import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { openFile } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { cifarDataset } from './cifar';
import type { Colour } from './contact-sheet';
import { type ImageDataset, MemoryDataset } from './dataset';
import { type HoldOutRule, holdOut } from './hold-out';
import { openImageFolder } from './image-folder';
import { openNpz } from './npz';
import { npzDataset } from './npz-dataset';
import { hasIdx, openIdx } from './open-idx';
import { readFileCapped } from './read-file';
import { shapesDataset } from './shapes';

/** A data set in two parts. */
export interface OpenedDataset {
  readonly train: ImageDataset;
  /** Never trained on. */
  readonly heldOut: ImageDataset;
  /** All images, where the data set has no test part of its own, and of every one whether it is held out. */
  readonly whole?: ImageDataset;
  readonly isHeldOut?: Uint8Array;
  /** By which it was divided then. */
  readonly rule?: HoldOutRule;
}

export interface OpenDatasetOptions extends Pick<HoldOutRule, 'seed' | 'groupBy'> {
  /** Share of the images that is held out where the data set has no test part of its own. */
  readonly heldOut: number;
  /** What transparent pictures of a folder are laid on; default white. */
  readonly background?: Colour;
  /** Names of the classes, where the files have none. */
  readonly classNames?: readonly string[];
}

const MOST_BYTES = 2 ** 31 - 1;
const MOST_SHAPES = 1_000_000;

/**
 * Opens a data set, whatever it is: a folder in the layout of MNIST (IDX, plain or .gz) or of CIFAR-10 (binary), a
 * folder of images with a folder for each class (`train` and `val` or `test` inside are taken as the parts), a .npz
 * file, or `shapes:N` or `shapes:NxS` for N generated shapes of S pixels.
 * @throws DetailFlowError naming the file and what is wrong with it
 */
export async function openDataset(source: string, options: OpenDatasetOptions): Promise<OpenedDataset> {
  const shapes = /^shapes:(\d{1,8})(?:x(\d{1,4}))?$/.exec(source);
  if (shapes) {
    const images = Math.min(Number(shapes[1]), MOST_SHAPES);
    return divided(shapesDataset({ images, size: Number(shapes[2] ?? 32), seed: options.seed }), options);
  }
  const stats = await stat(source).catch((cause) => {
    throw new DetailFlowError(
      'io',
      `cannot be opened (${cause.code}); give a folder of images, a .npz file, or shapes:N`,
      { file: source, cause },
    );
  });
  if (!stats.isDirectory()) {
    return divided(await openNpzDataset(source), options);
  }
  const { classNames } = options;
  if (await hasIdx(source, 'train')) {
    const train = await openIdx(source, { split: 'train', classNames });
    if (!(await hasIdx(source, 'test'))) return divided(train, options);
    const heldOut = await openIdx(source, { split: 'test', classNames: train.classNames });
    return { train, heldOut };
  }
  const names = await readdir(source);
  const batches = names.filter((name) => /^data_batch_\d+\.bin$/.test(name)).sort();
  if (batches.length > 0) return openCifar(source, batches, names.includes('test_batch.bin'), options);
  const test = ['val', 'test'].find((name) => names.includes(name));
  if (names.includes('train') && test) {
    const train = await openImageFolder(path.join(source, 'train'), options);
    const heldOut = await openImageFolder(path.join(source, test), options);
    if (train.classNames.join('\n') !== heldOut.classNames.join('\n')) {
      throw new DetailFlowError('io', `train and ${test} must have the same classes`, { file: source });
    }
    return { train, heldOut };
  }
  return divided(await openImageFolder(source, options), options);
}

function divided(whole: ImageDataset, options: OpenDatasetOptions): OpenedDataset {
  const { heldOut: share, seed, groupBy } = options;
  const rule = { share, seed, ...(groupBy !== undefined && { groupBy }) };
  return { ...holdOut(whole, rule), whole, rule };
}

/** The images of a .npz file, which stays open until the data set is closed. */
async function openNpzDataset(file: string): Promise<ImageDataset> {
  const source = await openFile(file);
  try {
    const dataset = await npzDataset(await openNpz(source), file);
    if (dataset instanceof MemoryDataset) await source.close();
    else dataset.close = () => source.close();
    return dataset;
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function openCifar(
  folder: string,
  batches: readonly string[],
  hasTest: boolean,
  options: OpenDatasetOptions,
): Promise<OpenedDataset> {
  const names = await readFile(path.join(folder, 'batches.meta.txt'), 'utf8').then(
    (text) =>
      text
        .split('\n')
        .map((line) => line.trim())
        .filter(Boolean),
    () => undefined,
  );
  const classNames = options.classNames ?? names ?? Array.from({ length: 10 }, (_, i) => `${i}`);
  const read = (files: readonly string[]) =>
    Promise.all(
      files.map(async (file) => ({
        name: file,
        bytes: await readFileCapped(path.join(folder, file), MOST_BYTES),
      })),
    );
  const train = cifarDataset(await read(batches), { name: `${folder} (train)`, classNames });
  if (!hasTest) return divided(train, options);
  return {
    train,
    heldOut: cifarDataset(await read(['test_batch.bin']), { name: `${folder} (test)`, classNames }),
  };
}
