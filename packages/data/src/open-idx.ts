import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { checkOptions, DetailFlowError } from '@detailflow/core';
import { MemoryDataset } from './dataset';
import { parseIdx } from './idx';
import { readInflated } from './read-file';

/** Which half of a data set that comes in two. */
export type Split = 'train' | 'test';

const MOST_BYTES = 2 ** 31 - 1;
/** As MNIST names them, Kaggle's copies (a dot), EMNIST's (a prefix, `test`), plain or gzipped. */
const pattern = /^(.*?)(train|t10k|test)[-_.](images|labels)[-_.]idx([13])[-_.]ubyte(?:\.gz)?$/i;

/** An IDX file of a folder. */
interface IdxFile {
  readonly file: string;
  readonly prefix: string;
  readonly split: Split;
  readonly holds: 'images' | 'labels';
}

/** The IDX files of a folder: the names of those that are read, one for each part and content. */
export async function findIdx(folder: string, names: readonly string[]): Promise<IdxFile[]> {
  const found: IdxFile[] = [];
  for (const name of [...names].sort((a, b) => a.length - b.length || (a < b ? -1 : 1))) {
    const match = pattern.exec(name);
    if (!match) continue;
    const [, prefix, part, content] = match.map((text) => text.toLowerCase());
    const [split, holds] = [part === 'train' ? 'train' : 'test', content as IdxFile['holds']] as const;
    const file = await regularFile(folder, name);
    const isCopy = found.some((one) => one.prefix === prefix && one.split === split && one.holds === holds);
    if (file !== undefined && !isCopy) found.push({ file, prefix, split, holds });
  }
  const [first, ...others] = new Set(found.map(({ prefix }) => prefix));
  if (others.length > 0) {
    throw new DetailFlowError(
      'config',
      `holds IDX files of several data sets (${[first, ...others].map((name) => `"${name}"`).join(', ')}); keep one in a folder`,
      { file: folder },
    );
  }
  return found;
}

/**
 * Opens a folder in the layout of MNIST: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., each plain or .gz; a dot
 * in place of a dash, `test` in place of t10k and something before `train` are taken as well.
 * @param options.classNames names of the classes; their numbers if omitted
 * @throws DetailFlowError `io`, `format`, `limit`, each naming the file
 */
export async function openIdx(
  folder: string,
  options: { split: Split; classNames?: readonly string[] },
): Promise<MemoryDataset> {
  checkOptions('openIdx', options, { split: true, classNames: true });
  const names = await readdir(folder).catch((cause) => {
    throw new DetailFlowError('io', `cannot be listed (${cause.code})`, { file: folder, cause });
  });
  const files = await findIdx(folder, names);
  const images = await read(folder, files, options.split, 'images');
  const labels = await read(folder, files, options.split, 'labels');
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

/** A file, or the file of the same kind in a folder of its name, as some archives unpack. */
async function regularFile(folder: string, name: string): Promise<string | undefined> {
  for (const file of [path.join(folder, name), path.join(folder, name, name)]) {
    const found = await stat(file).catch(() => undefined);
    if (found?.isFile()) return file;
  }
  const inside = await readdir(path.join(folder, name)).catch(() => []);
  const only = inside.find((one) => pattern.test(one));
  return only && path.join(folder, name, only);
}

async function read(folder: string, files: readonly IdxFile[], split: Split, holds: IdxFile['holds']) {
  const file = files.find((one) => one.split === split && one.holds === holds)?.file;
  if (file === undefined) {
    const name = `${split === 'train' ? 'train' : 't10k'}-${holds}-idx${holds === 'images' ? 3 : 1}-ubyte`;
    throw new DetailFlowError('io', `there is neither ${name} nor ${name}.gz`, { file: folder });
  }
  return { file, ...parseIdx(await readInflated(file, MOST_BYTES), file) };
}
