import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { digestFile } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import type { ImageDataset } from './dataset';
import { type DecodeOptions, decodeImage } from './decode-image';
import { readFileCapped } from './read-file';
import type { RgbImage } from './rgb-image';
import { UnusedCounter, type UnusedFiles, useLines } from './source-use';
import { imagesWithin, listFolder, newWalk } from './walk-images';

const MOST_BYTES = 2 ** 28;

/** A folder of images that are read when they are asked for. */
export interface ImageFolder extends ImageDataset {
  /** The file of every image. */
  readonly files: readonly string[];
  readonly unused: readonly UnusedFiles[];
}

/**
 * Opens a folder with a folder of images for each class (looked for in folders inside, too), or a folder of images that are
 * all of one class. Classes and images come in the order of torchvision's ImageFolder, links are followed as it does, and the
 * pixels are those of Pillow's convert('RGB'); see `decodeImage`. A file is an image when its name or its first bytes say so.
 * What is not used is counted: images beside the folders of classes, other files, links to nothing or in a circle.
 * @param options.background what transparent pixels are laid on; default: alpha is dropped
 * @throws DetailFlowError `io` when it cannot be listed, holds no images, or a class has none
 */
export async function openImageFolder(
  folder: string,
  options: Pick<DecodeOptions, 'background'> = {},
): Promise<ImageFolder> {
  const unused = new UnusedCounter();
  const walk = newWalk(folder, unused);
  const real = await realpath(folder).catch((cause) => {
    throw new DetailFlowError('io', `cannot be opened (${cause.code})`, { file: folder, cause });
  });
  const top = await listFolder(folder, real, walk);
  const classes: { name: string; files: string[]; unused: UnusedCounter }[] = [];
  for (const { name, real: inside } of top.folders) {
    const own = new UnusedCounter();
    if (inside === real) {
      unused.add('a link back to a folder that it lies in', name);
      continue;
    }
    const files = await imagesWithin(
      { path: path.join(folder, name), real: inside },
      { ...walk, unused: own },
    );
    classes.push({ name, files, unused: own });
  }
  for (const one of classes) unused.addAll(one.unused.list());
  const dataset = (classNames: readonly string[], files: readonly string[], labels: readonly number[]) => ({
    name: folder,
    classNames,
    files,
    names: files.map((file) => path.relative(folder, file).replaceAll(path.sep, '/')),
    labels: Int32Array.from(labels),
    unused: unused.list(),
    image: async (index: number): Promise<RgbImage> =>
      decodeImage(await readFileCapped(files[index], MOST_BYTES), files[index], options),
    digest: (index: number) => digestFile(files[index]),
  });
  if (classes.every(({ files }) => files.length === 0)) {
    if (top.images.length === 0) throw noImages(folder, unused.list());
    for (const { name } of classes) unused.add('a folder without images', name);
    const files = top.images.map((name) => path.join(folder, name));
    return dataset(
      [path.basename(folder)],
      files,
      files.map(() => 0),
    );
  }
  for (const name of top.images) unused.add('an image beside the folders of classes', name);
  const files: string[] = [];
  const labels: number[] = [];
  for (const [label, one] of classes.entries()) {
    if (one.files.length === 0) throw noImages(path.join(folder, one.name), one.unused.list());
    for (const file of one.files) {
      files.push(file);
      labels.push(label);
    }
  }
  return dataset(
    classes.map(({ name }) => name),
    files,
    labels,
  );
}

function noImages(folder: string, unused: readonly UnusedFiles[]): DetailFlowError {
  const found = useLines({ images: 0, classes: 0, unused }).slice(1);
  const there = found.length > 0 ? `; there is\n${found.join('\n')}` : '';
  return new DetailFlowError('io', `there are no images in this folder${there}`, { file: folder });
}
