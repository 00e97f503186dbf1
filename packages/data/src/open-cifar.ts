import { open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { DetailFlowError } from '@detailflow/core';
import { cifarDataset, planesDataset } from './cifar';
import type { MemoryDataset } from './dataset';
import { readCifarNames, readCifarPickle } from './read-cifar-pickle';
import { readFileCapped } from './read-file';

const MOST_BYTES = 2 ** 31 - 1;
const RECORD_100 = 3074;
/** A protocol number, an old dict, an old empty dict. */
const PICKLE_STARTS = [0x80, 0x28, 0x7d];

/** A layout of CIFAR: which files hold which part, and where the classes are named. */
interface Layout {
  readonly classes: 10 | 100;
  readonly isPickled: boolean;
  readonly train: RegExp;
  readonly test: string;
  readonly names: string;
}

const layouts: readonly Layout[] = [
  {
    ...{ classes: 10, isPickled: false, train: /^data_batch_\d+\.bin$/, test: 'test_batch.bin' },
    names: 'batches.meta.txt',
  },
  { classes: 10, isPickled: true, train: /^data_batch_\d+$/, test: 'test_batch', names: 'batches.meta' },
  {
    ...{ classes: 100, isPickled: false, train: /^train\.bin$/, test: 'test.bin' },
    names: 'fine_label_names.txt',
  },
  { classes: 100, isPickled: true, train: /^train$/, test: 'test', names: 'meta' },
];

/** The parts of a folder in a layout of CIFAR, and the names of the files that were read. */
export interface OpenedCifar {
  readonly train?: MemoryDataset;
  readonly test?: MemoryDataset;
  readonly used: readonly string[];
}

/**
 * Opens a folder with the files of CIFAR-10 or CIFAR-100, binary or for Python.
 * @param names what lies in the folder
 * @returns undefined when it is none
 * @throws DetailFlowError naming the file and what is wrong with it
 */
export async function openCifar(
  folder: string,
  names: readonly string[],
  options: { readonly classNames?: readonly string[] } = {},
): Promise<OpenedCifar | undefined> {
  for (const layout of layouts) {
    const files: string[] = [];
    for (const name of names) {
      if (!layout.train.test(name) && name !== layout.test) continue;
      if (await fits(path.join(folder, name), layout)) files.push(name);
    }
    if (files.length === 0) continue;
    const namesFile = names.find((name) => name === layout.names);
    const classNames = options.classNames ?? (await classNamesOf(folder, namesFile, layout));
    const part = async (some: readonly string[], name: string) =>
      some.length === 0
        ? undefined
        : readPart(folder, some, { layout, classNames, name: `${folder} (${name})` });
    const train = files.filter((name) => name !== layout.test);
    return {
      train: await part(train.sort(inOrder), 'train'),
      test: await part(
        files.filter((name) => name === layout.test),
        'test',
      ),
      used: namesFile === undefined ? files : [...files, namesFile],
    };
  }
  return undefined;
}

/** Whether a file can be one of a layout: names such as `test` are common, so for those the content counts, too. */
async function fits(file: string, { classes, isPickled }: Layout): Promise<boolean> {
  const found = await stat(file).catch(() => undefined);
  if (!found?.isFile()) return false;
  if (classes === 10) return true;
  if (!isPickled) return found.size > 0 && found.size % RECORD_100 === 0;
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, 0);
    return bytesRead === 1 && PICKLE_STARTS.includes(buffer[0]);
  } finally {
    await handle.close();
  }
}

/** data_batch_10 after data_batch_9. */
const inOrder = (a: string, b: string) => a.length - b.length || (a < b ? -1 : 1);

async function readPart(
  folder: string,
  files: readonly string[],
  options: { readonly layout: Layout; readonly classNames: readonly string[]; readonly name: string },
): Promise<MemoryDataset> {
  const { layout, classNames, name } = options;
  const contents = [];
  for (const file of files) {
    const full = path.join(folder, file);
    contents.push({ name: full, bytes: await readFileCapped(full, MOST_BYTES) });
  }
  if (!layout.isPickled) {
    return cifarDataset(contents, { name, classNames, labelBytes: layout.classes === 100 ? 2 : 1 });
  }
  const parts = contents.map(({ name: file, bytes }) => readCifarPickle(bytes, file));
  return planesDataset(
    parts.flatMap(({ planes }) => planes),
    parts.flatMap(({ labels }) => labels),
    { name, classNames },
  );
}

async function classNamesOf(
  folder: string,
  name: string | undefined,
  { classes, isPickled }: Layout,
): Promise<readonly string[]> {
  if (name === undefined) return Array.from({ length: classes }, (_, i) => `${i}`);
  const file = path.join(folder, name);
  const found = isPickled
    ? readCifarNames(await readFileCapped(file, MOST_BYTES), file)
    : (await readFile(file, 'utf8'))
        .split('\n')
        .map((line) => line.trim())
        .filter(Boolean);
  if (found.length === classes) return found;
  throw new DetailFlowError('format', `names ${found.length} classes; ${classes} are expected`, { file });
}
