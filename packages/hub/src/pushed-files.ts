import { createReadStream, type Dirent } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { unsafePath } from '@detailflow/checkpoint';
import { ioError } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { hasherOf } from './hashing';
import { nodeHasher } from './node-hashing';

/** A file that may be pushed. */
export interface LocalFile {
  /** Where it goes inside the repository. */
  readonly path: string;
  /** Where it is. */
  readonly local: string;
  readonly size: number;
  /** When it was changed last, in milliseconds. */
  readonly changed: number;
}

const MOST_FILES = 10_000;

/**
 * The files of a folder. What begins with a dot is left out, except .gitattributes and .gitignore: such files hold passwords and caches.
 * @param prefix the folder inside the repository
 * @returns them by path, and what is left out
 * @throws DetailFlowError `io`; `limit` for more files than one commit should have; `invalid-argument` for names that no one else could fetch
 */
export async function localFiles(
  folder: string,
  prefix: string,
): Promise<{ readonly files: readonly LocalFile[]; readonly leftOut: readonly string[] }> {
  const files: LocalFile[] = [];
  const leftOut: string[] = [];
  const walk = async (inside: string): Promise<void> => {
    const entries = await readdir(path.join(folder, inside), { withFileTypes: true }).catch((cause) => {
      throw ioError('the folder cannot be read', path.join(folder, inside), cause);
    });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const name = inside === '' ? entry.name : `${inside}/${entry.name}`;
      if (entry.name.startsWith('.') && !/^\.git(attributes|ignore)$/.test(entry.name)) leftOut.push(name);
      else if (entry.isDirectory()) await walk(name);
      else if (!(await isFile(entry, path.join(folder, name)))) leftOut.push(name);
      else files.push(await describe(name));
      if (files.length > MOST_FILES)
        throw new DetailFlowError('limit', `has more than ${MOST_FILES} files`, { file: folder });
    }
  };
  const describe = async (name: string): Promise<LocalFile> => {
    const local = path.join(folder, name);
    const target = prefix === '' ? name : `${prefix}/${name}`;
    const reason = unsafePath(target);
    if (reason !== undefined) {
      throw new DetailFlowError('invalid-argument', `its name cannot be fetched again: ${reason}`, {
        file: local,
      });
    }
    const { size, mtimeMs } = await stat(local);
    return { path: target, local, size, changed: mtimeMs };
  };
  await walk('');
  return { files, leftOut };
}

/** A link counts as the file that it leads to; a link to a folder does not. */
async function isFile(entry: Dirent, local: string): Promise<boolean> {
  if (entry.isFile()) return true;
  if (!entry.isSymbolicLink()) return false;
  return stat(local).then(
    (found) => found.isFile(),
    () => false,
  );
}

/** The hashes of a file: SHA-256, by which large files are known, and git's of the file as a blob. */
export async function hashesOf(
  { local, size }: LocalFile,
  signal?: AbortSignal,
): Promise<{ readonly sha256: string; readonly blob: string; readonly sample: Buffer }> {
  const sha256 = nodeHasher('sha256');
  const blob = hasherOf('0'.repeat(40), size, nodeHasher);
  const parts: Buffer[] = [];
  let seen = 0;
  for await (const part of readStream(local)) {
    signal?.throwIfAborted();
    sha256.update(part);
    blob.update(part);
    if (seen < SAMPLE) parts.push(part.subarray(0, SAMPLE - seen));
    seen += part.length;
  }
  return { sha256: sha256.hex(), blob: blob.hex(), sample: Buffer.concat(parts) };
}

/** Bytes of a file by which the hub tells text from data. */
const SAMPLE = 512;

/** The parts of a file, or of a range of it. @throws DetailFlowError `io` */
export async function* readStream(
  local: string,
  range: { readonly start?: number; readonly end?: number } = {},
): AsyncGenerator<Buffer<ArrayBuffer>> {
  try {
    for await (const part of createReadStream(local, range)) yield part as Buffer<ArrayBuffer>;
  } catch (cause) {
    throw ioError('cannot be read', local, cause);
  }
}

/** @throws DetailFlowError `io` when a file is no longer as it was found */
export async function requireUnchanged({ local, size, changed }: LocalFile): Promise<void> {
  const now = await stat(local).catch((cause) => {
    throw ioError('cannot be read', local, cause);
  });
  if (now.size === size && now.mtimeMs === changed) return;
  throw new DetailFlowError('io', 'was changed while it was being pushed; push again', { file: local });
}
