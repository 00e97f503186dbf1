import { checkOptions } from '@detailflow/core';
import { NpzWriter } from '@detailflow/data';
import type { ImageSource } from './image-source';

/**
 * Writes images as the ADM evaluator reads them: a .npz file with `arr_0` uint8 [n, height, width, 3], and their classes
 * as `arr_1` int32 [n]. However many there are, few are held at once.
 * @param write takes the parts of the file, one after the other
 */
export async function writeImageArchive(
  source: ImageSource,
  write: (bytes: Uint8Array) => Promise<void>,
  options: { readonly batch?: number; readonly signal?: AbortSignal } = {},
): Promise<void> {
  checkOptions('writeImageArchive', options, { batch: true, signal: true });
  const { batch = 250, signal } = options;
  const { labels } = source;
  const total = labels.length;
  const writer = new NpzWriter();
  for (let first = 0; first < total; first += batch) {
    signal?.throwIfAborted();
    const { data, height, width } = await source.read(first, Math.min(batch, total - first), { signal });
    if (first === 0) await write(writer.array('arr_0', 'uint8', [total, height, width, 3]));
    await write(writer.data(data));
  }
  await write(writer.array('arr_1', 'int32', [total]));
  await write(writer.data(new Uint8Array(Int32Array.from(labels).buffer)));
  await write(writer.finish());
}
