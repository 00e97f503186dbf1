import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { digestFile } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { white } from './colour';
import type { Colour } from './contact-sheet';
import type { ImageDataset } from './dataset';
import { decodeImage } from './decode-image';
import { readFileCapped } from './read-file';
import type { RgbImage } from './rgb-image';

const MOST_BYTES = 2 ** 28;
const MOST_IMAGES = 10_000_000;
const isImage = (name: string) => /\.(png|jpe?g|webp)$/i.test(name);

/** A folder of images that are read when they are asked for. */
export interface ImageFolder extends ImageDataset {
  /** The file of every image. */
  readonly files: readonly string[];
}

/**
 * Opens a folder with a folder of PNG, JPEG and WebP files for each class (looked for in folders inside, too), or a
 * folder of files that are all of one class.
 * @param options.background what transparent pictures are laid on; default white
 * @throws DetailFlowError `io` when it cannot be listed, holds no images, or a class has none
 */
export async function openImageFolder(
  folder: string,
  options: { readonly background?: Colour } = {},
): Promise<ImageFolder> {
  const entries = await list(folder);
  const classNames = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const files: string[] = [];
  const labels: number[] = [];
  if (classNames.length === 0) {
    const names = entries.filter(({ name }) => isImage(name)).map(({ name }) => name);
    if (names.length === 0) throw noImages(folder);
    for (const name of names) files.push(path.join(folder, name));
    return asDataset(
      folder,
      [path.basename(folder)],
      files,
      names.map(() => 0),
      options,
    );
  }
  for (const [label, name] of classNames.entries()) {
    const before = files.length;
    await collect(path.join(folder, name), files);
    if (files.length === before) throw noImages(path.join(folder, name));
    if (files.length > MOST_IMAGES) {
      throw new DetailFlowError('limit', `holds more than ${MOST_IMAGES} images`, { file: folder });
    }
    for (let i = before; i < files.length; i++) labels.push(label);
  }
  return asDataset(folder, classNames, files, labels, options);
}

function asDataset(
  name: string,
  classNames: readonly string[],
  files: string[],
  labels: number[],
  { background = white }: { readonly background?: Colour },
): ImageFolder {
  return {
    name,
    classNames,
    files,
    names: files.map((file) => path.relative(name, file).replaceAll(path.sep, '/')),
    labels: Int32Array.from(labels),
    image: async (index): Promise<RgbImage> =>
      decodeImage(await readFileCapped(files[index], MOST_BYTES), files[index], { background }),
    digest: (index) => digestFile(files[index]),
  };
}

async function collect(folder: string, files: string[]): Promise<void> {
  for (const entry of await list(folder)) {
    const full = path.join(folder, entry.name);
    if (entry.isDirectory()) await collect(full, files);
    else if (isImage(entry.name)) files.push(full);
  }
}

/** Sorted, without hidden ones. */
async function list(folder: string) {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw new DetailFlowError('io', `cannot be listed (${cause.message})`, { file: folder, cause });
  });
  return entries.filter(({ name }) => !name.startsWith('.')).sort((a, b) => (a.name < b.name ? -1 : 1));
}

const noImages = (folder: string) =>
  new DetailFlowError('io', 'there are no images (.png, .jpg, .jpeg or .webp) in this folder', {
    file: folder,
  });
