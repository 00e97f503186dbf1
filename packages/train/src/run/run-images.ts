import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { writeFileAtomically } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import type { ImageDataset } from '@detailflow/data';
import { differenceOf, type ImagesIdentity, identityOf } from './images-identity';
import type { RunFolder } from './run-folder';

const FILE = 'images.json';
const parts = { train: 'training', heldOut: 'held-out' } as const;

type Parts = Readonly<Record<keyof typeof parts, ImagesIdentity>>;

/**
 * Takes the identity of the images of a run and notes it in images.json; once anything in the folder depends on them, they
 * must be those that are noted. Looked at by every start of a run, whatever it trains.
 * @returns the identity of the training images, a digest of it, and how many held-out images are among them, byte for byte
 * @throws DetailFlowError `config` when the images have changed, or the folder does not say which they were
 */
export async function requireSameImages(
  folder: RunFolder,
  data: { readonly train: ImageDataset; readonly heldOut: ImageDataset },
  options: { readonly signal?: AbortSignal; readonly onProgress?: (done: number, total: number) => void },
): Promise<{ readonly digest: string; readonly train: ImagesIdentity; readonly shared: number }> {
  const total = data.train.labels.length + data.heldOut.labels.length;
  let done = 0;
  const onProgress = (images: number) => {
    done += images;
    options.onProgress?.(done, total);
  };
  const take = (dataset: ImageDataset, onContent: (digest: string) => void) =>
    identityOf(dataset, { signal: options.signal, onProgress, onContent });
  const counts = new Map<string, number>(); // of contents that are held out
  const heldOut = await take(data.heldOut, (digest) => counts.set(digest, (counts.get(digest) ?? 0) + 1));
  let shared = 0;
  const train = await take(data.train, (digest) => {
    shared += counts.get(digest) ?? 0;
    counts.delete(digest); // its copies are counted once
  });
  const now: Parts = { train, heldOut };
  const file = path.join(folder.path, FILE);
  if (await folder.holdsWork()) await compare(file, now);
  else {
    const text = `${JSON.stringify(now)}\n`;
    await folder.place(FILE);
    await writeFileAtomically(file, (write) => write(new TextEncoder().encode(text)));
  }
  return { digest: digestOf(train), train, shared };
}

/** Of all that an identity says. */
export const digestOf = (train: ImagesIdentity): string =>
  createHash('sha256').update(JSON.stringify(train)).digest('hex').slice(0, 32);

/**
 * The digest of the training images that a run folder notes.
 * @throws DetailFlowError `config` when it notes none
 */
export async function notedImages(run: string): Promise<string> {
  return digestOf((await readParts(path.join(run, FILE))).train);
}

async function compare(file: string, now: Parts): Promise<void> {
  const before = await readParts(file);
  for (const [part, name] of Object.entries(parts) as [keyof Parts, string][]) {
    const difference = differenceOf(before[part], now[part]);
    if (difference === undefined) continue;
    throw new DetailFlowError(
      'config',
      `the ${name} images are not those that this run was begun with: ${difference}. Put them back, or begin in another folder (a tokenizer that is trained can be given to it)`,
      { file },
    );
  }
}

async function readParts(file: string): Promise<Parts> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  try {
    const found = JSON.parse(text ?? '') as Parts;
    if (Object.keys(parts).every((part) => isIdentity(found[part as keyof Parts]))) return found;
  } catch {
    // said below
  }
  throw new DetailFlowError(
    'config',
    `${text === undefined ? 'is missing' : 'is damaged'}, so it cannot be said whether the images are those that this run was begun with; begin in another folder`,
    { file },
  );
}

const isIdentity = (value: ImagesIdentity | undefined): boolean =>
  Number.isSafeInteger(value?.images) && Array.isArray(value?.classNames) && Array.isArray(value?.blocks);
