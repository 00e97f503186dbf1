import { constants, open, readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type ByteSource, checkRange, DetailFlowError } from '@detailflow/core';
import { checkTreePath, type FileTree } from './file-tree';

/** A local file, open until `close` is called. */
export interface OpenFile extends ByteSource {
  readonly path: string;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/** Largest single read that every system takes. */
const maxRead = 2 ** 30;

/**
 * Opens a local file for random access. Reads do not disturb each other and may run at the same time.
 * @throws DetailFlowError `io` when it is not there, not a regular file or not readable; `closed` on a read after
 * `close`; `io` when the file was written to since it was opened: what is read of it now would not go with what was read before
 */
export async function openFile(path: string): Promise<OpenFile> {
  const absolute = resolve(path);
  // A pipe without a writer would block; this way it is opened, and refused below.
  const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
  const handle = await open(absolute, flags).catch((cause) => {
    throw ioError('cannot be opened', path, cause);
  });
  let closed = false;
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new DetailFlowError('io', 'it is not a regular file', { file: path });
    const size = stats.size;
    return {
      name: path,
      path: absolute,
      size,
      async read(offset, length) {
        if (closed) throw new DetailFlowError('closed', 'the file was closed', { file: path });
        checkRange(path, size, offset, length);
        const bytes = allocate(length, path);
        for (let done = 0; done < length; ) {
          const wanted = Math.min(length - done, maxRead);
          const { bytesRead } = await handle.read(bytes, done, wanted, offset + done).catch((cause) => {
            throw ioError('cannot be read', path, cause);
          });
          if (bytesRead === 0) {
            throw new DetailFlowError(
              'io',
              `it ends at ${offset + done}, but had ${size} bytes when it was opened; was it replaced?`,
              { file: path },
            );
          }
          done += bytesRead;
        }
        const now = await handle.stat().catch((cause) => {
          throw ioError('cannot be read', path, cause);
        });
        if (now.mtimeMs === stats.mtimeMs && now.size === size) return bytes;
        throw new DetailFlowError(
          'io',
          'it was written to since it was opened; open it anew, and put new files in place by renaming them',
          { file: path },
        );
      },
      async close() {
        if (closed) return;
        closed = true;
        await handle.close();
      },
    };
  } catch (error) {
    await handle.close();
    throw DetailFlowError.isInstance(error) ? error : ioError('cannot be read', path, error);
  }
}

/**
 * A local folder as a {@link FileTree}. Links inside it are followed.
 * @throws DetailFlowError `io` when it is not there or not a folder
 */
export async function openFolder(path: string): Promise<FileTree> {
  const root = resolve(path);
  const stats = await stat(root).catch((cause) => {
    throw ioError('cannot be opened', path, cause);
  });
  if (!stats.isDirectory()) {
    throw new DetailFlowError('io', 'it is not a folder; give the folder that holds the files', {
      file: path,
    });
  }
  return {
    name: path,
    async open(file) {
      checkTreePath(path, file);
      return openFile(join(path, file));
    },
    async exists(file) {
      checkTreePath(path, file);
      try {
        return (await stat(join(root, file))).isFile();
      } catch (cause) {
        if (isMissing(cause)) return false;
        throw ioError('cannot be looked at', join(path, file), cause);
      }
    },
    async list(folder) {
      if (folder !== '') checkTreePath(path, folder);
      try {
        const entries = await readdir(join(root, folder), { withFileTypes: true });
        const names = entries.map(async (entry) => {
          const isFolder =
            entry.isDirectory() ||
            (entry.isSymbolicLink() && (await leadsToFolder(join(root, folder, entry.name))));
          return isFolder ? [] : [entry.name];
        });
        return (await Promise.all(names)).flat().sort();
      } catch (cause) {
        if (isMissing(cause)) return [];
        throw ioError('cannot be listed', join(path, folder), cause);
      }
    },
  };
}

/** A link that leads nowhere, or in circles, leads to no folder: it fails when it is opened. */
const leadsToFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (stats) => stats.isDirectory(),
    () => false,
  );

/** Wraps what the file system threw, with its reason in words a user can act on. */
export function ioError(what: string, path: string, cause: unknown): DetailFlowError {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  const reasons: Record<string, string> = {
    ENOENT: 'there is no such file or folder',
    ELOOP: 'its links lead in circles',
    EACCES: 'permission denied',
    EPERM: 'permission denied',
    EISDIR: 'it is a folder, not a file',
    ENOTDIR: 'a part of the path is a file, not a folder',
    ENOSPC: 'the disk is full',
    EDQUOT: 'the disk quota is used up',
    EROFS: 'the file system is read-only',
    EMFILE: 'too many files are open',
  };
  const reason = reasons[code ?? ''] ?? (cause instanceof Error ? cause.message : String(cause));
  return new DetailFlowError('io', `${what}: ${reason}`, { file: path, cause });
}

function isMissing(cause: unknown): boolean {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

function allocate(length: number, path: string): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new DetailFlowError('limit', `${length} bytes cannot be held in memory at once`, {
      file: path,
      cause,
    });
  }
}
