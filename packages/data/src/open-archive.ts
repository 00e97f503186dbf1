import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { openMember, readZip } from '@detailflow/checkpoint';
import { type OpenFile, openFile } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import type { DecodeOptions } from './decode-image';
import { type ImageTree, partsOfTree, type TreeFile, type TreeParts } from './image-tree';
import { missingFiles } from './numbered-files';
import { partFiles } from './part-files';
import { requireSameClasses } from './same-classes';
import { UnusedCounter } from './source-use';
import { indexTar } from './tar';

type Options = Pick<DecodeOptions, 'background'> & { readonly classNames?: readonly string[] };

/** An image of more bytes is none. */
const MOST_BYTES = 2 ** 28;

/**
 * Opens the images of archives: a .zip file, a .tar file, or a folder of .tar files as WebDataset writes them, in whose names a word says
 * `train`, and `val` or `test`, where there are parts. Files stay where they are and are read when they are asked for.
 * @returns undefined for what is no archive
 * @throws DetailFlowError as the archive is damaged; `format` without images that have classes, or where files of a numbered set are twice
 */
export async function openArchive(source: string, options: Options): Promise<TreeParts | undefined> {
  if (/\.zip$/i.test(source)) return openParts([source], options);
  if (/\.(tar|tgz|tar\.\w+)$/i.test(source)) return openParts([source], options);
  const found = await stat(source).catch(() => undefined);
  if (!found?.isDirectory()) return undefined;
  const names = (await readdir(source)).filter((name) => !name.startsWith('.')).sort();
  const shards = names.filter((name) => /\.tar$/i.test(name));
  if (shards.length === 0) return undefined;
  const missing = missingFiles(shards, source);
  const { train, test, others } = partFiles(shards);
  const places = (some: readonly string[]) => some.map((name) => path.join(source, name));
  const first = train.length > 0 ? await openParts(places(train), options, source) : undefined;
  const closeFirst = async (error: unknown) => {
    for (const part of [first?.train, first?.test]) await part?.close?.();
    throw error;
  };
  const second =
    test.length > 0 ? await openParts(places(test), options, source).catch(closeFirst) : undefined;
  const unused = new UnusedCounter();
  for (const part of [first, second]) unused.addAll(part?.unused ?? []);
  for (const { name, reason } of others) unused.add(reason, name);
  for (const name of missing) unused.add('missing of a numbered set', name);
  for (const name of names) if (!shards.includes(name)) unused.add('beside the archives', name);
  // Without files of a second part, the folders in those of the first may be parts.
  const inside = first?.train && second === undefined ? first.test : undefined;
  const [trained, tested] = [first?.train ?? first?.test, second?.train ?? second?.test ?? inside];
  if (trained && tested) {
    try {
      requireSameClasses(trained.classNames, tested.classNames, source);
    } catch (error) {
      await tested.close?.();
      await closeFirst(error);
    }
  }
  return { train: trained, test: tested, unused: unused.list() };
}

/** ImageNet as Kaggle unpacks it: `ILSVRC/Data/CLS-LOC` with `train` in folders, `val` flat, and LOC_val_solution.csv above. */
export async function openImageNet(source: string, options: Options): Promise<TreeParts | undefined> {
  const solution = path.join(source, 'LOC_val_solution.csv');
  const data = path.join(source, 'ILSVRC', 'Data', 'CLS-LOC');
  const isThere = async (place: string) => (await stat(place).catch(() => undefined)) !== undefined;
  if (!(await isThere(solution)) || !(await isThere(path.join(data, 'train')))) return undefined;
  const files: TreeFile[] = [fileOf(source, 'LOC_val_solution.csv')];
  for (const part of ['train', 'val']) {
    const below = path.join(data, part);
    const entries = await readdir(below, { recursive: true, withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (!entry.isFile()) continue;
      const full = path.join(entry.parentPath, entry.name);
      files.push(fileOf(source, path.relative(source, full)));
    }
  }
  return partsOfTree({ name: source, files, unused: new UnusedCounter() }, options);
}

const fileOf = (folder: string, relative: string): TreeFile => ({
  path: relative.replaceAll(path.sep, '/'),
  read: () => readFile(path.join(folder, relative)),
});

async function openParts(
  archives: readonly string[],
  options: Options,
  name = archives[0],
): Promise<TreeParts> {
  const opened: OpenFile[] = [];
  const closeAll = async () => {
    for (const one of opened) await one.close();
  };
  try {
    const unused = new UnusedCounter();
    const files: TreeFile[] = [];
    for (const archive of archives) {
      const file = await openFile(archive);
      opened.push(file);
      const group = archives.length > 1 ? path.basename(archive) : undefined;
      const found = /\.zip$/i.test(archive) ? await zipFiles(file) : await tarFiles(file, unused);
      files.push(...found.map((one) => ({ ...one, group })));
    }
    const tree: ImageTree = { name, files, unused };
    return closing(await partsOfTree(tree, options), closeAll);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

/** Closes the files once all parts are closed. */
function closing(parts: TreeParts, close: () => Promise<void>): TreeParts {
  const open = [parts.train, parts.test].filter((part) => part !== undefined);
  let left = open.length;
  for (const part of open) {
    let isOpen = true;
    part.close = async () => {
      if (isOpen) left--;
      isOpen = false;
      if (left === 0) await close();
    };
  }
  return parts;
}

async function zipFiles(file: OpenFile): Promise<TreeFile[]> {
  const entries = await readZip(file);
  return [...entries.values()].map((entry) => ({
    path: entry.name,
    async read() {
      if (entry.size > MOST_BYTES) throw tooLarge(file.name, entry.name, entry.size);
      return openMember(file, entry).read(0, entry.size);
    },
  }));
}

async function tarFiles(file: OpenFile, unused: UnusedCounter): Promise<TreeFile[]> {
  const { entries, refused } = await indexTar(file);
  for (const { path: name, reason } of refused) unused.add(reason, name.replace(/\p{Cc}/gu, ' '));
  return entries.map(({ path: name, offset, size }) => ({
    path: name,
    async read() {
      if (size > MOST_BYTES) throw tooLarge(file.name, name, size);
      return file.read(offset, size);
    },
  }));
}

const tooLarge = (file: string, entry: string, size: number) =>
  new DetailFlowError('limit', `has ${size} bytes; images of at most ${MOST_BYTES} are read`, {
    file,
    entry,
  });
