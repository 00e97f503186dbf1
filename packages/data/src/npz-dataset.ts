import { DetailFlowError } from '@detailflow/core';
import { type ImageDataset, MemoryDataset } from './dataset';
import type { NpzArray } from './npz';
import { greyToRgb } from './rgb-image';

/** Names under which images and classes are looked for, in this order. */
const imageNames = ['arr_0', 'images', 'x', 'x_train', 'data'];
const labelNames = ['arr_1', 'labels', 'y', 'y_train', 'label'];
/** Images of more bytes stay in the file. */
const MOST_HELD = 2 ** 28;

/**
 * A data set of the arrays of a .npz file: images uint8 [n, height, width, 3] (or without the last axis, grey) and, if
 * there are any, classes of any integer type [n]. Small ones are read at once; of others every image when it is asked
 * for, at best in order where the file is compressed.
 * @throws DetailFlowError `format`, `dtype` or `shape` when there are no such arrays
 */
export async function npzDataset(arrays: ReadonlyMap<string, NpzArray>, file: string): Promise<ImageDataset> {
  const find = (names: readonly string[]) => names.map((name) => arrays.get(name)).find((found) => found);
  const images = find(imageNames);
  if (!images) {
    throw new DetailFlowError('format', `has no array of images: name it one of ${imageNames.join(', ')}`, {
      file,
    });
  }
  if (images.dtype !== 'uint8') {
    throw new DetailFlowError('dtype', `holds images of ${images.dtype}; give uint8`, { file });
  }
  const [count, height, width, channels = 1] = images.shape;
  const isGrey = images.shape.length === 3 || channels === 1;
  if (![3, 4].includes(images.shape.length) || !(isGrey || channels === 3) || images.byteLength === 0) {
    throw new DetailFlowError(
      'shape',
      `holds images of shape [${images.shape.join(', ')}]; give [n, height, width, 3] or [n, height, width]`,
      { file },
    );
  }
  const classes = find(labelNames);
  if (classes?.dtype.startsWith('float')) {
    throw new DetailFlowError('dtype', `holds classes of ${classes.dtype}; give integers`, { file });
  }
  const found = await classes?.read();
  if (found && found.data.length !== count) {
    throw new DetailFlowError('shape', `has ${found.data.length} classes for ${count} images`, { file });
  }
  const labels = Int32Array.from({ length: count }, (_, i) => (found ? Number(found.data[i]) : 0));
  const most = labels.reduce((a, b) => Math.max(a, b), 0);
  if (most > 100_000 || labels.some((label) => label < 0)) {
    throw new DetailFlowError('format', 'an image has a class outside 0 .. 100000', { file });
  }
  const classNames = Array.from({ length: most + 1 }, (_, i) => `${i}`);
  if (images.byteLength <= MOST_HELD) {
    const pixels = (await images.read()).data as Uint8Array;
    const shape = { height, width, channels: isGrey ? (1 as const) : (3 as const) };
    return new MemoryDataset({ name: file, classNames, labels, pixels, ...shape });
  }
  return {
    ...{ name: file, classNames, labels },
    async image(index) {
      const data = (await images.read(index, 1)).data as Uint8Array;
      return { data: isGrey ? greyToRgb(data) : data, width, height };
    },
  };
}
