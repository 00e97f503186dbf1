import type { OpenFile } from '@detailflow/checkpoint/node';
import { type FileMetaData, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { DataPage } from './parquet-pages';
import { type Place, Places, packedPlace } from './parquet-places';
import { schemaOfColumn } from './parquet-schema';
import { type SnappyStart, unpackSnappy, unpackSnappyPart } from './snappy';

type RowGroup = FileMetaData['row_groups'][number];
type Column = RowGroup['columns'][number];
type Bytes = Uint8Array | undefined;

/** A group of rows of one file. */
export interface Group {
  readonly file: OpenFile;
  readonly metadata: FileMetaData;
  readonly rowGroup: RowGroup;
  readonly count: number;
  /** The column of images: bytes, or `bytes` within it. */
  readonly column: string;
}

/** Values of rows, and where they can be read apart from one another, if they can. */
export interface ReadRows {
  readonly values: readonly Bytes[];
  readonly places?: Places;
}

/** The one column of a group that has the bytes of images. */
export function imageColumn({ rowGroup, column }: Group): Column | undefined {
  const found = rowGroup.columns.filter(({ meta_data: meta }) => {
    const [top, inner, ...deeper] = meta?.path_in_schema ?? [];
    return top === column && [undefined, 'bytes'].includes(inner) && deeper.length === 0;
  });
  return found.length === 1 ? found[0] : undefined;
}

/** What a file that the reader is given begins with, whatever it is. */
const BEFORE = 4;

/**
 * Reads a page, by handing the reader a file that has the page, its dictionary and no more; so it is known where in the real file the
 * values lie that the reader finds.
 */
export async function readPage(group: Group, page: DataPage, rows: number): Promise<ReadRows> {
  const { file, metadata, rowGroup, column } = group;
  const parts = page.dictionary ? [page.dictionary, page] : [page];
  const bytes = joined(await Promise.all(parts.map(({ offset, size }) => file.read(offset, size))));
  const image = imageColumn(group) as Column;
  const meta = image.meta_data as NonNullable<Column['meta_data']>;
  const before = BigInt(BEFORE);
  const alone: Column = {
    file_offset: before,
    meta_data: {
      ...meta,
      num_values: BigInt(rows),
      total_compressed_size: BigInt(bytes.length),
      data_page_offset: before + BigInt(page.dictionary?.size ?? 0),
      dictionary_page_offset: page.dictionary && before,
    },
  };
  const packed: { bytes: Uint8Array; starts: readonly SnappyStart[]; from: Uint8Array }[] = [];
  const values = await readColumn({
    file: {
      byteLength: BEFORE + bytes.length,
      slice: (start, end = BEFORE + bytes.length) =>
        wholeBuffer(bytes.subarray(start - BEFORE, end - BEFORE)),
    },
    metadata: {
      ...metadata,
      schema: schemaOfColumn(metadata.schema, column, 'bytes'),
      num_rows: BigInt(rows),
      row_groups: [{ ...rowGroup, num_rows: BigInt(rows), columns: [alone] }],
    },
    compressors: {
      ...compressors,
      SNAPPY(from, length) {
        const unpacked = unpackSnappy(from, length);
        packed.push({ ...unpacked, from });
        return unpacked.bytes;
      },
    },
    column,
  });
  const inFile = (at: number) => {
    const part = page.dictionary && at < page.dictionary.size ? page.dictionary : page;
    return part.offset + at - (part === page ? (page.dictionary?.size ?? 0) : 0);
  };
  const placeOf = (value: Uint8Array): Place | undefined => {
    const { length, byteOffset: begin } = value;
    if (value.buffer === bytes.buffer)
      return { offset: inFile(begin), size: length, unpacked: 0, skip: 0, length };
    const of = packed.find((one) => one.bytes.buffer === value.buffer);
    return of?.from.buffer === bytes.buffer
      ? packedPlace(of.starts, { begin, length, offset: inFile(of.from.byteOffset) })
      : undefined;
  };
  return { values, places: Places.of(values, placeOf) };
}

/** Reads all rows of a group. */
export async function readGroup({ file, metadata, rowGroup, count, column }: Group): Promise<ReadRows> {
  const alone = { ...metadata, row_groups: [rowGroup], num_rows: BigInt(count) };
  return { values: await readColumn({ file: bufferOf(file), metadata: alone, compressors, column }) };
}

/** Reads a value that was found before. @throws RangeError when something else lies there now */
export async function readPlace(
  { file }: Group,
  { offset, size, unpacked, skip, length }: Place,
): Promise<Uint8Array> {
  const bytes = await file.read(offset, size);
  return unpacked === 0 ? bytes : unpackSnappyPart(bytes, unpacked).subarray(skip, skip + length);
}

async function readColumn({
  column,
  ...reading
}: Omit<Parameters<typeof parquetReadObjects>[0], 'columns'> & { readonly column: string }): Promise<
  Bytes[]
> {
  const found = await parquetReadObjects({ ...reading, columns: [column], utf8: false });
  return found.map((row) => {
    const image = row[column] as { bytes?: unknown } | Uint8Array | null;
    const bytes = image instanceof Uint8Array ? image : image?.bytes;
    return bytes instanceof Uint8Array ? bytes : undefined;
  });
}

/** A file for the reader. */
export const bufferOf = (file: OpenFile) => ({
  byteLength: file.size,
  slice: async (start: number, end = file.size) =>
    wholeBuffer(await file.read(start, Math.max(0, end - start))),
});

/** The bytes as a buffer of their own, copied only where they are a part of one. */
const wholeBuffer = ({ buffer, byteOffset, byteLength }: Uint8Array) =>
  (byteOffset === 0 && byteLength === buffer.byteLength
    ? buffer
    : buffer.slice(byteOffset, byteOffset + byteLength)) as ArrayBuffer;

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return new Uint8Array(wholeBuffer(parts[0]));
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
