import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { ioError, openFile, openFolder, writeFileAtomically } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import { fileDigest } from './file-digest';

/** The file that says what the others of its folder hold. */
const SEAL = 'digests.json';
const MOST_BYTES = 2 ** 16;

/** Writes the SHA-256 of every file of a folder beside them. @throws DetailFlowError `io` */
export async function sealFolder(folder: string, signal?: AbortSignal): Promise<void> {
  const text = await digestsOf(folder, signal);
  await writeFileAtomically(path.join(folder, SEAL), (write) => write(new TextEncoder().encode(text)));
}

/**
 * What is wrong with a folder that was sealed: a byte that changed, a file that is missing or was added, one that cannot be read.
 * Every byte is read for that.
 * @returns undefined when the files are those that were sealed
 * @throws the signal's reason when aborted
 */
export async function sealFault(folder: string, signal?: AbortSignal): Promise<string | undefined> {
  try {
    const sealed = await readSeal(folder);
    return (await digestsOf(folder, signal)) === sealed
      ? undefined
      : 'its files are not those that were written';
  } catch (error) {
    if (DetailFlowError.isInstance(error)) return error.message;
    throw error;
  }
}

async function readSeal(folder: string): Promise<string> {
  const file = await openFile(path.join(folder, SEAL));
  try {
    if (file.size <= MOST_BYTES) return new TextDecoder().decode(await file.read(0, file.size));
    throw new DetailFlowError('limit', `has more than ${MOST_BYTES} bytes`, { file: file.name });
  } finally {
    await file.close();
  }
}

async function digestsOf(folder: string, signal?: AbortSignal): Promise<string> {
  const names = await readdir(folder).catch((cause) => {
    throw ioError('cannot be read', folder, cause);
  });
  const tree = await openFolder(folder);
  const digests: [string, string][] = [];
  for (const name of names.filter((one) => one !== SEAL).sort())
    digests.push([name, await fileDigest(tree, name, signal)]);
  return `${JSON.stringify({ sha256: Object.fromEntries(digests) }, undefined, 2)}\n`;
}
