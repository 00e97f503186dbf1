import { stat } from 'node:fs/promises';
import path from 'node:path';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { MemoryDataset } from './dataset';
import { parseIdx } from './idx';
import { readInflated } from './read-file';

/** Which half of a data set that comes in two. */
export type Split = 'train' | 'test';

const prefixes: Readonly<Record<Split, string>> = { train: 'train', test: 't10k' };
const MOST_BYTES = 2 ** 31 - 1;

/**
 * Opens a folder in the layout of MNIST: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., each plain or .gz.
 * @param options.classNames names of the classes; their numbers if omitted
 * @throws DetailFlowError `io`, `format`, `limit`, each naming the file
 */
export async function openIdx(
  folder: string,
  options: { split: Split; classNames?: readonly string[] },
): Promise<MemoryDataset> {
  checkOptions('openIdx', options, { split: true, classNames: true });
  const prefix = prefixes[options.split];
  const images = await read(folder, `${prefix}-images-idx3-ubyte`);
  const labels = await read(folder, `${prefix}-labels-idx1-ubyte`);
  const [count, height, width] = images.dims;
  if (images.dims.length !== 3 || images.data.length === 0) {
    throw new DetailFlowError('shape', `has shape [${images.dims}]; images are [n, height, width]`, {
      file: images.file,
    });
  }
  if (labels.dims.length !== 1 || labels.dims[0] !== count) {
    throw new DetailFlowError('shape', `has shape [${labels.dims}], but there are ${count} images`, {
      file: labels.file,
    });
  }
  const classes = labels.data.reduce((most, label) => Math.max(most, label), 0) + 1;
  return new MemoryDataset({
    name: `${folder} (${options.split})`,
    classNames: options.classNames ?? Array.from({ length: classes }, (_, i) => `${i}`),
    labels: Int32Array.from(labels.data),
    pixels: images.data,
    height,
    width,
    channels: 1,
  });
}

/** Whether a folder has the files of a split. */
export async function hasIdx(folder: string, split: Split): Promise<boolean> {
  return (await find(folder, `${prefixes[split]}-images-idx3-ubyte`)) !== undefined;
}

async function find(folder: string, name: string): Promise<string | undefined> {
  for (const file of [path.join(folder, name), path.join(folder, `${name}.gz`)]) {
    if (
      await stat(file).then(
        (found) => found.isFile(),
        () => false,
      )
    )
      return file;
  }
  return undefined;
}

async function read(folder: string, name: string) {
  const file = await find(folder, name);
  if (!file) {
    throw new DetailFlowError('io', `there is neither ${name} nor ${name}.gz`, { file: folder });
  }
  return { file, ...parseIdx(await readInflated(file, MOST_BYTES), file) };
}
