import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { ioError, writeFileAtomically } from '@detailflow/checkpoint/node';
import { DetailFlowError } from '@detailflow/core';
import type { LossNetworkFiles } from './loss-networks';
import type { RunFolder } from './run-folder';

const FILE = 'loss-networks.json';

type Digests = Partial<Record<keyof LossNetworkFiles, string>>;

/**
 * Notes the contents of the files that the losses of a run read, in loss-networks.json, or checks them against what is noted: a run that goes
 * on with another network of the same sizes would learn something else without a word.
 * @throws DetailFlowError `config` when a network is not the one that the run was begun with; `io` when a file cannot be read
 */
export async function requireSameNetworks(folder: RunFolder, files: LossNetworkFiles): Promise<void> {
  const note = path.join(folder.path, FILE);
  const earlier = await noted(note);
  const now: Digests = {};
  for (const [name, file] of Object.entries(files) as [keyof LossNetworkFiles, string][]) {
    const digest = await digestOf(file);
    now[name] = digest;
    if (earlier[name] === undefined || earlier[name] === digest) continue;
    throw new DetailFlowError(
      'config',
      `this is not the network that the run was begun with as "${name}": its SHA-256 is ${digest}, that one's ${earlier[name]} (${FILE}). Give that file, or begin in another folder`,
      { file },
    );
  }
  const all = { ...earlier, ...now };
  if (Object.keys(all).length === Object.keys(earlier).length) return;
  const text = `${JSON.stringify(all, undefined, 2)}\n`;
  await writeFileAtomically(await folder.place(FILE), (write) => write(new TextEncoder().encode(text)));
}

/**
 * Tells of files that no loss of a run takes: who gives one believes that it is used.
 * @param files those that were given; the classifier of the run's own folder is taken when it is needed
 * @param used those that were read
 */
export function tellOfUnused(
  folder: RunFolder,
  { files, used }: { readonly files: LossNetworkFiles; readonly used: LossNetworkFiles },
  onNotice?: (text: string) => void,
): void {
  for (const [name, file] of Object.entries(files) as [keyof LossNetworkFiles, string | undefined][]) {
    const isOwn = name === 'classifier' && file === path.join(folder.path, 'classifier.safetensors');
    if (file === undefined || isOwn || name in used || name === 'siglip') continue; // towers may begin with a SigLIP2
    onNotice?.(`no loss of these settings takes the network that is given as ${name}: ${file} is not read`);
  }
}

async function noted(file: string): Promise<Digests> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return {};
  try {
    const found: unknown = JSON.parse(text);
    const isRecord = typeof found === 'object' && found !== null && !Array.isArray(found);
    if (isRecord && Object.values(found).every((digest) => typeof digest === 'string'))
      return found as Digests;
  } catch {
    // said below
  }
  throw new DetailFlowError(
    'config',
    'is damaged, so it cannot be said whether the networks of the losses are those that this run was begun with; begin in another folder',
    { file },
  );
}

/** Of a file, or of the files of a folder by their names; what an index lists lies beside it. */
async function digestOf(file: string): Promise<string> {
  try {
    const place = file.endsWith('.index.json') ? path.dirname(file) : file;
    const isFolder = (await stat(place)).isDirectory();
    const names = isFolder ? (await readdir(place)).sort() : [''];
    const hash = createHash('sha256');
    for (const name of names) {
      const each = path.join(place, name);
      if (isFolder && !(await stat(each)).isFile()) continue;
      if (isFolder) hash.update(`${name}\0`);
      for await (const part of createReadStream(each)) hash.update(part as Buffer);
    }
    return hash.digest('hex');
  } catch (cause) {
    throw ioError('cannot be read', file, cause);
  }
}
