import { DetailFlowError } from '@detailflow/core';
import { unzipSync, zipSync } from 'fflate';
import { type NpyArray, readNpy, writeNpy } from './npy';

const MOST_BYTES = 2 ** 31;

/**
 * Reads arrays of a .npz file, stored or deflated.
 * @param options.names the arrays to read, without .npy; all if omitted
 * @throws DetailFlowError `format` when the file is no whole zip or lacks an array, `limit` beyond 2 GB unpacked, and
 *   as {@link readNpy}
 */
export function readNpz(
  bytes: Uint8Array,
  options: { readonly names?: readonly string[]; readonly file?: string } = {},
): Map<string, NpyArray> {
  const { names, file } = options;
  let total = 0;
  const wanted = names && new Set(names.map((name) => `${name}.npy`));
  let members: Record<string, Uint8Array>;
  try {
    members = unzipSync(bytes, {
      filter: ({ name, originalSize }) => {
        if (!name.endsWith('.npy') || (wanted && !wanted.has(name))) return false;
        total += originalSize;
        if (total > MOST_BYTES) {
          throw new DetailFlowError('limit', `unpacks to more than ${MOST_BYTES} bytes`, { file });
        }
        return true;
      },
    });
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    throw new DetailFlowError('format', `is no whole .npz file (${(cause as Error).message})`, {
      file,
      cause,
    });
  }
  const arrays = new Map<string, NpyArray>();
  for (const [name, member] of Object.entries(members)) {
    arrays.set(name.slice(0, -'.npy'.length), readNpy(member, { file: file ? `${file}/${name}` : name }));
  }
  const missing = names?.find((name) => !arrays.has(name));
  if (missing !== undefined)
    throw new DetailFlowError('format', 'there is no such array', { file, entry: missing });
  return arrays;
}

/** A .npz file of arrays by name, stored as NumPy's `savez` stores them. @throws DetailFlowError as {@link writeNpy} */
export function writeNpz(arrays: Readonly<Record<string, Parameters<typeof writeNpy>[0]>>): Uint8Array {
  const members = Object.entries(arrays).map(([name, array]) => [`${name}.npy`, writeNpy(array)] as const);
  return zipSync(Object.fromEntries(members), { level: 0 });
}
