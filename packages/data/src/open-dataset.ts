import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { openFile } from '@detailflow/checkpoint/node';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import type { Colour } from './contact-sheet';
import { type ImageDataset, MemoryDataset } from './dataset';
import { type HoldOutRule, holdOut } from './hold-out';
import { openImageFolder } from './image-folder';
import { innerFolder } from './inner-folder';
import { openNpz } from './npz';
import { npzParts } from './npz-dataset';
import { openArchive, openImageNet } from './open-archive';
import { openCifar } from './open-cifar';
import { findIdx, openIdx } from './open-idx';
import { openParquet } from './open-parquet';
import { partFolders } from './part-folders';
import { refusePartsAsClasses } from './parts-as-classes';
import { requireSameClasses } from './same-classes';
import { shapesDataset } from './shapes';
import { emptyClasses, type SourceUse, UnusedCounter, type UnusedFiles } from './source-use';
import { imagesWithin, newWalk } from './walk-images';

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
  /** How many images both parts have together, and what lies in the source and is not used. */
  readonly use: SourceUse;
}

/** Which part of a data set is opened, and what is held out. */
export interface OpenDatasetOptions extends Pick<HoldOutRule, 'seed' | 'groupBy'> {
  /** Share of the images that is held out where the data set has no test part of its own. */
  readonly heldOut: number;
  /** Names of the classes, where the files have none. */
  readonly classNames?: readonly string[];
  /** What transparent pixels of image files are laid on; default: alpha is dropped, as Pillow's convert('RGB') does. */
  readonly background?: Colour;
}

const MOST_SHAPES = 1_000_000;
/** Folders that hold nothing but the next one, as archives unpack. */
const MOST_WRAPPERS = 3;

/**
 * Opens a data set, whatever it is: a folder in the layout of MNIST (IDX, plain or .gz) or of CIFAR-10 and CIFAR-100 (binary,
 * or for Python), a folder of images with a folder for each class (`train` and `val` or `test` inside are taken as the
 * parts; folders around either are passed by), a .npz file, a .zip or .tar file of images, a folder of .tar files (WebDataset) or of Parquet files as on the Hub, ImageNet as
 * Kaggle packs it, or `shapes:N` or `shapes:NxS` for N generated shapes of S pixels. What is not used is counted.
 * @throws DetailFlowError naming the file and what is wrong with it
 * @see https://detailflow.github.io/detailflow-ts/definitions/reading-images.html
 */
export async function openDataset(source: string, options: OpenDatasetOptions): Promise<OpenedDataset> {
  checkOptions('openDataset', options, {
    ...{ heldOut: true, seed: true, groupBy: true, classNames: true, background: true },
  });
  const shapes = /^shapes:(\d{1,8})(?:x(\d{1,4}))?$/.exec(source);
  if (shapes) {
    const images = Math.min(Number(shapes[1]), MOST_SHAPES);
    const whole = shapesDataset({ images, size: Number(shapes[2] ?? 32), seed: options.seed });
    return inParts({ train: whole, unused: [] }, options);
  }
  const stats = await stat(source).catch((cause) => {
    throw new DetailFlowError(
      'io',
      `cannot be opened (${cause.code}); give a folder of images, a .npz, .zip, .tar or .parquet file, or shapes:N`,
      { file: source, cause },
    );
  });
  const packed = (await openArchive(source, options)) ?? (await openParquet(source, options));
  if (packed) return inParts(packed, options);
  if (!stats.isDirectory()) return inParts(await openNpzParts(source, options), options);
  const parts =
    (await openArrays(source, options, MOST_WRAPPERS)) ??
    (await openImageNet(source, options)) ??
    (await openFolders(source, options));
  return inParts(parts, options);
}

/** Folders of classes, in parts or not, wherever they begin; files are named as they lie in the source. */
async function openFolders(source: string, options: OpenDatasetOptions): Promise<Parts> {
  const unused = new UnusedCounter();
  const inner = await innerFolder(source, unused);
  const parts = (await openPartFolders(inner, options)) ?? (await openOneFolder(inner, options));
  if (inner === source) return parts;
  const below = path.relative(source, inner).replaceAll(path.sep, '/');
  unused.addAll(parts.unused, `${below}/`);
  const placed = (dataset: ImageDataset | undefined) =>
    dataset && { ...dataset, name: source, names: dataset.names?.map((name) => `${below}/${name}`) };
  return { train: placed(parts.train), test: placed(parts.test), unused: unused.list() };
}

/** The parts that a source has. */
interface Parts {
  readonly train?: ImageDataset;
  readonly test?: ImageDataset;
  readonly unused: readonly UnusedFiles[];
}

/** Divides what has only one part. */
function inParts(
  { train, test, unused }: Parts,
  { heldOut: share, seed, groupBy }: OpenDatasetOptions,
): OpenedDataset {
  const whole = train && test ? undefined : (train ?? test);
  const rule = { share, seed, ...(groupBy !== undefined && { groupBy }) };
  const {
    train: first,
    heldOut,
    ...division
  } = whole
    ? { ...holdOut(whole, rule), whole, rule }
    : { train: train as ImageDataset, heldOut: test as ImageDataset };
  const use = {
    images: first.labels.length + heldOut.labels.length,
    classes: first.classNames.length,
    ...emptyClasses(first),
    unused,
  };
  return { train: first, heldOut, ...division, use };
}

/** A folder of IDX or CIFAR files, or one that holds nothing but such a folder. */
async function openArrays(
  folder: string,
  options: OpenDatasetOptions,
  wrappers: number,
): Promise<Parts | undefined> {
  const names = (await readdir(folder)).sort();
  const found = (await openIdxParts(folder, names, options)) ?? (await openCifar(folder, names, options));
  if (found) {
    const { train, test, used } = found;
    const unused = new UnusedCounter();
    for (const name of names) if (!used.includes(name)) unused.add('no part of the data set', name);
    return { train, test, unused: unused.list() };
  }
  const [only, ...others] = names.filter((name) => !name.startsWith('.'));
  if (wrappers === 0 || only === undefined || others.length > 0) return undefined;
  const inside = path.join(folder, only);
  return (await stat(inside).catch(() => undefined))?.isDirectory()
    ? openArrays(inside, options, wrappers - 1)
    : undefined;
}

async function openIdxParts(folder: string, names: readonly string[], options: OpenDatasetOptions) {
  const files = await findIdx(folder, names);
  const has = (split: string) => files.some((one) => one.split === split && one.holds === 'images');
  if (!has('train') && !has('test')) return undefined;
  const { classNames } = options;
  const train = has('train') ? await openIdx(folder, { split: 'train', classNames }) : undefined;
  const test = has('test')
    ? await openIdx(folder, { split: 'test', classNames: train?.classNames ?? classNames })
    : undefined;
  return { train, test, used: files.map(({ file }) => path.relative(folder, file).split(path.sep)[0]) };
}

/** A folder of images, or of folders of images, for each part; undefined when there is no `train`. */
async function openPartFolders(source: string, options: OpenDatasetOptions): Promise<Parts | undefined> {
  const names = (await readdir(source)).sort();
  const folders: string[] = [];
  for (const name of names) {
    if (name.startsWith('.')) continue;
    if ((await stat(path.join(source, name)).catch(() => undefined))?.isDirectory()) folders.push(name);
  }
  const { train: trained, test } = partFolders(folders);
  // A class may be called train, too.
  if (trained === undefined || (test === undefined && folders.length > 1)) return undefined;
  const train = await openImageFolder(path.join(source, trained), options);
  const heldOut = test === undefined ? undefined : await openImageFolder(path.join(source, test), options);
  const isFlat = (dataset: ImageDataset, part: string) => dataset.classNames.join('\n') === part;
  if (heldOut && test !== undefined && !(isFlat(train, trained) && isFlat(heldOut, test))) {
    requireSameClasses(train.classNames, heldOut.classNames, source, [trained, test]);
  }
  const unused = new UnusedCounter();
  unused.addAll(train.unused, `${trained}/`);
  if (heldOut) unused.addAll(heldOut.unused, `${test}/`);
  for (const name of names) {
    if (name === trained || name === test) continue;
    if (!folders.includes(name)) {
      unused.add('beside the parts', name);
      continue;
    }
    const inside = path.join(source, name);
    const walk = newWalk(source, unused);
    const images = await imagesWithin({ path: inside, real: await realpath(inside) }, walk);
    const parts = test === undefined ? trained : `${trained} and ${test}`;
    for (const image of images)
      unused.add(`an image in "${name}"; the parts are ${parts}`, path.relative(source, image));
  }
  const classNames = isFlat(train, trained) ? [path.basename(source)] : train.classNames;
  return {
    train: named(train, classNames),
    test: heldOut && named(heldOut, classNames),
    unused: unused.list(),
  };
}

const named = (dataset: ImageDataset, classNames: readonly string[]): ImageDataset => ({
  ...dataset,
  classNames,
});

async function openOneFolder(source: string, options: OpenDatasetOptions): Promise<Parts> {
  const train = await openImageFolder(source, options);
  refusePartsAsClasses(train.names ?? [], source);
  return { train, unused: train.unused };
}

/** The images of a .npz file, which stays open until the data sets are closed. */
async function openNpzParts(file: string, { classNames }: OpenDatasetOptions): Promise<Parts> {
  const source = await openFile(file);
  try {
    const { train, test, unused } = await npzParts(await openNpz(source), file, classNames);
    const open = [train, test].filter((part) => part !== undefined && !(part instanceof MemoryDataset));
    let left = open.length;
    for (const part of open as ImageDataset[]) {
      let isOpen = true;
      part.close = async () => {
        if (isOpen) left--;
        isOpen = false;
        if (left === 0) await source.close();
      };
    }
    if (left === 0) await source.close();
    return { train, test, unused };
  } catch (error) {
    await source.close();
    throw error;
  }
}
