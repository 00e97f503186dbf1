import { readlink, realpath } from 'node:fs/promises';
import path from 'node:path';
import { openMember, readZip } from '@detailflow/checkpoint';
import { type ByteSource, checkOptions, DetailFlowError, readFloat32, type Weights } from '@detailflow/core';
import { sourceDigest } from './file-digest';
import type { ModelSource } from './folder-source';
import { type OpenFamilyOptions, openFamilyModel } from './open-family';
import { type RecordedFile, recordedSource } from './recorded-files';
import { zeroedEnd } from './zeroed-end';

/** What was read of one file, and what its own records say about it. */
export interface VerifiedFile {
  readonly file: string;
  readonly bytes: number;
  /** Members of a zip file whose CRC-32 was compared, and those that state none. Absent in other formats. */
  readonly members?: { readonly checked: number; readonly withoutChecksum: number };
  /** SHA-256 that the file's name in a Hugging Face cache states, where it lies in one. */
  readonly sha256?: string;
}

/** The tensors of one half of a model. */
export interface VerifiedTensors {
  readonly tensors: number;
  readonly values: number;
}

/** What {@link verifyModel} has read, and what it could not check. */
export interface Verification {
  readonly files: readonly VerifiedFile[];
  readonly tokenizer: VerifiedTensors;
  readonly ar?: VerifiedTensors;
  /** What is wrong, one sentence each; nothing where all is well. */
  readonly faults: readonly string[];
  /** What could not be checked, and why. */
  readonly notChecked: readonly string[];
}

/** Options of {@link verifyModel}. */
export interface VerifyOptions extends OpenFamilyOptions {
  /** Told how far it is. */
  readonly onProgress?: (progress: { done: number; total: number; unit: 'bytes' }) => void;
}

/**
 * Reads every byte of a model's files: checksums of all zip members, hashes where the file's name in a Hugging Face cache
 * states one, and every tensor, whose numbers must be finite; of safetensors the end must not be zeros from within a tensor on. It goes on after a fault, and collects them.
 * @throws DetailFlowError when the model cannot be opened at all; the signal's reason when aborted
 */
export async function verifyModel(source: ModelSource, options: VerifyOptions = {}): Promise<Verification> {
  checkOptions('verifyModel', options, {
    ...{ hub: true, families: true, settings: true, signal: true, onProgress: true },
  });
  const { families, settings, signal, onProgress } = options;
  const seen: RecordedFile[] = [];
  const opened = await openFamilyModel(await recordedSource(source, seen), { families, settings, signal });
  const faults: string[] = [];
  const notChecked: string[] = [];
  try {
    const total = seen.reduce((sum, { size }) => sum + size, 0);
    let done = 0;
    const files: VerifiedFile[] = [];
    for (const one of seen) {
      signal?.throwIfAborted();
      files.push(await verifyFile(one, { faults, notChecked, signal }));
      done += one.size;
      onProgress?.({ done, total, unit: 'bytes' });
    }
    const tensors = (weights: Weights, file: string) =>
      verifyTensors(weights, { file, faults, notChecked, signal });
    const tokenizer = await tensors(opened.tokenizer.weights, opened.tokenizer.file);
    const ar = opened.ar && (await tensors(opened.ar.weights, opened.ar.file));
    notChecked.push(...(await unusedFiles(seen)));
    return { files, tokenizer, ar, faults, notChecked };
  } finally {
    await opened.close();
  }
}

interface Findings {
  readonly faults: string[];
  readonly notChecked: string[];
  readonly signal?: AbortSignal;
}

async function verifyFile({ tree, path: file }: RecordedFile, findings: Findings): Promise<VerifiedFile> {
  const source = await tree.open(file);
  try {
    const sha256 = await statedHash(source);
    if (sha256 !== undefined && (await sourceDigest(source, findings.signal)) !== sha256) {
      findings.faults.push(`${source.name}: its SHA-256 is not ${sha256}, as its name in the cache says`);
    }
    const found = { file: source.name, bytes: source.size, ...(sha256 !== undefined && { sha256 }) };
    if (await isZip(source)) return { ...found, members: await verifyMembers(source, findings) };
    if (file.endsWith('.safetensors')) {
      const fault = await zeroedEnd(source);
      if (fault !== undefined) findings.faults.push(fault);
    }
    const isText = /\.(json|ya?ml)$/.test(file);
    if (!isText && sha256 === undefined) {
      findings.notChecked.push(
        `${source.name}: the format has no checksum, so a changed value looks like another value`,
      );
    }
    return found;
  } finally {
    await source.close?.();
  }
}

async function isZip(source: ByteSource): Promise<boolean> {
  if (/\.(safetensors|json|ya?ml)$/.test(source.name)) return false;
  return readZip(source).then(
    () => true,
    (error) => {
      if (DetailFlowError.isInstance(error) && error.code === 'format') return false;
      throw error;
    },
  );
}

async function verifyMembers(source: ByteSource, { faults, notChecked, signal }: Findings) {
  let [checked, withoutChecksum] = [0, 0];
  for (const entry of (await readZip(source)).values()) {
    try {
      const stated = entry.crc32 === 0 && entry.size > 0 ? { ...entry, crc32: undefined } : entry;
      if (await openMember(source, stated).verify(signal)) checked++;
      else withoutChecksum++;
    } catch (error) {
      faults.push(faultOf(error));
    }
  }
  if (withoutChecksum > 0) {
    notChecked.push(`${source.name}: ${withoutChecksum} members were saved without a checksum`);
  }
  return { checked, withoutChecksum };
}

async function verifyTensors(
  weights: Weights,
  { file, faults, notChecked, signal }: Findings & { readonly file: string },
): Promise<VerifiedTensors> {
  let [tensors, values] = [0, 0];
  for (const [name, weight] of weights) {
    signal?.throwIfAborted();
    try {
      const numbers = await readFloat32(weight);
      const strange = numbers.reduce((count, value) => (Number.isFinite(value) ? count : count + 1), 0);
      if (strange > 0)
        faults.push(`${file}: ${name}: ${strange} of ${numbers.length} numbers are not finite`);
      tensors++;
      values += numbers.length;
    } catch (error) {
      if (DetailFlowError.isInstance(error) && error.code === 'dtype') {
        notChecked.push(`${file}: ${error.message}`);
      } else faults.push(faultOf(error));
    }
  }
  return { tensors, values };
}

/** Files beside those that were read. */
async function unusedFiles(seen: readonly RecordedFile[]): Promise<string[]> {
  const unused: string[] = [];
  for (const tree of new Set(seen.map((one) => one.tree))) {
    const own = seen.filter((one) => one.tree === tree).map((one) => one.path);
    const folders = new Set([
      '',
      ...own.map((file) => file.slice(0, file.lastIndexOf('/') + 1).replace(/\/$/, '')),
    ]);
    for (const folder of folders) {
      for (const name of await tree.list(folder)) {
        const file = folder === '' ? name : `${folder}/${name}`;
        if (!own.includes(file)) unused.push(`${tree.name}/${file}: not part of what is loaded`);
      }
    }
  }
  return unused;
}

const MOST_LINKS = 40;

/** In a Hugging Face cache a file is a link to blobs/SHA256, which may itself be a link into a store that repositories share. */
async function statedHash({ path: place }: ByteSource): Promise<string | undefined> {
  let at = place;
  for (let links = 0; at !== undefined && links <= MOST_LINKS; links++) {
    const folder = await realpath(path.dirname(at));
    if (path.basename(folder) === 'blobs' && /^[0-9a-f]{64}$/.test(path.basename(at)))
      return path.basename(at);
    const target: string | undefined = await readlink(at).catch(() => undefined);
    at = target && path.resolve(folder, target);
  }
  return undefined;
}

function faultOf(error: unknown): string {
  if (DetailFlowError.isInstance(error)) return error.message;
  throw error;
}
