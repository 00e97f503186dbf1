import type { FileTree } from '@detailflow/checkpoint';
import { DetailFlowError } from '@detailflow/core';
import { hubAddressText, isHubAddress, parseHubAddress } from './address';
import { type OpenHubOptions, openHub } from './hub-folder';
import { type OneRemoteFile, openUrlFile, openUrlFolder, UrlFiles } from './url-files';

/** Whether a text names something on the hub (`hf:`) or on a web server (`https://`). */
export const isRemote = (text: string): boolean => isHubAddress(text) || /^https?:\/\//.test(text);

/** A folder on the hub or a web server; files are fetched when they are opened. See {@link openHub}. */
export async function openRemote(address: string, options: OpenHubOptions = {}): Promise<FileTree> {
  return isHubAddress(address) ? openHub(address, options) : openUrlFolder(address, options);
}

/** The path inside the repository or on the web server that an address names; '' for none. */
export function remotePath(address: string): string {
  if (isHubAddress(address)) return parseHubAddress(address).path;
  return URL.canParse(address) ? new URL(address).pathname.slice(1) : '';
}

/**
 * The folder around one file on the hub or a web server, for code that takes folders: files are fetched when they are opened,
 * or read by ranges as `partial` says. On a web server that the file is not there is said when it is opened.
 * @returns undefined where the hub has a folder of that name
 * @throws DetailFlowError as {@link openHub}; `not-found` when the hub has no such file, with what it has instead
 */
export async function openRemoteFile(
  address: string,
  options: OpenHubOptions = {},
): Promise<OneRemoteFile | undefined> {
  if (!isHubAddress(address)) return openUrlFile(address, options);
  const parsed = parseHubAddress(address);
  const at = parsed.path.lastIndexOf('/') + 1;
  const name = parsed.path.slice(at);
  const tree = await openHub({ ...parsed, path: parsed.path.slice(0, Math.max(0, at - 1)) }, options);
  if (name === '' || (await tree.list(name)).length > 0) return undefined;
  if (await tree.exists(name)) return { tree, name };
  const beside = (await tree.list('')).slice(0, 8).join(', ');
  const opened = await tree.open(name).catch((cause) => {
    if (!DetailFlowError.isInstance(cause) || cause.code !== 'not-found' || beside === '') throw cause;
    throw new DetailFlowError('not-found', `there is no such file; beside it lie ${beside}`, {
      file: hubAddressText(parsed),
    });
  });
  await opened.close?.();
  return { tree, name };
}

/**
 * Fetches a file or, from the hub, a folder, for code that wants a path.
 * @returns the path in the cache
 */
export async function fetchRemote(address: string, options: OpenHubOptions = {}): Promise<string> {
  if (isHubAddress(address)) return (await openHub(address, options)).fetch();
  return (await UrlFiles.create(options)).fetch(address);
}
