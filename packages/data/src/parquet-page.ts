import type { OpenFile } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { type FileMetaData, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { type DataPage, dataPages } from './parquet-pages';
import { type Place, Places, packedPlace } from './parquet-places';
import { schemaOfColumn } from './parquet-schema';
import { type SnappyStart, unpackSnappy, unpackSnappyPart } from './snappy';

type RowGroup = FileMetaData['row_groups'][number];
type Column = RowGroup['columns'][number];

/** A column of a group of rows of one file. */
export interface Group {
  readonly file: OpenFile;
  readonly metadata: FileMetaData;
  readonly rowGroup: RowGroup;
  readonly count: number;
  /** The column: values, or those of `inner` within it. */
  readonly column: string;
  readonly inner?: string;
}

/** Values of rows, and where those that are bytes can be read apart from one another, if they can. */
export interface ReadRows {
  readonly values: readonly unknown[];
  readonly places?: Places;
}

/** The pages of a column. @throws DetailFlowError `format` when they are not as many rows as the group has */
export async function pagesOf(group: Group): Promise<readonly DataPage[]> {
  const { file, count, column } = group;
  const meta = chunkOf(group)?.meta_data;
  const read = (offset: number, length: number) => file.read(offset, length);
  const pages = meta && (await dataPages(read, meta, count));
  if (pages) return pages;
  throw new DetailFlowError(
    'format',
    meta
      ? `has pages that are damaged, or not of ${count} rows as is stated`
      : 'is not one column of plain values in every group of rows',
    { file: file.name, entry: column },
  );
}

/** The one part of a group that has the values. */
function chunkOf({ rowGroup, column, inner }: Group): Column | undefined {
  const found = rowGroup.columns.filter(({ meta_data: meta }) => {
    const [top, part, ...deeper] = meta?.path_in_schema ?? [];
    return top === column && [undefined, inner].includes(part) && deeper.length === 0;
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
  const { file, metadata, rowGroup, column, inner } = group;
  const parts = page.dictionary ? [page.dictionary, page] : [page];
  const bytes = joined(await Promise.all(parts.map(({ offset, size }) => file.read(offset, size))));
  const meta = chunkOf(group)?.meta_data as NonNullable<Column['meta_data']>;
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
  const found = await parquetReadObjects({
    file: {
      byteLength: BEFORE + bytes.length,
      slice: (start, end = BEFORE + bytes.length) =>
        wholeBuffer(bytes.subarray(start - BEFORE, end - BEFORE)),
    },
    metadata: {
      ...metadata,
      schema: schemaOfColumn(metadata.schema, column, inner),
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
    ...{ columns: [column], utf8: false },
  });
  if (found.length !== rows) throw new RangeError(`a page has ${found.length} rows where ${rows} are stated`);
  const values = found.map((row): unknown => {
    const value = row[column] as Readonly<Record<string, unknown>> | null;
    return (inner && !(value instanceof Uint8Array) ? value?.[inner] : value) ?? undefined;
  });
  const inFile = (at: number) => {
    const part = page.dictionary && at < page.dictionary.size ? page.dictionary : page;
    return part.offset + at - (part === page ? (page.dictionary?.size ?? 0) : 0);
  };
  const placeOf = (value: unknown): Place | undefined => {
    if (!(value instanceof Uint8Array)) return undefined;
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

/** Reads a value that was found before. @throws RangeError when something else lies there now */
export async function readPlace(
  { file }: Group,
  { offset, size, unpacked, skip, length }: Place,
): Promise<Uint8Array> {
  const bytes = await file.read(offset, size);
  return unpacked === 0 ? bytes : unpackSnappyPart(bytes, unpacked).subarray(skip, skip + length);
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
