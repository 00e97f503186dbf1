import { DetailFlowError } from '@detailflow/core';
import { MemoryDataset } from './dataset';
import type { NpyArray } from './npy';

/** Names under which images and classes are looked for, in this order. */
const imageNames = ['arr_0', 'images', 'x', 'x_train', 'data'];
const labelNames = ['arr_1', 'labels', 'y', 'y_train', 'label'];

/**
 * A data set of the arrays of a .npz file: images uint8 [n, height, width, 3] (or without the last axis, grey) and, if
 * there are any, classes of any integer type [n].
 * @throws DetailFlowError `format`, `dtype` or `shape` when there are no such arrays
 */
export function npzDataset(arrays: ReadonlyMap<string, NpyArray>, file: string): MemoryDataset {
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
  if (![3, 4].includes(images.shape.length) || !(isGrey || channels === 3) || images.data.length === 0) {
    throw new DetailFlowError(
      'shape',
      `holds images of shape [${images.shape.join(', ')}]; give [n, height, width, 3] or [n, height, width]`,
      { file },
    );
  }
  const found = find(labelNames);
  if (found && found.data.length !== count) {
    throw new DetailFlowError('shape', `has ${found.data.length} classes for ${count} images`, { file });
  }
  const labels = Int32Array.from({ length: count }, (_, i) => (found ? Number(found.data[i]) : 0));
  const most = labels.reduce((a, b) => Math.max(a, b), 0);
  if (most > 100_000) throw new DetailFlowError('format', `an image has class ${most}`, { file });
  const classNames = Array.from({ length: most + 1 }, (_, i) => `${i}`);
  return new MemoryDataset({
    name: file,
    classNames,
    labels,
    pixels: images.data,
    height,
    width,
    channels: isGrey ? 1 : 3,
  });
}
