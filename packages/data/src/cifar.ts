import { checkOptions, DetailFlowError } from '@detailflow/core';
import { MemoryDataset } from './dataset';

const SIDE = 32;
const PIXELS = 3 * SIDE * SIDE;

/**
 * Reads files of CIFAR-10 in its binary layout: records of one class byte and 3072 bytes, red, green and blue plane.
 * @throws DetailFlowError `format` when a file is no whole number of records
 */
export function cifarDataset(
  files: readonly { readonly name: string; readonly bytes: Uint8Array }[],
  options: { readonly name: string; readonly classNames: readonly string[] },
): MemoryDataset {
  checkOptions('cifarDataset', options, { name: true, classNames: true });
  const count = files.reduce((sum, { name, bytes }) => {
    if (bytes.length === 0 || bytes.length % (PIXELS + 1) !== 0) {
      throw new DetailFlowError(
        'format',
        `has ${bytes.length} bytes, which is no whole number of CIFAR records of ${PIXELS + 1}`,
        { file: name },
      );
    }
    return sum + bytes.length / (PIXELS + 1);
  }, 0);
  const labels = new Int32Array(count);
  const pixels = new Uint8Array(count * PIXELS);
  let image = 0;
  for (const { bytes } of files) {
    for (let at = 0; at < bytes.length; at += PIXELS + 1, image++) {
      labels[image] = bytes[at];
      for (let i = 0; i < SIDE * SIDE; i++) {
        for (let c = 0; c < 3; c++) pixels[image * PIXELS + 3 * i + c] = bytes[at + 1 + c * SIDE * SIDE + i];
      }
    }
  }
  const { name, classNames } = options;
  return new MemoryDataset({ name, classNames, labels, pixels, height: SIDE, width: SIDE, channels: 3 });
}
