import { DetailFlowError } from '@detailflow/core';
import { type ImageDataset, MemoryDataset } from './dataset';
import type { NpzArray } from './npz';
import { greyToRgb } from './rgb-image';
import { UnusedCounter, type UnusedFiles } from './source-use';

/** Names under which images are looked for, and those of their classes, in this order. */
type Names = readonly (readonly [images: string, labels: readonly string[]])[];

/** As Keras and MedMNIST name the parts of a data set. */
const trainNames: Names = [
  ['x_train', ['y_train']],
  ['train_images', ['train_labels']],
];
const testNames: Names = [
  ['x_val', ['y_val']],
  ['val_images', ['val_labels']],
  ['x_test', ['y_test']],
  ['test_images', ['test_labels']],
];
const labelNames = ['labels', 'label', 'targets', 'y', 'arr_1'];
const wholeNames: Names = [
  ['arr_0', ['arr_1', ...labelNames]],
  ['images', labelNames],
  ['x', ['y', ...labelNames]],
  ['data', labelNames],
];
/** Statistics of features lie beside images in reference files of evaluations. */
const statistics = ['mu', 'sigma', 'mu_s', 'sigma_s'];
/** Images of more bytes stay in the file. */
const MOST_HELD = 2 ** 28;
const MOST_CLASSES = 100_000;

/** The image sets of a .npz file: two parts, or one. */
export interface NpzParts {
  readonly train: ImageDataset;
  /** Where the file names a part for tests or validation beside one for training. */
  readonly test?: ImageDataset;
  readonly unused: readonly UnusedFiles[];
}

/** Images and classes of one part. */
interface Found {
  readonly images: NpzArray;
  readonly labels?: NpzArray;
}

/**
 * The data sets of the arrays of a .npz file: images uint8 [n, height, width, 3] (or without the last axis, grey) and, if
 * there are any, classes of any integer type [n]; named `arr_0`, `images`, `x` or `data`, or in two parts `x_train` and
 * `x_test`, or `train_images` and `val_images` or `test_images`. Small ones are read at once; of others every image when it
 * is asked for, at best in order where the file is compressed. Arrays that are not used are counted.
 * @param given names of the classes; their numbers where there are none
 * @throws DetailFlowError `format`, `dtype` or `shape` when there are no such arrays, or only one of two parts has classes
 */
export async function npzParts(
  arrays: ReadonlyMap<string, NpzArray>,
  file: string,
  given: readonly string[] = [],
): Promise<NpzParts> {
  const used = new Set<string>(statistics);
  const keyOf = (name: string) =>
    arrays.has(name) ? name : [...arrays.keys()].find((key) => key.toLowerCase() === name);
  const take = (names: readonly string[]): NpzArray | undefined => {
    const key = names.map(keyOf).find((found) => found !== undefined);
    if (key === undefined) return undefined;
    used.add(key);
    return arrays.get(key);
  };
  const find = (names: Names): Found | undefined => {
    for (const [name, labels] of names) {
      const images = take([name]);
      if (images) return { images, labels: take(labels) };
    }
    return undefined;
  };
  const train = find(trainNames);
  const test = find(testNames);
  const parts = [train, test].filter((part) => part !== undefined);
  if (train && !train.labels && !test) parts[0] = { ...train, labels: take(labelNames) };
  const whole = parts.length === 0 ? find(wholeNames) : undefined;
  if (whole) parts.push(whole);
  if (parts.length === 0) {
    const names = [...wholeNames, ...trainNames, ...testNames].map(([name]) => name);
    throw new DetailFlowError('format', `has no array of images: name it one of ${names.join(', ')}`, {
      file,
    });
  }
  const mute = parts.find((part) => !part.labels);
  if (mute && parts.some((part) => part.labels)) {
    const without = mute === train ? 'training' : 'test';
    throw new DetailFlowError('format', `has classes of one part and none of the ${without} images`, {
      file,
    });
  }
  const labels: Int32Array[] = [];
  for (const part of parts) labels.push(await readLabels(part, file));
  const most = labels.flatMap((values) => [...new Set(values)]).reduce((a, b) => Math.max(a, b), 0);
  const length = Math.max(most + 1, given.length);
  const classNames = Array.from({ length }, (_, i) => given[i] ?? `${i}`);
  const datasets: ImageDataset[] = [];
  for (const [i, part] of parts.entries()) {
    const name = parts.length === 1 ? file : `${file} (${i === 0 ? 'train' : 'test'})`;
    datasets.push(await openPart(part.images, { name, classNames, labels: labels[i] }));
  }
  const unused = new UnusedCounter();
  for (const name of arrays.keys()) if (!used.has(name)) unused.add('an array that is not used', name);
  return { train: datasets[0], test: datasets[1], unused: unused.list() };
}

/** The images of a .npz file as one data set: those for training where there are parts. See {@link npzParts}. */
export async function npzDataset(arrays: ReadonlyMap<string, NpzArray>, file: string): Promise<ImageDataset> {
  const { train, test, unused } = await npzParts(arrays, file);
  await test?.close?.();
  return Object.assign(train, { unused });
}

async function readLabels({ images, labels }: Found, file: string): Promise<Int32Array> {
  const { shape, dtype, byteLength } = images;
  if (dtype !== 'uint8') {
    throw new DetailFlowError('dtype', `holds images of ${dtype}; give uint8`, { file });
  }
  const [count, , , channels = 1] = shape;
  if (![3, 4].includes(shape.length) || (channels !== 1 && channels !== 3) || byteLength === 0) {
    throw new DetailFlowError(
      'shape',
      `holds images of shape [${shape.join(', ')}]; give [n, height, width, 3] or [n, height, width]`,
      { file },
    );
  }
  if (shape.length === 3 && shape[2] === 3) {
    throw new DetailFlowError(
      'shape',
      `holds [${shape.join(', ')}], which looks like one image and would be ${count} grey ones; give [1, ${shape.join(', ')}]`,
      { file },
    );
  }
  if (!labels) return new Int32Array(count);
  if (labels.dtype.startsWith('float')) {
    throw new DetailFlowError('dtype', `holds classes of ${labels.dtype}; give integers`, { file });
  }
  const found = await labels.read();
  if (found.data.length !== count) {
    throw new DetailFlowError('shape', `has ${found.data.length} classes for ${count} images`, { file });
  }
  const values = Int32Array.from({ length: count }, (_, i) => Number(found.data[i]));
  // Whole numbers of 64 bits may not fit.
  if (values.some((label, i) => label < 0 || label > MOST_CLASSES || label !== Number(found.data[i]))) {
    throw new DetailFlowError('format', `an image has a class outside 0 .. ${MOST_CLASSES}`, { file });
  }
  return values;
}

async function openPart(
  images: NpzArray,
  options: { readonly name: string; readonly classNames: readonly string[]; readonly labels: Int32Array },
): Promise<ImageDataset> {
  const [, height, width, channels = 1] = images.shape;
  const isGrey = channels === 1;
  if (images.byteLength <= MOST_HELD) {
    const pixels = (await images.read()).data as Uint8Array;
    const shape = { height, width, channels: isGrey ? (1 as const) : (3 as const) };
    return new MemoryDataset({ ...options, pixels, ...shape });
  }
  return {
    ...options,
    async image(index) {
      const data = (await images.read(index, 1)).data as Uint8Array;
      return { data: isGrey ? greyToRgb(data) : data, width, height };
    },
  };
}
