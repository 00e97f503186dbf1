import { type ByteSource, DetailFlowError } from '@detailflow/core';
import { unsafePath } from './paths';

/**
 * A folder of files, wherever it lies: on disk (`openFolder` of `@detailflow/checkpoint/node`), in memory or
 * among dropped files ({@link fileTree}), behind a server. Paths are relative, with forward slashes; `..`,
 * absolute paths, backslashes and NUL are refused.
 */
export interface FileTree {
  /** Name for messages: a path or URL. */
  readonly name: string;
  /**
   * Opens a file. The caller closes it.
   * @throws DetailFlowError `invalid-argument` for an unsafe path, `io` or `not-found` when there is no such file
   */
  open(path: string): Promise<ByteSource>;
  /** Whether there is a file (not a folder) at this path. */
  exists(path: string): Promise<boolean>;
  /** Names of the files that lie directly in a folder, sorted; '' is the root. Empty when it does not exist. */
  list(folder: string): Promise<string[]>;
}

/** A {@link FileTree} over sources that are at hand, by path: files in memory, or files dropped on a page. */
export function fileTree(name: string, files: ReadonlyMap<string, ByteSource>): FileTree {
  for (const path of files.keys()) checkTreePath(name, path);
  return {
    name,
    async open(path) {
      checkTreePath(name, path);
      const file = files.get(path);
      if (file === undefined)
        throw new DetailFlowError('io', 'there is no such file', { file: `${name}/${path}` });
      return file;
    },
    async exists(path) {
      checkTreePath(name, path);
      return files.has(path);
    },
    async list(folder) {
      if (folder !== '') checkTreePath(name, folder);
      const prefix = folder === '' ? '' : `${folder}/`;
      return [...files.keys()]
        .filter((path) => path.startsWith(prefix) && !path.slice(prefix.length).includes('/'))
        .map((path) => path.slice(prefix.length))
        .sort();
    },
  };
}

/**
 * One file of a folder as a {@link FileTree}: of the others only a `config.json` beside it is seen. What the file itself
 * names, as an index does its parts, can be opened.
 */
export function oneFileTree(tree: FileTree, file: string): FileTree {
  const isSeen = (path: string) => path === file || path === 'config.json';
  return {
    name: tree.name,
    open: (path) => tree.open(path),
    exists: async (path) => isSeen(path) && tree.exists(path),
    list: async (folder) => (folder === '' ? (await tree.list('')).filter(isSeen) : []),
  };
}

/** Throws DetailFlowError `invalid-argument` unless `path` is relative and stays inside the tree. For adapters. */
export function checkTreePath(tree: string, path: string): void {
  const reason = unsafePath(path);
  if (reason !== undefined) {
    throw new DetailFlowError(
      'invalid-argument',
      `the path ${JSON.stringify(path)} is refused: ${reason}; give a path inside the folder, with forward slashes`,
      { file: tree },
    );
  }
}

/**
 * Reads a small text file completely and closes it.
 * @throws DetailFlowError `limit` beyond `maxBytes`, `format` when it is not UTF-8, `io`
 */
export async function readText(tree: FileTree, path: string, maxBytes: number): Promise<string> {
  const source = await tree.open(path);
  try {
    if (source.size > maxBytes) {
      throw new DetailFlowError(
        'limit',
        `${source.size} bytes are too many for a configuration; at most ${maxBytes} are read`,
        { file: source.name },
      );
    }
    const bytes = await source.read(0, source.size);
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch (cause) {
      throw new DetailFlowError('format', 'it is not UTF-8 text', { file: source.name, cause });
    }
  } finally {
    await source.close?.();
  }
}
