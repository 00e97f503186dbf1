import { createHash } from 'node:crypto';
import { DetailFlowError } from '@detailflow/core';
import { type ImageDataset, subset } from '@detailflow/data';

/** Images that one digest is of. */
const BLOCK = 64;

/** Which images a part of a data set holds: their content and classes, whatever their files are called. */
export interface ImagesIdentity {
  readonly images: number;
  readonly classNames: readonly string[];
  /** Of every 64 images, in order, a digest of contents and classes: 128 bits in hexadecimal digits. */
  readonly blocks: readonly string[];
}

/**
 * Takes the identity of all images. Costs one reading of their files, which are not decoded, a MiB at a time; images of
 * other kinds are read one by one. An image that cannot be read counts as such.
 */
export async function identityOf(
  dataset: ImageDataset,
  options: {
    readonly signal?: AbortSignal;
    readonly onProgress?: (images: number) => void;
    /** Told of every image that can be read: a digest of what it holds, whatever its class. */
    readonly onContent?: (digest: string) => void;
  } = {},
): Promise<ImagesIdentity> {
  const { labels, classNames } = dataset;
  const blocks: string[] = [];
  for (let first = 0; first < labels.length; first += BLOCK) {
    options.signal?.throwIfAborted();
    const indices = Array.from({ length: Math.min(BLOCK, labels.length - first) }, (_, i) => first + i);
    const hash = createHash('sha256');
    for (const [i, content] of (await contentsOf(dataset, indices)).entries()) {
      hash.update(Int32Array.of(labels[first + i], content.length)).update(content);
      if (content !== UNREADABLE) options.onContent?.(Buffer.from(content).toString('base64'));
    }
    blocks.push(hash.digest('hex').slice(0, 32));
    options.onProgress?.(indices.length);
  }
  return { images: labels.length, classNames, blocks };
}

/**
 * Checks some images against an identity: all groups of 64 that images first .. first + count - 1 lie in.
 * @throws DetailFlowError `config`
 */
export async function requireImages(
  dataset: ImageDataset,
  identity: ImagesIdentity,
  options: { readonly first: number; readonly count: number; readonly signal?: AbortSignal },
): Promise<void> {
  const { first, count, signal } = options;
  const begin = Math.floor(first / BLOCK) * BLOCK;
  const end = Math.min(Math.ceil((first + count) / BLOCK) * BLOCK, dataset.labels.length);
  const indices = Int32Array.from({ length: end - begin }, (_, i) => begin + i);
  const { blocks } = await identityOf(subset(dataset, indices, dataset.name), { signal });
  const wrong = blocks.findIndex((block, i) => block !== identity.blocks[begin / BLOCK + i]);
  if (wrong < 0) return;
  const from = begin + wrong * BLOCK;
  throw new DetailFlowError(
    'config',
    `content or class of images ${from} to ${Math.min(from + BLOCK, end) - 1} differs from what the codes are to be of`,
    { file: dataset.name },
  );
}

/** Files that are read at the same time. */
const AT_ONCE = 8;

async function contentsOf(dataset: ImageDataset, indices: readonly number[]): Promise<Uint8Array[]> {
  const contents: Uint8Array[] = [];
  // Rows of a compressed file are read one after the other.
  const step = dataset.digest ? AT_ONCE : 1;
  for (let at = 0; at < indices.length; at += step) {
    const some = indices.slice(at, at + step).map((index) => contentOf(dataset, index));
    contents.push(...(await Promise.all(some)));
  }
  return contents;
}

async function contentOf(dataset: ImageDataset, index: number): Promise<Uint8Array> {
  try {
    if (dataset.digest) return await dataset.digest(index);
    const { data, width, height } = await dataset.image(index);
    return createHash('sha256').update(Int32Array.of(width, height)).update(data).digest();
  } catch (error) {
    if (!DetailFlowError.isInstance(error)) throw error;
    return UNREADABLE;
  }
}

const UNREADABLE = new Uint8Array(0);

/** What differs between two identities, in words; undefined when they are the same images in the same order. */
export function differenceOf(before: ImagesIdentity, now: ImagesIdentity): string | undefined {
  if (before.images !== now.images) return `there were ${before.images} images, there are ${now.images}`;
  if (before.classNames.join('\n') !== now.classNames.join('\n')) {
    return `the classes were ${named(before.classNames)}, they are ${named(now.classNames)}`;
  }
  const changed = now.blocks.flatMap((block, i) => (block === before.blocks[i] ? [] : [i]));
  if (changed.length === 0) return undefined;
  const first = changed[0] * BLOCK;
  const last = Math.min(first + BLOCK, now.images) - 1;
  const others = changed.length > 1 ? ` and in ${changed.length - 1} more such groups` : '';
  return `content or class has changed among images ${first} to ${last}${others}`;
}

function named(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown}, ... (${names.length})` : shown;
}
