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
import { UnusedCounter } from './source-use';

type Options = Pick<DecodeOptions, 'background'> & { readonly classNames?: readonly string[] };

/** Names under which images and their classes are looked for. */
const imageNames = ['image', 'img', 'jpg', 'png'];
const labelNames = ['label', 'labels', 'fine_label', 'class', 'cls'];
/** Unpacked images that are kept at hand, in bytes: whole groups of rows. */
const MOST_HELD = 512 * 2 ** 20;
const MOST_ROWS = 100_000_000;

/**
 * Opens the images of Parquet files as the Hub keeps them: a column `image` of { bytes, path } and one `label`, in a file or in a folder
 * (or its `data/`) of files whose names begin with `train`, and `validation` or `test`. Groups of rows are read when an image of theirs
 * is asked for, and kept while there is room.
 * @returns undefined for what is not Parquet
 * @throws DetailFlowError `format` when a file is cut off or damaged, or has no such columns
 */
export async function openParquet(source: string, options: Options): Promise<TreeParts | undefined> {
  const files = await parquetFiles(source);
  if (files.length === 0) return undefined;
  const isTest = (file: string) => /^(val|valid|validation|test)[-_.]/i.test(path.basename(file));
  const [train, test] = [files.filter((file) => !isTest(file)), files.filter(isTest)];
  const unused = new UnusedCounter();
  const first = train.length > 0 ? await openPart(train, source, options) : undefined;
  // Where there are a validation and a test part, the first of them is held out.
  const kinds = [...new Set(test.map((file) => path.basename(file).split(/[-_.]/)[0]))].sort(
    (a, b) => Number(a === 'test') - Number(b === 'test'),
  );
  const chosen = test.filter((file) => path.basename(file).startsWith(kinds[0]));
  for (const file of test)
    if (!chosen.includes(file)) unused.add(`of another part than ${kinds[0]}`, path.basename(file));
  const second = chosen.length > 0 ? await openPart(chosen, source, options) : undefined;
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

/** A group of rows of one file. */
interface Group {
  readonly file: OpenFile;
  readonly metadata: FileMetaData;
  readonly start: number;
  readonly count: number;
  readonly columns: { readonly image: string; readonly label?: string };
}

async function openPart(files: readonly string[], name: string, options: Options): Promise<ImageDataset> {
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
      for (const { num_rows: rows } of metadata.row_groups) {
        groups.push({ file, metadata, start, count: Number(rows), columns });
        start += Number(rows);
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
    const rows = new RowCache(groups);
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

const bufferOf = (file: OpenFile) => ({
  byteLength: file.size,
  async slice(start: number, end = file.size) {
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

/** Rows of whole groups, the latest used ones kept. */
class RowCache {
  readonly #groups: readonly Group[];
  /** The first row of every group among all. */
  readonly #firsts: readonly number[];
  readonly #held = new Map<number, { rows: Promise<Row[]>; bytes: number }>();

  constructor(groups: readonly Group[]) {
    this.#groups = groups;
    let first = 0;
    this.#firsts = groups.map(({ count }) => {
      first += count;
      return first - count;
    });
  }

  async row(index: number): Promise<Row> {
    let [low, high] = [0, this.#firsts.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#firsts[middle] <= index) low = middle;
      else high = middle - 1;
    }
    const rows = await this.#rows(low);
    return rows[index - this.#firsts[low]];
  }

  #rows(at: number): Promise<Row[]> {
    const known = this.#held.get(at);
    this.#held.delete(at);
    const entry = known ?? { rows: this.#read(at), bytes: 0 };
    this.#held.set(at, entry); // the latest
    if (!known) {
      entry.rows.then(
        (rows) => {
          entry.bytes = rows.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0);
          this.#makeRoom();
        },
        () => this.#held.delete(at),
      );
    }
    return entry.rows;
  }

  #makeRoom(): void {
    let total = [...this.#held.values()].reduce((sum, { bytes }) => sum + bytes, 0);
    for (const [at, { bytes }] of this.#held) {
      if (total <= MOST_HELD || this.#held.size === 1) return;
      this.#held.delete(at);
      total -= bytes;
    }
  }

  async #read(at: number): Promise<Row[]> {
    const { file, metadata, start, count, columns } = this.#groups[at];
    const found = await sound(file.name, () =>
      parquetReadObjects({
        ...{ file: bufferOf(file), metadata, columns: [columns.image], compressors, utf8: false },
        ...{ rowStart: start, rowEnd: start + count },
      }),
    );
    if (found.length !== count) {
      throw new DetailFlowError('format', `has ${found.length} rows where ${count} are stated`, {
        file: file.name,
      });
    }
    return found.map((row) => {
      const value = row[columns.image] as { bytes?: unknown } | Uint8Array | null;
      const bytes = value instanceof Uint8Array ? value : value?.bytes;
      return { bytes: bytes instanceof Uint8Array ? bytes : undefined };
    });
  }
}
