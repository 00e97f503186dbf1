import { type ByteSource, checkOptions, checkRange, DetailFlowError } from '@detailflow/core';
import { checkTreePath, type FileTree, fileTree } from './file-tree';

/** A file or other blob of a page, read part by part. */
export function blobSource(blob: Blob, name = 'blob'): ByteSource {
  return {
    name,
    size: blob.size,
    async read(offset, length) {
      checkRange(name, blob.size, offset, length);
      try {
        return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      } catch (cause) {
        throw new DetailFlowError('io', 'it cannot be read', { file: name, cause });
      }
    },
  };
}

/**
 * Files that were dropped on a page or picked in a dialog, as a tree. A folder that contains all of them is left out.
 * @param files as a `FileList` or an array holds them; `webkitRelativePath` says where they lie
 */
export function droppedTree(files: Iterable<File>): FileTree {
  const named = [...files].map((file) => [file.webkitRelativePath || file.name, file] as const);
  const [first] = named[0]?.[0].split('/') ?? [];
  const isCommon = named.length > 0 && named.every(([path]) => path.startsWith(`${first}/`));
  const inside = (path: string) => (isCommon ? path.slice(first.length + 1) : path);
  return fileTree(
    isCommon ? first : 'dropped files',
    new Map(named.map(([path, file]) => [inside(path), blobSource(file, path)])),
  );
}

/** How files below an address are fetched. */
export interface UrlTreeOptions {
  /** Largest file that is taken as a whole when the server knows no ranges, in bytes; default 2 GiB. */
  readonly maxBytes?: number;
  /** Files up to this size are taken as a whole when they are opened, in one request; default 0: none. */
  readonly wholeBelow?: number;
  readonly signal?: AbortSignal;
  /** Default: the global `fetch`. */
  readonly fetch?: typeof fetch;
}

/**
 * Files below an address, read by ranges where the server answers them. A server does not say what lies in a folder, so
 * `list` finds nothing; a bundle needs none.
 * @param base ends with a slash
 */
export function urlTree(base: string | URL, options: UrlTreeOptions = {}): FileTree {
  checkOptions('urlTree', options, { maxBytes: true, wholeBelow: true, signal: true, fetch: true });
  const { maxBytes = 2 ** 31, wholeBelow = 0, signal, fetch: get = fetch } = options;
  const root = new URL(base, globalThis.location?.href);
  const addressOf = (path: string) => {
    checkTreePath(root.href, path);
    return new URL(path.split('/').map(encodeURIComponent).join('/'), root).href;
  };
  const request = async (url: string, init: RequestInit = {}): Promise<Response> => {
    try {
      return await get(url, { ...init, signal });
    } catch (cause) {
      signal?.throwIfAborted();
      throw new DetailFlowError('io', 'the server cannot be reached', { file: url, cause });
    }
  };
  return {
    name: root.href.replace(/\/$/, ''),
    async exists(path) {
      const response = await request(addressOf(path), { method: 'HEAD' });
      return response.ok && !isPage(response, path);
    },
    async open(path) {
      const url = addressOf(path);
      const response = await request(url, { headers: { Range: 'bytes=0-0' } });
      if (!response.ok || isPage(response, path)) {
        await response.body?.cancel();
        throw new DetailFlowError('io', `there is no such file (status ${response.status})`, { file: url });
      }
      const size = rangeTotal(response);
      if (size === undefined) return wholeSource(response, { url, maxBytes });
      await response.arrayBuffer();
      if (size <= wholeBelow) return wholeSource(await request(url), { url, maxBytes });
      return {
        name: url,
        size,
        async read(offset, length) {
          checkRange(url, size, offset, length);
          if (length === 0) return new Uint8Array(0);
          const part = await request(url, { headers: { Range: `bytes=${offset}-${offset + length - 1}` } });
          const bytes = part.status === 206 ? new Uint8Array(await part.arrayBuffer()) : undefined;
          if (bytes?.length === length) return bytes;
          throw new DetailFlowError('io', `the server did not send bytes ${offset}..${offset + length}`, {
            file: url,
          });
        },
      };
    },
    list: async () => [],
  };
}

/** Servers of single-page applications answer any address with their page. */
const isPage = (response: Response, path: string) =>
  !path.endsWith('.html') && (response.headers.get('content-type') ?? '').startsWith('text/html');

/** Size of the whole file, when the answer is a part of it. */
function rangeTotal(response: Response): number | undefined {
  const total = /^bytes \d+-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
  return response.status === 206 && total !== undefined ? Number(total) : undefined;
}

/** A file whose server knows no ranges, in memory. @throws DetailFlowError `limit` before more than that is taken */
async function wholeSource(
  response: Response,
  { url, maxBytes }: { url: string; maxBytes: number },
): Promise<ByteSource> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
    parts.push(part.value);
    size += part.value.length;
    if (size <= maxBytes) continue;
    await reader?.cancel();
    throw new DetailFlowError(
      'limit',
      `more than ${maxBytes} bytes from a server that knows no ranges; allow them with maxBytes`,
      { file: url },
    );
  }
  return blobSource(new Blob(parts), url);
}
