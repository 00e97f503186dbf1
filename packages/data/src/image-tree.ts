import { createHash } from 'node:crypto';
import { DetailFlowError } from '@detailflow/core';
import { byCodePoint } from './code-points';
import type { ImageDataset } from './dataset';
import { type DecodeOptions, decodeImage } from './decode-image';
import { hasImageName } from './image-kinds';
import { isPartName, partFolders } from './part-folders';
import { refusePartsAsClasses } from './parts-as-classes';
import { requireSameClasses } from './same-classes';
import type { UnusedCounter, UnusedFiles } from './source-use';

/** A file of an archive or a folder, read when it is asked for. */
export interface TreeFile {
  /** With slashes. */
  readonly path: string;
  /** The archive that it lies in, where there are several. */
  readonly group?: string;
  read(): Promise<Uint8Array>;
}

/** Files that hold images and what is said of them. */
export interface ImageTree {
  /** For messages. */
  readonly name: string;
  readonly files: readonly TreeFile[];
  readonly unused: UnusedCounter;
}

/** The parts of a tree. */
export interface TreeParts {
  readonly train?: ImageDataset;
  readonly test?: ImageDataset;
  readonly unused: readonly UnusedFiles[];
}

type Options = Pick<DecodeOptions, 'background'> & { readonly classNames?: readonly string[] };

/** An image and the name of its class. */
interface Item {
  readonly file: TreeFile;
  readonly className: string;
}

/**
 * The images of a tree: of WebDataset where files `KEY.cls` (or `KEY.json` with `label` or `cls`) stand beside images `KEY.jpg`, one for each key; else
 * of folders of classes, in parts `train` and `val` or `test` where there are such folders, and for ImageNet as Kaggle packs it the
 * classes of `val` by `LOC_val_solution.csv`. What is not used is counted.
 * @throws DetailFlowError `format` when there are no images with classes
 */
export async function partsOfTree(tree: ImageTree, options: Options): Promise<TreeParts> {
  const images = tree.files.filter(({ path }) => hasImageName(path) && !isHidden(path));
  const others = tree.files.filter(({ path }) => !hasImageName(path) || isHidden(path));
  const labelled = await webDataset(images, others, tree);
  const parts = labelled ? { train: labelled } : await classFolders(images, others, tree);
  const all = [...(parts.train ?? []), ...(parts.test ?? [])];
  if (all.length === 0) {
    throw new DetailFlowError(
      'format',
      'has no images with classes: neither folders of classes, nor .cls or .json files beside images',
      { file: tree.name },
    );
  }
  const found = (items: readonly Item[] = []) => [...new Set(items.map(({ className }) => className))];
  if (parts.train && parts.test) requireSameClasses(found(parts.train), found(parts.test), tree.name);
  const classNames = labelled
    ? numberedClasses(found(all), options.classNames)
    : found(all).sort(byCodePoint);
  const dataset = (items: readonly Item[] | undefined, part: string) =>
    items && items.length > 0
      ? treeDataset(`${tree.name}${part}`, items, { ...options, classNames })
      : undefined;
  const hasBoth = parts.train !== undefined && parts.test !== undefined;
  return {
    train: dataset(parts.train, hasBoth ? ' (train)' : ''),
    test: dataset(parts.test, hasBoth ? ' (test)' : ''),
    unused: tree.unused.list(),
  };
}

const isHidden = (path: string): boolean =>
  path.split('/').some((part) => part.startsWith('.') || part === '__MACOSX');

/** What files beside images say: numbers are those of classes, names are classes in the order of their letters. */
function numberedClasses(names: string[], given?: readonly string[]): readonly string[] {
  const isNumber = names.every((name) => /^\d{1,6}$/.test(name));
  if (!isNumber) return names.sort(byCodePoint);
  const most = Math.max(...names.map(Number));
  return Array.from({ length: Math.max(most + 1, given?.length ?? 0) }, (_, i) => given?.[i] ?? `${i}`);
}

/** Images whose class stands in a file beside them. */
async function webDataset(
  images: readonly TreeFile[],
  others: readonly TreeFile[],
  tree: ImageTree,
): Promise<Item[] | undefined> {
  const placeOf = ({ group = '', path }: TreeFile) => `${group}\n${path}`;
  const said = others.filter(({ path }) => /\.(cls|json)$/.test(path));
  const labels = new Map(said.map((file) => [placeOf(file), file]));
  const beside = (file: TreeFile) =>
    ['cls', 'json'].map((end) => placeOf({ ...file, path: `${keyOf(file.path)}.${end}` }));
  if (!images.some((file) => beside(file).some((place) => labels.has(place)))) return undefined;
  const items: Item[] = [];
  const used = new Set<string>();
  const chosen = new Set(imagesOfSamples(images, placeOf));
  for (const file of images) {
    if (!chosen.has(file)) {
      tree.unused.add('one of several images of a sample', file.path);
      continue;
    }
    const places = beside(file);
    const [cls, json] = places.map((place) => labels.get(place));
    const className = cls ? await textClass(cls) : json && (await jsonClass(json));
    if (className === undefined) tree.unused.add('an image without a class beside it', file.path);
    else {
      items.push({ file, className });
      for (const place of places) used.add(place);
    }
  }
  for (const file of others) if (!used.has(placeOf(file))) tree.unused.add('no image', file.path);
  return items;
}

/**
 * The image of every sample: the one that is called by the key alone (`0001.jpg`), since what has a further name (`0001.mask.png`) says
 * something of it, or else the only one. Nothing says which one is meant where there are several with further names.
 */
function imagesOfSamples(images: readonly TreeFile[], placeOf: (file: TreeFile) => string): TreeFile[] {
  const samples = new Map<string, TreeFile[]>();
  for (const file of images) {
    const key = placeOf({ ...file, path: keyOf(file.path) });
    const known = samples.get(key);
    if (known) known.push(file);
    else samples.set(key, [file]);
  }
  const isPlain = ({ path }: TreeFile) => !path.slice(keyOf(path).length + 1).includes('.');
  return [...samples.values()].flatMap((files) => {
    const plain = files.filter(isPlain).sort((a, b) => byCodePoint(a.path, b.path));
    return plain.length > 0 ? [plain[0]] : files.length === 1 ? files : [];
  });
}

/** What the files of a sample have in common: everything before the first dot of the name. */
function keyOf(path: string): string {
  const dot = path.indexOf('.', path.lastIndexOf('/') + 1);
  return dot < 0 ? path : path.slice(0, dot);
}

async function textClass(file: TreeFile): Promise<string | undefined> {
  const text = new TextDecoder().decode((await file.read()).subarray(0, 200)).trim();
  return text === '' || /\p{Cc}/u.test(text) ? undefined : text;
}

async function jsonClass(file: TreeFile): Promise<string | undefined> {
  try {
    const value = JSON.parse(new TextDecoder().decode(await file.read())) as Record<string, unknown> | null;
    const found = value?.label ?? value?.cls ?? value?.class;
    return typeof found === 'number' || (typeof found === 'string' && found !== '') ? `${found}` : undefined;
  } catch {
    return undefined;
  }
}

/** Images in folders of classes, without the folders that all of them lie in. */
async function classFolders(images: readonly TreeFile[], others: readonly TreeFile[], tree: ImageTree) {
  const solution = others.find(({ path }) => /(^|\/)LOC_val_solution\.csv$/.test(path));
  const solved = solution && (await solutionOf(solution));
  const depth = commonDepth(images.map(({ path }) => path));
  const parts: { train?: Item[]; test?: Item[] } = {};
  const names = new Set(images.map(({ path }) => path.split('/')[depth]));
  const { train, test } = partFolders([...names]);
  // A class may be called train, too.
  const hasParts = train !== undefined && (test !== undefined || names.size === 1);
  const insideOf = ({ path }: TreeFile) => path.split('/').slice(depth);
  const isFlat =
    hasParts && solved === undefined && images.every((file) => isOther(file) || insideOf(file).length === 2);
  const around = images[0]?.path.split('/')[depth - 1] ?? tree.name.replace(/^.*[\\/]|\.[^.]*$/g, '');
  if (!hasParts)
    refusePartsAsClasses(
      images.map((file) => insideOf(file).join('/')),
      tree.name,
    );
  function isOther(file: TreeFile): boolean {
    const [part] = insideOf(file);
    return part !== train && part !== test;
  }
  for (const file of images) {
    const inside = insideOf(file);
    const part = hasParts ? inside.shift() : train;
    const stem = file.path.replace(/^.*\//, '').replace(/\.[^.]*$/, '');
    const folder = isFlat ? around : inside.length > 1 ? inside[0] : undefined;
    const className = part === 'val' && solved?.has(stem) ? solved.get(stem) : folder;
    const isTrain = part === train;
    if (className === undefined) tree.unused.add('an image outside the folders of classes', file.path);
    else if (!isTrain && part !== test)
      tree.unused.add(`an image in "${part}"; the parts are ${train} and ${test ?? 'no other'}`, file.path);
    else {
      const items = isTrain ? (parts.train ?? []) : (parts.test ?? []);
      if (isTrain) parts.train = items;
      else parts.test = items;
      items.push({ file, className });
    }
  }
  for (const file of others) if (file !== solution) tree.unused.add('no image', file.path);
  return parts;
}

/** Folders that all images lie in, unless they are a part or the only class: the rule of `innerFolder` for folders. */
function commonDepth(paths: readonly string[]): number {
  const folders = paths.map((path) => path.split('/').slice(0, -1));
  let depth = 0;
  for (;;) {
    const name = folders[0]?.[depth];
    const isShared =
      name !== undefined && folders.every((one) => one[depth] === name && one.length > depth + 1);
    if (!isShared || isPartName(name)) return depth;
    depth++;
  }
}

/** "ImageId,PredictionString" of Kaggle's ImageNet: the class is the first word of the second field. */
async function solutionOf(file: TreeFile): Promise<Map<string, string>> {
  const lines = new TextDecoder()
    .decode(await file.read())
    .split('\n')
    .slice(1);
  const pairs = lines.flatMap((line) => {
    const [, image, className] = /^([\w.-]+),(\w+)\b/.exec(line) ?? [];
    return image === undefined ? [] : [[image, className] as const];
  });
  return new Map(pairs);
}

function byFolder(a: string, b: string): number {
  const [first, second] = [a, b].map((path) => path.slice(0, path.lastIndexOf('/') + 1));
  return byCodePoint(first, second) || byCodePoint(a, b);
}

function treeDataset(
  name: string,
  items: readonly Item[],
  { classNames, background }: Options & { readonly classNames: readonly string[] },
): ImageDataset {
  const numbers = new Map(classNames.map((className, i) => [className, i]));
  // By class, folder and name, as a folder of the same images is read.
  const numberOf = ({ className }: Item) => numbers.get(className) ?? Number(className);
  const sorted = [...items].sort((a, b) => numberOf(a) - numberOf(b) || byFolder(a.file.path, b.file.path));
  const where = (index: number) => `${name}: ${sorted[index].file.path}`;
  return {
    name,
    classNames,
    labels: Int32Array.from(sorted, numberOf),
    names: sorted.map(({ file }) => (file.group === undefined ? file.path : `${file.group}/${file.path}`)),
    image: async (index) => decodeImage(await sorted[index].file.read(), where(index), { background }),
    digest: async (index) =>
      createHash('sha256')
        .update(await sorted[index].file.read())
        .digest(),
  };
}
