import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { type OpenFile, openFile } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { type FileMetaData, parquetMetadataAsync } from 'hyparquet';
import type { ImageDataset } from './dataset';
import { type DecodeOptions, decodeImage } from './decode-image';
import type { TreeParts } from './image-tree';
import { KeptLatest } from './kept-latest';
import { missingFiles } from './numbered-files';
import { bufferOf, type Group, pagesOf, readPage } from './parquet-page';
import { type HeldPages, ParquetRows, sound } from './parquet-rows';
import { childrenOf } from './parquet-schema';
import { partFiles } from './part-files';
import { UnusedCounter } from './source-use';

type Options = Pick<DecodeOptions, 'background'> & { readonly classNames?: readonly string[] };

/** Names under which images and their classes are looked for. */
const imageNames = ['image', 'img', 'jpg', 'png'];
const labelNames = ['label', 'labels', 'fine_label', 'class', 'cls'];
/** Pages of images that are kept at hand, in bytes. */
const MOST_HELD = 256 * 2 ** 20;
const MOST_ROWS = 100_000_000;
const MOST_CLASS = 1_000_000;

/**
 * Opens the images of Parquet files as the Hub keeps them: a column `image` of { bytes, path } and one `label`, in a file or in a folder
 * (or its `data/`) of files in whose names a word says `train`, and `validation` or `test`. Pages are read when an image of theirs
 * is asked for, and kept while there is room for them (`mostHeld`, 256 MiB); afterwards an image of a page that is not packed, or packed
 * by Snappy, is read from where it lies.
 * @returns undefined for what is not Parquet
 * @throws DetailFlowError `format` when a file is cut off or damaged, or has no such columns, or a numbered set has files twice
 */
export async function openParquet(
  source: string,
  { mostHeld = MOST_HELD, ...given }: Options & { readonly mostHeld?: number },
): Promise<TreeParts | undefined> {
  const files = await parquetFiles(source);
  if (files.length === 0) return undefined;
  const placeOf = new Map(files.map((file) => [path.basename(file), file]));
  const parts = partFiles([...placeOf.keys()]);
  const [train, test] = [parts.train, parts.test].map((names) =>
    names.map((name) => placeOf.get(name) as string),
  );
  const unused = new UnusedCounter();
  for (const { name, reason } of parts.others) unused.add(reason, name);
  if (files[0] !== source)
    for (const name of missingFiles([...placeOf.keys()], source))
      unused.add('missing of a numbered set', name);
  const options = {
    ...given,
    naming: new Naming(),
    held: new KeptLatest<object, readonly (Uint8Array | undefined)[]>(mostHeld),
  };
  const first = train.length > 0 ? await openPart(train, source, options) : undefined;
  const second =
    test.length > 0
      ? await openPart(test, source, options).catch(async (error) => {
          await first?.close?.();
          throw error;
        })
      : undefined;
  for (const name of await besides(source, files)) unused.add('beside the Parquet files', name);
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

/** What else lies in a folder that Parquet files were found in. */
async function besides(source: string, files: readonly string[]): Promise<string[]> {
  if (files.includes(source)) return [];
  const used = new Set(files.map((file) => path.relative(source, file).split(path.sep)[0]));
  return (await readdir(source)).filter((name) => !name.startsWith('.') && !used.has(name)).sort();
}

/** Names of the classes, which are to be the same in all files of a set. */
class Naming {
  names?: readonly string[];

  /** @throws DetailFlowError `format` when a class has another name than in the files before */
  take(own: readonly string[] | undefined, file: string): void {
    const known = this.names ?? own;
    const at = own?.findIndex((name, i) => known?.[i] !== undefined && known[i] !== name) ?? -1;
    if (own && at >= 0) {
      throw new DetailFlowError(
        'format',
        `calls class ${at} "${own[at]}", which is "${known?.[at]}" in another file of the set`,
        { file },
      );
    }
    this.names = known;
  }
}

async function openPart(
  files: readonly string[],
  name: string,
  { held, naming, ...options }: Options & { readonly held: HeldPages; readonly naming: Naming },
): Promise<ImageDataset> {
  const opened: OpenFile[] = [];
  const close = async () => {
    for (const one of opened) await one.close();
  };
  try {
    const groups: Group[] = [];
    const labels: number[] = [];
    for (const place of files) {
      const file = await openFile(place);
      opened.push(file);
      const metadata = await sound(place, () => parquetMetadataAsync(bufferOf(file)));
      const columns = await sound(place, async () => columnsOf(metadata, place));
      naming.take(hubClassNames(metadata, columns.label), place);
      const before = labels.length;
      let count = 0;
      for (const rowGroup of metadata.row_groups) {
        const rows = Number(rowGroup.num_rows);
        if (rows < 0 || before + count + rows > MOST_ROWS)
          throw new DetailFlowError('limit', `says that it has ${rows} rows; at most ${MOST_ROWS} are read`, {
            file: place,
          });
        count += rows;
        if (rows === 0) continue;
        const group = { file, metadata, rowGroup, count: rows };
        groups.push({ ...group, column: columns.image, inner: 'bytes' });
        for (const label of await labelsOf(group, columns.label)) labels.push(label);
      }
    }
    const most = labels.reduce((a, b) => Math.max(a, b), 0);
    const known = naming.names ?? options.classNames;
    const classNames = Array.from(
      { length: Math.max(most + 1, known?.length ?? 0) },
      (_, i) => known?.[i] ?? `${i}`,
    );
    const rows = new ParquetRows(groups, held);
    return {
      ...{ name, classNames, labels: Int32Array.from(labels), close },
      async image(index) {
        const where = `${name}: image ${index}`;
        const bytes = await rows.bytes(index);
        if (!bytes) throw new DetailFlowError('format', 'has no bytes of an image', { file: where });
        return decodeImage(bytes, where, options);
      },
      digest: async (index) =>
        createHash('sha256')
          .update((await rows.bytes(index)) ?? new Uint8Array(0))
          .digest(),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The columns of images and of labels. */
function columnsOf({ schema }: FileMetaData, file: string): { image: string; label?: string } {
  const top = childrenOf(schema).map((at) => schema[at].name);
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

/** The classes of a group of rows; without a column of them there is one class. */
async function labelsOf(group: Omit<Group, 'column'>, column: string | undefined): Promise<number[]> {
  if (column === undefined) return Array<number>(group.count).fill(0);
  const { name: file } = group.file;
  return sound(file, async () => {
    const labels: number[] = [];
    const pages = await pagesOf({ ...group, column });
    for (const [i, page] of pages.entries()) {
      const rows = (pages[i + 1]?.firstRow ?? group.count) - page.firstRow;
      const { values } = await readPage({ ...group, column }, page, rows);
      for (const value of values) labels.push(value === undefined ? Number.NaN : Number(value));
    }
    const wrong = labels.findIndex((label) => !Number.isInteger(label) || label < 0 || label > MOST_CLASS);
    if (wrong < 0) return labels;
    throw new DetailFlowError('format', `row ${wrong} of a group has no class from 0 to ${MOST_CLASS}`, {
      ...{ file, entry: column },
    });
  });
}
