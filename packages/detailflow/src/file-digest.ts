import { createHash } from 'node:crypto';
import type { FileTree } from '@detailflow/checkpoint';
import type { ByteSource } from '@detailflow/core';

const CHUNK = 4 * 2 ** 20;

/** SHA-256 of an open file, as hex. @throws DetailFlowError as its `read`; the signal's reason when aborted */
export async function sourceDigest(source: ByteSource, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < source.size; at += CHUNK) {
    signal?.throwIfAborted();
    hash.update(await source.read(at, Math.min(CHUNK, source.size - at)));
  }
  return hash.digest('hex');
}

/** SHA-256 of a file of a tree, as hex. */
export async function fileDigest(tree: FileTree, file: string, signal?: AbortSignal): Promise<string> {
  const source = await tree.open(file);
  try {
    return await sourceDigest(source, signal);
  } finally {
    await source.close?.();
  }
}
