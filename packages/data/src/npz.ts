import { readZip, type ZipEntry } from '@detailflow/checkpoint';
import { type ByteSource, DetailFlowError } from '@detailflow/core';
import { InflatedMember } from './inflated-member';
import { MOST_HEADER_BYTES, type NpyArray, type NpyDType, npyArray, readNpyHeader } from './npy';

/** Bytes of an array that are held at once. */
const MOST_BYTES = 2 ** 31 - 1;

/** An array of a .npz file. Its values stay in the file until they are read. */
export interface NpzArray {
  readonly dtype: NpyDType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Rows are found at once; of a compressed array (`false`) everything before them is unpacked first. */
  readonly isSeekable: boolean;
  /**
   * All values, or rows `first` .. `first + count - 1` of the first axis.
   * @throws DetailFlowError `limit` beyond 2 GB at once; `format` when the data end early; `unsupported` for rows of an
   *   array in Fortran order
   */
  read(first?: number, count?: number): Promise<NpyArray>;
}

/**
 * Opens a .npz file of any size, stored or deflated; keep the source open for as long as arrays are read.
 * @throws DetailFlowError `format` when it is no whole zip file, and as `readNpy`
 */
export async function openNpz(source: ByteSource): Promise<ReadonlyMap<string, NpzArray>> {
  const arrays = new Map<string, NpzArray>();
  for (const [name, entry] of await readZip(source, { deflated: true })) {
    if (name.endsWith('.npy')) arrays.set(name.slice(0, -'.npy'.length), await openArray(source, entry));
  }
  return arrays;
}

async function openArray(source: ByteSource, entry: ZipEntry): Promise<NpzArray> {
  const file = `${source.name}/${entry.name}`;
  const member = entry.isDeflated
    ? new InflatedMember(source, entry)
    : { read: (offset: number, length: number) => source.read(entry.offset + offset, length) };
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
      if (rowBytes * count > MOST_BYTES) {
        throw new DetailFlowError(
          'limit',
          `${rowBytes * count} bytes are too many at once; read fewer rows`,
          {
            file,
          },
        );
      }
      const bytes = await member.read(end + first * rowBytes, count * rowBytes);
      return npyArray(header, shape.length === 0 ? [] : [count, ...inner], bytes);
    },
  };
}
