import type { FileTree } from '@detailflow/checkpoint';
import { isHubAddress } from './address';
import { type OpenHubOptions, openHub } from './hub-folder';
import { openUrlFolder, UrlFiles } from './url-files';

/** Whether a text names something on the hub (`hf:`) or on a web server (`https://`). */
export const isRemote = (text: string): boolean => isHubAddress(text) || /^https?:\/\//.test(text);

/** A folder on the hub or a web server; files are fetched when they are opened. See {@link openHub}. */
export async function openRemote(address: string, options: OpenHubOptions = {}): Promise<FileTree> {
  return isHubAddress(address) ? openHub(address, options) : openUrlFolder(address, options);
}

/**
 * Fetches a file or, from the hub, a folder, for code that wants a path.
 * @returns the path in the cache
 */
export async function fetchRemote(address: string, options: OpenHubOptions = {}): Promise<string> {
  if (isHubAddress(address)) return (await openHub(address, options)).fetch();
  return (await UrlFiles.create(options)).fetch(address);
}
