import { DetailFlowError } from '@detailflow/core';
import { MemoryDataset } from './dataset';

const SIDE = 32;
const PLANE = SIDE * SIDE;
const PIXELS = 3 * PLANE;

/** Name and classes of a CIFAR set, and the layout of its labels. */
export interface CifarOptions {
  readonly name: string;
  readonly classNames: readonly string[];
  /** Bytes before the pixels of a record: 1 in CIFAR-10, 2 in CIFAR-100 (the coarse class, the fine one); default 1. */
  readonly labelBytes?: 1 | 2;
}

/**
 * Reads files of CIFAR-10 or CIFAR-100 in the binary layout: records of one or two class bytes, of which the last counts, and
 * 3072 bytes, red, green and blue plane.
 * @throws DetailFlowError `format` when a file is no whole number of records or has a class without a name
 */
export function cifarDataset(
  files: readonly { readonly name: string; readonly bytes: Uint8Array }[],
  { name, classNames, labelBytes = 1 }: CifarOptions,
): MemoryDataset {
  const record = PIXELS + labelBytes;
  const labels: number[] = [];
  const planes: Uint8Array[] = [];
  for (const { name: file, bytes } of files) {
    if (bytes.length === 0 || bytes.length % record !== 0) {
      throw new DetailFlowError(
        'format',
        `has ${bytes.length} bytes, which is no whole number of CIFAR records of ${record}`,
        { file },
      );
    }
    for (let at = 0; at < bytes.length; at += record) {
      labels.push(bytes[at + labelBytes - 1]);
      planes.push(bytes.subarray(at + labelBytes, at + record));
    }
  }
  return planesDataset(planes, labels, { name, classNames });
}

/** @param planes of every image 3072 bytes: red, green and blue plane */
export function planesDataset(
  planes: readonly Uint8Array[],
  labels: readonly number[],
  { name, classNames }: Pick<CifarOptions, 'name' | 'classNames'>,
): MemoryDataset {
  const pixels = new Uint8Array(planes.length * PIXELS);
  for (const [image, values] of planes.entries()) {
    for (let i = 0; i < PLANE; i++) {
      for (let c = 0; c < 3; c++) pixels[image * PIXELS + 3 * i + c] = values[c * PLANE + i];
    }
  }
  const shape = { height: SIDE, width: SIDE, channels: 3 } as const;
  return new MemoryDataset({ name, classNames, labels: Int32Array.from(labels), pixels, ...shape });
}
