import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { type OpenFile, openFile } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { type FileMetaData, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import type { ImageDataset } from './dataset';
import { type DecodeOptions, decodeImage } from './decode-image';
import type { TreeParts } from './image-tree';
import { dataPages, offsetIndex } from './parquet-pages';
import { UnusedCounter } from './source-use';

type Options = Pick<DecodeOptions, 'background'> & { readonly classNames?: readonly string[] };

/** Names under which images and their classes are looked for. */
const imageNames = ['image', 'img', 'jpg', 'png'];
const labelNames = ['label', 'labels', 'fine_label', 'class', 'cls'];
/** Unpacked images that are kept at hand, in bytes: pages of them. */
const MOST_HELD = 512 * 2 ** 20;
const MOST_ROWS = 100_000_000;

/**
 * Opens the images of Parquet files as the Hub keeps them: a column `image` of { bytes, path } and one `label`, in a file or in a folder
 * (or its `data/`) of files whose names begin with `train`, and `validation` or `test`. Pages are read when an image of theirs
 * is asked for, and kept while there is room.
 * @returns undefined for what is not Parquet
 * @throws DetailFlowError `format` when a file is cut off or damaged, or has no such columns
 */
export async function openParquet(
  source: string,
  { mostHeld = MOST_HELD, ...options }: Options & { readonly mostHeld?: number },
): Promise<TreeParts | undefined> {
  const files = await parquetFiles(source);
  if (files.length === 0) return undefined;
  const isTest = (file: string) => /^(val|valid|validation|test)[-_.]/i.test(path.basename(file));
  const [train, test] = [files.filter((file) => !isTest(file)), files.filter(isTest)];
  const unused = new UnusedCounter();
  const first = train.length > 0 ? await openPart(train, source, { ...options, mostHeld }) : undefined;
  // Where there are a validation and a test part, the first of them is held out.
  const kinds = [...new Set(test.map((file) => path.basename(file).split(/[-_.]/)[0]))].sort(
    (a, b) => Number(a === 'test') - Number(b === 'test'),
  );
  const chosen = test.filter((file) => path.basename(file).startsWith(kinds[0]));
  for (const file of test)
    if (!chosen.includes(file)) unused.add(`of another part than ${kinds[0]}`, path.basename(file));
  const second = chosen.length > 0 ? await openPart(chosen, source, { ...options, mostHeld }) : undefined;
  const classNames = [first, second].reduce<readonly string[]>(
    (most, part) => (part && part.classNames.length > most.length ? part.classNames : most),
    [],
  );
  const named = (part: ImageDataset | undefined) => part && Object.assign(part, { classNames });
  return { train: named(first), test: named(second), unused: unused.list() };
}

async function parquetFiles(source: string): Promise<string[]> {
  if (/\.parquet$/i.test(source)) return [source];
  for (const folder of [source, path.join(source, 'data')]) {
    if (!(await stat(folder).catch(() => undefined))?.isDirectory()) continue;
    const names = (await readdir(folder)).filter((name) => /\.parquet$/i.test(name)).sort();
    if (names.length > 0) return names.map((name) => path.join(folder, name));
  }
  return [];
}

interface Row {
  /** Bytes of an image file. */
  readonly bytes: Uint8Array | undefined;
}

type RowGroup = FileMetaData['row_groups'][number];

/** A group of rows of one file. */
interface Group {
  readonly file: OpenFile;
  readonly metadata: FileMetaData;
  readonly rowGroup: RowGroup;
  readonly count: number;
  readonly columns: { readonly image: string; readonly label?: string };
}

async function openPart(
  files: readonly string[],
  name: string,
  { mostHeld, ...options }: Options & { readonly mostHeld: number },
): Promise<ImageDataset> {
  const opened: OpenFile[] = [];
  const close = async () => {
    for (const one of opened) await one.close();
  };
  try {
    const groups: Group[] = [];
    const labels: number[] = [];
    let names: readonly string[] | undefined;
    for (const place of files) {
      const file = await openFile(place);
      opened.push(file);
      const metadata = await sound(place, () => parquetMetadataAsync(bufferOf(file)));
      const columns = columnsOf(metadata, place);
      names ??= hubClassNames(metadata, columns.label);
      let start = 0;
      for (const rowGroup of metadata.row_groups) {
        const count = Number(rowGroup.num_rows);
        groups.push({ file, metadata, rowGroup, count, columns });
        start += count;
      }
      labels.push(...(await labelsOf(file, metadata, columns.label, start)));
      if (labels.length > MOST_ROWS)
        throw new DetailFlowError('limit', `has more than ${MOST_ROWS} rows`, { file: place });
    }
    const most = labels.reduce((a, b) => Math.max(a, b), 0);
    const known = names ?? options.classNames;
    const classNames = Array.from(
      { length: Math.max(most + 1, known?.length ?? 0) },
      (_, i) => known?.[i] ?? `${i}`,
    );
    const rows = new RowCache(groups, mostHeld);
    return {
      ...{ name, classNames, labels: Int32Array.from(labels), close },
      async image(index) {
        const where = `${name}: image ${index}`;
        const { bytes } = await rows.row(index);
        if (!bytes) throw new DetailFlowError('format', 'has no bytes of an image', { file: where });
        return decodeImage(bytes, where, options);
      },
      digest: async (index) =>
        createHash('sha256')
          .update((await rows.row(index)).bytes ?? new Uint8Array(0))
          .digest(),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A file for the reader, and behind its end an index of pages that it lacks. */
const bufferOf = (file: OpenFile, index?: Uint8Array) => ({
  byteLength: file.size + (index?.length ?? 0),
  async slice(start: number, end = file.size) {
    if (index && start >= file.size)
      return index.slice(start - file.size, end - file.size).buffer as ArrayBuffer;
    const bytes = await file.read(start, Math.max(0, end - start));
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  },
});

/** What goes wrong inside the reader is the file's fault. */
async function sound<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (DetailFlowError.isInstance(cause)) throw cause;
    const reason = cause instanceof Error ? cause.message : `${cause}`;
    throw new DetailFlowError('format', `is no sound Parquet file: ${reason}`, { file, cause });
  }
}

function columnsOf({ schema }: FileMetaData, file: string): Group['columns'] {
  const top: string[] = [];
  for (let i = 1; i < schema.length; i = after(schema, i)) top.push(schema[i].name);
  const image = imageNames.find((name) => top.includes(name));
  if (image === undefined) {
    throw new DetailFlowError(
      'format',
      `has no column of images (${imageNames.join(', ')}); there are ${top.slice(0, 10).join(', ')}`,
      { file },
    );
  }
  const label = labelNames.find((name) => top.includes(name));
  return { image, ...(label !== undefined && { label }) };
}

/** The place behind an element of a schema and its children. */
function after(schema: FileMetaData['schema'], at: number): number {
  let next = at + 1;
  for (let child = 0; child < (schema[at].num_children ?? 0); child++) next = after(schema, next);
  return next;
}

/** Names of the classes as the Hub's `datasets` notes them. */
function hubClassNames(
  { key_value_metadata: pairs }: FileMetaData,
  label = 'label',
): readonly string[] | undefined {
  try {
    const text = pairs?.find(({ key }) => key === 'huggingface')?.value ?? '';
    const names = JSON.parse(text).info.features[label].names;
    return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : undefined;
  } catch {
    return undefined;
  }
}

async function labelsOf(
  file: OpenFile,
  metadata: FileMetaData,
  column: string | undefined,
  count: number,
): Promise<readonly number[]> {
  if (column === undefined) return Array<number>(count).fill(0);
  const found = await sound(file.name, () =>
    parquetReadObjects({ file: bufferOf(file), metadata, columns: [column], compressors }),
  );
  const labels = found.map((row) => Number(row[column]));
  const wrong = labels.findIndex((label) => !Number.isInteger(label) || label < 0 || label > 1_000_000);
  if (wrong < 0 && labels.length === count) return labels;
  throw new DetailFlowError(
    'format',
    wrong < 0 ? `has ${labels.length} classes for ${count} rows` : `row ${wrong} has no class from 0 on`,
    { file: file.name, entry: column },
  );
}

/** Rows of a group that lie in one page, or all of them. */
interface Span {
  readonly group: Group;
  /** The group alone, with the pages of its images where they were found. */
  readonly metadata: FileMetaData;
  readonly index?: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Rows page by page, the latest used pages kept. */
class RowCache {
  readonly #groups: readonly Group[];
  /** The first row of every group among all. */
  readonly #firsts: readonly number[];
  readonly #spans = new Map<number, Promise<readonly Span[]>>();
  readonly #held = new Map<Span, { rows: Promise<Row[]>; bytes: number }>();
  #total = 0;

  /** @param mostHeld bytes of images that are kept */
  constructor(
    groups: readonly Group[],
    private readonly mostHeld: number,
  ) {
    this.#groups = groups;
    let first = 0;
    this.#firsts = groups.map(({ count }) => {
      first += count;
      return first - count;
    });
  }

  async row(index: number): Promise<Row> {
    const at = lastUpTo(this.#firsts.length, (i) => this.#firsts[i] <= index);
    const place = index - this.#firsts[at];
    const known = this.#spans.get(at) ?? spansOf(this.#groups[at]);
    this.#spans.set(at, known);
    const spans = await known.catch((error) => {
      this.#spans.delete(at);
      throw error;
    });
    const span = spans[lastUpTo(spans.length, (i) => spans[i].start <= place)];
    return (await this.#rows(span))[place - span.start];
  }

  #rows(span: Span): Promise<Row[]> {
    const known = this.#held.get(span);
    this.#held.delete(span);
    const entry = known ?? { rows: readSpan(span), bytes: 0 };
    this.#held.set(span, entry); // the latest
    if (!known) {
      entry.rows.then(
        (rows) => {
          if (this.#held.get(span) !== entry) return;
          entry.bytes = rows.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0);
          this.#total += entry.bytes;
          this.#makeRoom();
        },
        () => this.#held.delete(span),
      );
    }
    return entry.rows;
  }

  #makeRoom(): void {
    for (const [span, { bytes }] of this.#held) {
      if (this.#total <= this.mostHeld || this.#held.size === 1) return;
      this.#held.delete(span);
      this.#total -= bytes;
    }
  }
}

/** The last of so many numbers that a condition holds for, which holds for all before it; at least 0. */
function lastUpTo(count: number, holds: (i: number) => boolean): number {
  let [low, high] = [0, count - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (holds(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The rows of a group page by page, so that one row needs one page; all at once where pages cannot be followed. */
async function spansOf(group: Group): Promise<readonly Span[]> {
  const { file, rowGroup, count, columns } = group;
  const alone = (row_group: RowGroup): FileMetaData => ({
    ...{ ...group.metadata, row_groups: [row_group], num_rows: BigInt(count) },
  });
  const whole: Span = { group, metadata: alone(rowGroup), start: 0, end: count };
  const isImages = ({ meta_data: meta }: RowGroup['columns'][number]) =>
    meta?.path_in_schema[0] === columns.image && [undefined, 'bytes'].includes(meta.path_in_schema[1]);
  const images = rowGroup.columns.filter(isImages);
  const meta = images[0]?.meta_data;
  if (images.length !== 1 || !meta) return [whole];
  const pages = await dataPages((offset, length) => file.read(offset, length), meta, count);
  if (!pages || pages.length < 2) return [whole];
  const index = offsetIndex(pages);
  const placed = rowGroup.columns.map((column) => ({
    ...column,
    offset_index_offset: isImages(column) ? BigInt(file.size) : undefined,
    offset_index_length: isImages(column) ? index.length : undefined,
  }));
  const metadata = alone({ ...rowGroup, columns: placed });
  return pages.map(({ firstRow }, i) => ({
    ...{ group, metadata, index, start: firstRow, end: pages[i + 1]?.firstRow ?? count },
  }));
}

async function readSpan({ group, metadata, index, start, end }: Span): Promise<Row[]> {
  const { file, columns } = group;
  const found = await sound(file.name, () =>
    parquetReadObjects({
      ...{ file: bufferOf(file, index), metadata, columns: [columns.image], compressors, utf8: false },
      ...{ rowStart: start, rowEnd: end, useOffsetIndex: index !== undefined },
    }),
  );
  if (found.length !== end - start) {
    throw new DetailFlowError('format', `has ${found.length} rows where ${end - start} are stated`, {
      file: file.name,
    });
  }
  return found.map((row) => {
    const value = row[columns.image] as { bytes?: unknown } | Uint8Array | null;
    const bytes = value instanceof Uint8Array ? value : value?.bytes;
    return { bytes: bytes instanceof Uint8Array ? bytes : undefined };
  });
}
