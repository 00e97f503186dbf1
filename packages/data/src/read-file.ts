import { constants, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { DetailFlowError } from '@detailflow/core';

const inflate = promisify(gunzip);

/**
 * The bytes of a regular file.
 * @throws DetailFlowError `io`, or `limit` beyond `limit` bytes
 */
export async function readFileCapped(file: string, limit: number): Promise<Uint8Array> {
  try {
    // A pipe without a writer would block; this way it is opened, and refused below.
    const handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    try {
      const stats = await handle.stat();
      if (!stats.isFile()) throw new DetailFlowError('io', 'is not a regular file', { file });
      if (stats.size > limit) {
        throw new DetailFlowError('limit', `has ${stats.size} bytes; at most ${limit} are read`, { file });
      }
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    throw new DetailFlowError('io', `cannot be read (${(cause as Error).message})`, { file, cause });
  }
}

/**
 * The bytes of a file, inflated when they begin as gzip does, whatever its name.
 * @throws DetailFlowError `io`, `format` when it cannot be inflated, `limit` beyond `limit` bytes before or after
 */
export async function readInflated(file: string, limit: number): Promise<Uint8Array> {
  const bytes = await readFileCapped(file, limit);
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return await inflate(bytes, { maxOutputLength: limit });
  } catch (cause) {
    const isTooLarge = (cause as { code?: string }).code === 'ERR_BUFFER_TOO_LARGE';
    throw new DetailFlowError(
      isTooLarge ? 'limit' : 'format',
      isTooLarge
        ? `inflates to more than ${limit} bytes`
        : `cannot be inflated (${(cause as Error).message})`,
      { file, cause },
    );
  }
}
