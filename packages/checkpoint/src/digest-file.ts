import { createHash } from 'node:crypto';
import { constants, open } from 'node:fs/promises';
import { DetailFlowError } from '@detailflow/core';
import { ioError } from './node-files';

const PART = 2 ** 20;

/**
 * SHA-256 of what a regular file holds; links are followed. Holds 1 MiB of it at a time.
 * @throws DetailFlowError `io`
 */
export async function digestFile(file: string): Promise<Uint8Array> {
  try {
    // A pipe without a writer would block; this way it is opened, and refused below.
    const handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      const stats = await handle.stat();
      if (!stats.isFile()) throw new DetailFlowError('io', 'is not a regular file', { file });
      const hash = createHash('sha256');
      const buffer = new Uint8Array(Math.max(1, Math.min(PART, stats.size)));
      for (;;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
        if (bytesRead === 0) return hash.digest();
        hash.update(buffer.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    throw ioError('cannot be read', file, cause);
  }
}
