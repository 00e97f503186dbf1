import { type ByteSource, checkRange } from '@detailflow/core';

const BLOCK = 2 ** 20;
/** Blocks that are kept: 64 MiB. */
const KEPT = 64;

/**
 * Bytes that lie far away, in blocks of 1 MiB that are fetched when they are read and kept for a while. What is larger than
 * four blocks is fetched as it is, and not kept.
 * @param fetchRange the bytes [from, to)
 */
export function blockSource(
  { name, size }: { readonly name: string; readonly size: number },
  fetchRange: (from: number, to: number) => Promise<Uint8Array>,
): ByteSource {
  const blocks = new Map<number, Promise<Uint8Array>>();
  const block = (index: number): Promise<Uint8Array> => {
    const known = blocks.get(index);
    const found = known ?? fetchRange(index * BLOCK, Math.min(size, (index + 1) * BLOCK));
    blocks.delete(index); // the newest lie last
    blocks.set(index, found);
    found.catch(() => blocks.get(index) === found && blocks.delete(index)); // whoever reads sees the fault
    if (blocks.size > KEPT) blocks.delete(blocks.keys().next().value as number);
    return found;
  };
  return {
    name,
    size,
    async read(offset, length) {
      checkRange(name, size, offset, length);
      if (length > 4 * BLOCK) return fetchRange(offset, offset + length);
      const bytes = new Uint8Array(length);
      const first = Math.floor(offset / BLOCK);
      const count = length === 0 ? 0 : Math.floor((offset + length - 1) / BLOCK) - first + 1;
      const parts = await Promise.all(Array.from({ length: count }, (_, i) => block(first + i)));
      for (const [i, part] of parts.entries()) {
        const start = (first + i) * BLOCK;
        const from = Math.max(offset, start);
        const to = Math.min(offset + length, start + part.length);
        bytes.set(part.subarray(from - start, to - start), from - offset);
      }
      return bytes;
    },
  };
}
