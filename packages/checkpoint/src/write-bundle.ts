import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { checkOptions, DetailFlowError, type Weight, type Weights } from '@detailflow/core';
import { encodeSafetensors } from '@detailflow/core/safetensors-writer';
import { syncFolder, writeSynced } from './atomic-file';
import { type BundleCard, bundleFiles, parseBundleCard } from './bundle-card';
import { type ConfigObject, maxConfigBytes, readJsonConfig } from './config-files';
import { convertedChunks, type FloatStorage, storedDType } from './convert-floats';
import { ioError, openFolder } from './node-files';
import { storedTensors } from './rounded-tensors';

/** What goes into one half of a bundle. */
export interface BundlePart {
  /** Plain data: it goes into config.json. */
  readonly config: object;
  readonly weights: Weights;
}

/** What goes into a bundle: the card without what follows from the rest, and the two halves. */
export interface BundleContents
  extends Pick<
    BundleCard,
    | 'family'
    | 'name'
    | 'description'
    | 'license'
    | 'attribution'
    | 'classNames'
    | 'subject'
    | 'recipe'
    | 'data'
  > {
  readonly tokenizer: BundlePart;
  readonly ar?: BundlePart;
}

/** How a bundle is written. */
export interface WriteBundleOptions {
  /**
   * Storage of float weights: 'f32' (the default; maps straight into memory) or 'f16' (half the size, rounded). Matrices in few
   * bits stay as they are.
   */
  readonly dtype?: FloatStorage;
  /** Replace a bundle that is already there. Anything else at that path is never replaced. */
  readonly overwrite?: boolean;
  /** Stops writing; the reason is thrown, and nothing is left behind. */
  readonly signal?: AbortSignal;
  /** Told how far it is. */
  readonly onProgress?: (progress: { done: number; total: number; unit: 'bytes' }) => void;
}

/**
 * Writes a bundle folder, all of it or nothing: the files are written beside the target, forced to disk, and moved
 * into place at the end. Whatever fails before that, the target stays as it was. Tensors are copied one at a time.
 * Should the process be killed, a folder `.NAME.new-*` may be left beside the target; with `overwrite`, if killed
 * between the two moves, the earlier bundle is kept whole as `.NAME.old-*`.
 * @returns the card written
 * @throws DetailFlowError `io` (target exists, disk full, ...), `weights`, `invalid-argument`, `format` (card);
 * `signal.reason` when aborted
 */
export async function writeBundle(
  path: string,
  contents: BundleContents,
  options: WriteBundleOptions = {},
): Promise<BundleCard> {
  checkOptions('writeBundle', options, { dtype: true, overwrite: true, signal: true, onProgress: true });
  const target = resolve(path);
  const { card, text } = makeCard(contents, join(path, bundleFiles.card));
  await refuseTarget(target, path, options.overwrite === true);
  options.signal?.throwIfAborted();

  const id = randomBytes(6).toString('hex');
  const beside = (what: string) => join(dirname(target), `.${basename(target)}.${what}-${id}`);
  const fresh = beside('new');
  await mkdir(fresh).catch((cause) => {
    throw ioError('a folder cannot be made beside the bundle', path, cause);
  });
  try {
    await writeFiles(fresh, contents, text, options);
    await syncFolder(fresh);
    options.signal?.throwIfAborted();
    await moveIntoPlace(fresh, target, beside('old'), path, options.overwrite === true);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    if (DetailFlowError.isInstance(error) || error === options.signal?.reason) throw error;
    throw ioError('the bundle could not be written', path, error);
  }
  await syncFolder(dirname(target));
  return card;
}

function makeCard(contents: BundleContents, file: string): { card: BundleCard; text: string } {
  const { family, name, description, license, attribution, classNames, subject, recipe } = contents;
  const { data, tokenizer, ar } = contents;
  const draft: BundleCard = {
    format: 'detailflow',
    version: 1,
    family,
    name,
    description,
    license,
    attribution,
    classNames,
    subject,
    recipe,
    ...(data && { data }),
    tokenizer: { config: tokenizer.config as ConfigObject, weights: bundleFiles.tokenizer },
    ar: ar && { config: ar.config as ConfigObject, weights: bundleFiles.ar },
  };
  let text: string;
  try {
    text = `${JSON.stringify(draft, undefined, 2)}\n`;
  } catch (cause) {
    throw new DetailFlowError('invalid-argument', 'the card cannot be written as JSON', { file, cause });
  }
  if (Buffer.byteLength(text) > maxConfigBytes) {
    throw new DetailFlowError('limit', `the card takes more than ${maxConfigBytes} bytes; shorten it`, {
      file,
    });
  }
  return { card: parseBundleCard(JSON.parse(text), file), text };
}

async function writeFiles(
  folder: string,
  contents: BundleContents,
  card: string,
  { dtype = 'f32', signal, onProgress }: WriteBundleOptions,
): Promise<void> {
  const files = (['tokenizer', 'ar'] as const).flatMap((part) => {
    const weights = contents[part]?.weights;
    return weights === undefined ? [] : [{ name: bundleFiles[part], plan: planWeights(weights, dtype) }];
  });
  const total = files.reduce((sum, { plan }) => sum + plan.size, 0);
  let done = 0;
  for (const { name, plan } of files) {
    await writeSynced(join(folder, name), async (write) => {
      const put = async (bytes: Uint8Array) => {
        signal?.throwIfAborted();
        await write(bytes);
        done += bytes.length;
        onProgress?.({ done, total, unit: 'bytes' });
      };
      await put(plan.header);
      for (const { entry } of plan.tensors) {
        signal?.throwIfAborted();
        for await (const chunk of convertedChunks(entry.weight, dtype)) await put(chunk);
      }
    });
  }
  await writeSynced(join(folder, bundleFiles.card), (write) => write(new TextEncoder().encode(card)));
}

function planWeights(weights: Weights, floats: FloatStorage) {
  const entry = (name: string, weight: Weight) => ({
    name,
    dtype: storedDType(weight.dtype, floats),
    shape: weight.shape,
    weight,
  });
  const { tensors, metadata } = storedTensors(weights);
  return encodeSafetensors(
    [...tensors].map(([name, weight]) => entry(name, weight)),
    metadata,
  );
}

/** How often other writers may get in between before this one gives up. */
const attempts = 20;

async function moveIntoPlace(
  fresh: string,
  target: string,
  old: string,
  path: string,
  overwrite: boolean,
): Promise<void> {
  let kept = false; // whether an earlier bundle lies at `old`
  try {
    for (let attempt = 1; ; attempt++) {
      if (await refuseTarget(target, path, overwrite)) {
        // What was moved aside before has been replaced by another writer since.
        if (kept) await rm(old, { recursive: true, force: true });
        kept = await moveAside(target, old);
      }
      try {
        await rename(fresh, target);
        break;
      } catch (cause) {
        if (!takenCodes.has(codeOf(cause))) throw cause;
        if (overwrite && attempt < attempts) continue;
        const reason = 'something else was put there while the bundle was being written; choose another path';
        throw new DetailFlowError('io', reason, { file: path, cause });
      }
    }
  } catch (cause) {
    const lost =
      kept &&
      (await rename(old, target).then(
        () => false,
        () => true,
      ));
    if (!lost) throw cause;
    throw ioError(`the bundle could not be moved into place; the earlier one is kept as ${old}`, path, cause);
  }
  if (kept) await rm(old, { recursive: true, force: true });
}

const takenCodes = new Set<string | undefined>(['EEXIST', 'ENOTEMPTY', 'ENOTDIR', 'EPERM']);

const codeOf = (cause: unknown) => (cause as NodeJS.ErrnoException | undefined)?.code;

/** False where another writer has just moved it. */
async function moveAside(target: string, old: string): Promise<boolean> {
  try {
    await rename(target, old);
    return true;
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return false;
    throw cause;
  }
}

/** Whether an earlier bundle lies at the target; throws where something lies there that must not be replaced. */
async function refuseTarget(target: string, path: string, overwrite: boolean): Promise<boolean> {
  for (;;) {
    const stats = await look(target, path);
    if (stats === undefined) return false;
    if (!overwrite) {
      const reason = 'it exists already; choose another path, or set overwrite to replace a bundle';
      throw new DetailFlowError('io', reason, { file: path });
    }
    try {
      await refuseForeign(target, path, stats);
      return true;
    } catch (error) {
      // Another writer may have replaced it meanwhile.
      if ((await look(target, path))?.ino === stats.ino) throw error;
    }
  }
}

async function look(target: string, path: string): Promise<Stats | undefined> {
  return lstat(target).catch((cause) => {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw ioError('cannot be looked at', path, cause);
  });
}

async function refuseForeign(target: string, path: string, stats: Stats): Promise<void> {
  const known: string[] = Object.values(bundleFiles);
  const refuse = (reason: string) =>
    new DetailFlowError(
      'io',
      `only a bundle is replaced, and ${reason}; remove it yourself or choose another path`,
      { file: path },
    );
  if (!stats.isDirectory()) throw refuse('this is no folder');
  const names = await readdir(target).catch((cause) => {
    throw ioError('cannot be listed', path, cause);
  });
  const foreign = names.find((name) => !known.includes(name));
  if (foreign !== undefined) throw refuse(`this folder holds ${JSON.stringify(foreign)}`);
  const tree = await openFolder(target);
  const card = (await tree.exists(bundleFiles.card))
    ? await readJsonConfig(tree, bundleFiles.card)
    : undefined;
  if (card?.format !== 'detailflow') throw refuse('this folder has no card of one');
}
