import type { Dirent, Stats } from 'node:fs';
import { open, readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { DetailFlowError } from '@detailflow/core';
import { byCodePoint } from './code-points';
import { foreignKind, hasImageName, imageKind, KIND_BYTES } from './image-kinds';
import type { UnusedCounter } from './source-use';

const MOST_IMAGES = 10_000_000;
const MOST_FOLDERS = 1_000_000;
/** Times that links may lead to one folder: where many lead to one another, there are more ways than can be gone. */
const MOST_VISITS = 1000;

/** A folder with everything that can be told of it without reading images. */
export interface ListedFolder {
  readonly path: string;
  /** Without links. */
  readonly real: string;
  /** Names of image files, sorted. */
  readonly images: readonly string[];
  /** Sorted. */
  readonly folders: readonly { readonly name: string; readonly real: string }[];
}

/** What a walk is about. */
export interface Walk {
  /** Told of what is no image, or cannot be read. */
  readonly unused: UnusedCounter;
  /** Names in reports are given from here. */
  readonly root: string;
  /** How often a folder was listed, by its real path. */
  readonly visits: Map<string, number>;
}

export const newWalk = (root: string, unused: UnusedCounter): Walk => ({ root, unused, visits: new Map() });

/**
 * The images and folders in a folder. Links are followed; hidden files, links to nothing and files that are no images are
 * counted as unused.
 * @throws DetailFlowError `io` when it cannot be listed, `limit` beyond a million folders, or when links lead to one folder
 *   more than 1000 times
 */
export async function listFolder(folder: string, real: string, walk: Walk): Promise<ListedFolder> {
  const visits = (walk.visits.get(real) ?? 0) + 1;
  walk.visits.set(real, visits);
  if (visits > MOST_VISITS || walk.visits.size > MOST_FOLDERS) {
    const what =
      visits > MOST_VISITS ? `to one folder more than ${MOST_VISITS} times` : `to ${MOST_FOLDERS} folders`;
    throw new DetailFlowError('limit', `leads ${what}; look at its links`, {
      file: walk.root,
      entry: folder,
    });
  }
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause) => {
    throw new DetailFlowError('io', `cannot be listed (${cause.message})`, { file: folder, cause });
  });
  entries.sort((a, b) => byCodePoint(a.name, b.name));
  const images: string[] = [];
  const folders: { name: string; real: string }[] = [];
  for (const entry of entries) {
    const { name } = entry;
    const full = path.join(folder, name);
    const leave = (reason: string) => walk.unused.add(reason, path.relative(walk.root, full));
    if (name.startsWith('.')) {
      leave('hidden (the name begins with a dot)');
      continue;
    }
    if (name === '__MACOSX') {
      leave('left by a Mac');
      continue;
    }
    try {
      const found = await resolve(entry, full);
      if (found.isDirectory()) {
        folders.push({ name, real: entry.isDirectory() ? path.join(real, name) : await realpath(full) });
      } else if (!found.isFile()) {
        leave('unreadable: not a regular file');
      } else if (hasImageName(name)) {
        images.push(name);
      } else {
        const reason = await whyNoImage(full);
        if (reason === undefined) images.push(name);
        else leave(reason);
      }
    } catch (error) {
      leave(`unreadable: ${reasonOf(error)}`);
    }
  }
  return { path: folder, real, images, folders };
}

/**
 * All images in a folder and the folders in it, through links, in the order of torchvision's ImageFolder: by folder, then by
 * name. A link back to a folder above it is not followed.
 * @param above real paths of the folders above
 */
export async function imagesWithin(
  folder: { readonly path: string; readonly real: string },
  walk: Walk,
): Promise<string[]> {
  const found: { folder: string; images: readonly string[] }[] = [];
  let count = 0;
  const visit = async (place: string, real: string, above: ReadonlySet<string>) => {
    const listed = await listFolder(place, real, walk);
    count += listed.images.length;
    if (count > MOST_IMAGES) {
      throw new DetailFlowError('limit', `holds more than ${MOST_IMAGES} images`, { file: walk.root });
    }
    found.push({ folder: place, images: listed.images });
    const here = new Set(above).add(real);
    for (const { name, real: next } of listed.folders) {
      const full = path.join(place, name);
      const leave = (reason: string) => walk.unused.add(reason, path.relative(walk.root, full));
      if (here.has(next)) {
        leave('a link back to a folder that it lies in');
        continue;
      }
      try {
        await visit(full, next, here);
      } catch (error) {
        if (!DetailFlowError.isInstance(error) || error.code !== 'io') throw error;
        leave(`unreadable: ${reasonOf(error.cause)}`);
      }
    }
  };
  await visit(folder.path, folder.real, new Set([await realpath(walk.root)]));
  found.sort((a, b) => byCodePoint(a.folder, b.folder));
  return found.flatMap(({ folder: place, images }) => images.map((name) => path.join(place, name)));
}

/** What an entry is, or what it links to. */
async function resolve(entry: Dirent, full: string): Promise<Pick<Stats, 'isFile' | 'isDirectory'>> {
  return entry.isFile() || entry.isDirectory() ? entry : stat(full);
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'a link to nothing';
  if (code === 'ELOOP') return 'a link that leads back to itself';
  return code ?? message;
}

/** Why a file whose name promises no image is none; undefined when its first bytes say that it is one. */
async function whyNoImage(file: string): Promise<string | undefined> {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(KIND_BYTES), 0, KIND_BYTES, 0);
    const head = buffer.subarray(0, bytesRead);
    if (imageKind(head) !== undefined) return undefined;
    const foreign = foreignKind(head);
    if (foreign !== undefined) return `${foreign}, which is not read`;
    const extension = path.extname(file).toLowerCase().slice(0, 12);
    return `no image (${extension || 'no extension'})`;
  } finally {
    await handle.close();
  }
}
