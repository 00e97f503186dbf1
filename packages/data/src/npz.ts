import { openMember, readZip, type ZipEntry } from '@detailflow/checkpoint';
import { type ByteSource, DetailFlowError, fileLimits } from '@detailflow/core';
import { type NpyArray, npyArray } from './npy';
import type { NpyDType } from './npy-dtype';
import { MOST_HEADER_BYTES, readNpyHeader } from './npy-header';

/**
 * An array of a .npz file. Its values stay in the file until they are read. Where it is damaged or of a type that is not
 * read, everything but its name throws.
 */
export interface NpzArray {
  readonly dtype: NpyDType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Rows are found at once; of a compressed array (`false`) everything before them is unpacked first. */
  readonly isSeekable: boolean;
  /**
   * All values, or rows `first` .. `first + count - 1` of the first axis. The checksum of the file is compared once all
   * bytes have been read: of all values, and of rows that are read one after the other up to the last.
   * @throws DetailFlowError `limit` beyond 2 GB at once; `format` when the data end early or the checksum differs;
   *   `unsupported` for rows of an array in Fortran order
   */
  read(first?: number, count?: number): Promise<NpyArray>;
}

/**
 * Opens a .npz file of any size, stored or deflated; keep the source open for as long as arrays are read. An entry that
 * cannot be read does not keep the others from being read.
 * @throws DetailFlowError `format` when it is no whole zip file
 */
export async function openNpz(source: ByteSource): Promise<ReadonlyMap<string, NpzArray>> {
  const arrays = new Map<string, NpzArray>();
  for (const [name, entry] of await readZip(source)) {
    if (!name.endsWith('.npy')) continue;
    const array = await openArray(source, entry).catch((error) => unreadable(error));
    arrays.set(name.slice(0, -'.npy'.length), array);
  }
  return arrays;
}

/** Stands for an array that cannot be read: says so when it is used. Failures of the source are thrown at once. */
function unreadable(error: unknown): NpzArray {
  if (!DetailFlowError.isInstance(error) || error.code === 'io' || error.code === 'closed') throw error;
  const refuse = () => {
    throw error;
  };
  const refusing = { get: refuse, enumerable: true };
  return Object.defineProperties({ read: async () => refuse() } as unknown as NpzArray, {
    dtype: refusing,
    shape: refusing,
    byteLength: refusing,
    isSeekable: refusing,
  });
}

async function openArray(source: ByteSource, entry: ZipEntry): Promise<NpzArray> {
  const file = `${source.name}/${entry.name}`;
  const member = openMember(source, entry);
  const header = readNpyHeader(await member.read(0, Math.min(entry.size, MOST_HEADER_BYTES)), entry.size, {
    file,
  });
  const { dtype, shape, end, width, fortranOrder } = header;
  const byteLength = entry.size - end;
  return {
    ...{ dtype, shape, byteLength, isSeekable: !entry.isDeflated && !fortranOrder },
    async read(first = 0, count = (shape[0] ?? 1) - first) {
      const [rows = 1, ...inner] = shape;
      const fits = [first, count].every((x) => Number.isSafeInteger(x) && x >= 0) && first + count <= rows;
      if (!fits) {
        throw new DetailFlowError(
          'invalid-argument',
          `rows ${first} .. ${first + count - 1} are not among the ${rows} there are`,
          { file },
        );
      }
      const isPart = count < rows;
      if (fortranOrder && isPart) {
        throw new DetailFlowError(
          'unsupported',
          'is in Fortran order, of which single rows cannot be read; save it with numpy.ascontiguousarray',
          { file },
        );
      }
      const rowBytes = inner.reduce((product, extent) => product * extent, width);
      if (rowBytes * count > fileLimits.arrayBytes) {
        throw new DetailFlowError(
          'limit',
          `${rowBytes * count} bytes are too many at once; read fewer rows`,
          {
            file,
          },
        );
      }
      const bytes = isPart
        ? await member.read(end + first * rowBytes, count * rowBytes)
        : (await member.readAll()).subarray(end);
      return npyArray(header, shape.length === 0 ? [] : [count, ...inner], bytes);
    },
  };
}
