import { type ByteSource, openSafetensors } from '@detailflow/core';

/** More zero bytes than trained numbers have in a row. */
const MOST_ZEROS = 4096;
const BLOCK = 2 ** 20;

/**
 * What is wrong with a safetensors file whose end is zeros from within a tensor on: room that was set aside and never written, as a download
 * or a crash leaves it. The size is right then, and every number finite. Whole tensors and rows of zeros are nothing strange: codes that
 * nothing uses have such.
 * @returns undefined where nothing is
 */
export async function zeroedEnd(source: ByteSource): Promise<string | undefined> {
  const end = await endOfContent(source);
  if (source.size - end < MOST_ZEROS) return undefined;
  for (const [name, { location, shape }] of (await openSafetensors(source)).weights) {
    if (!location || end <= location.offset || end >= location.offset + location.length) continue;
    const bytes = location.length / shape.reduce((a, b) => a * b, 1);
    const row = bytes * (shape.at(-1) ?? 1);
    // A number may end in zeros itself.
    if ((location.offset + location.length - end) % row >= bytes) {
      return `${source.name}: its last ${source.size - end} bytes are zeros, from within ${name} on: it seems never to have been wholly written; get it again`;
    }
  }
  return undefined;
}

/** Behind the last byte that is not zero. */
async function endOfContent(source: ByteSource): Promise<number> {
  for (let end = source.size; end > 0; ) {
    const start = Math.max(0, end - BLOCK);
    const last = (await source.read(start, end - start)).findLastIndex((byte) => byte !== 0);
    if (last >= 0) return start + last + 1;
    end = start;
  }
  return 0;
}
