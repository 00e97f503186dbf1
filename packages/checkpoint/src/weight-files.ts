import {
  type ByteSource,
  DetailFlowError,
  fileLimits,
  openSafetensors,
  type Weight,
  type Weights,
} from '@detailflow/core';
import { type FileTree, readText } from './file-tree';
import { duplicateKey } from './json-keys';
import { unsafePath } from './paths';
import { stateDict } from './state-dict';
import { readTorchCheckpoint } from './torch-checkpoint';

/** Weights of one file, or of the several that an index lists. Call `close` when done. */
export interface WeightFiles {
  readonly weights: Weights;
  /** What safetensors files say besides, all together. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The file that was asked for, or the index in its place. */
  readonly file: string;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

const INDEX = '.index.json';

/** Whether a path names safetensors, or the index of a checkpoint in several files. */
export const isWeightsPath = (path: string): boolean => path.endsWith('.safetensors') || path.endsWith(INDEX);

/**
 * Opens a .safetensors file, or a checkpoint in several files as Transformers and Diffusers write it: `path` may be the
 * index (`model.safetensors.index.json`, `pytorch_model.bin.index.json`) or the name that the one file would have. The
 * index decides which tensor is read from which file; files must lie in its folder or below.
 * @throws DetailFlowError `format` for an index that is none, says a thing twice or names a file outside its folder;
 *   `weights` when a file lacks a tensor that the index puts there; `limit`; `io`
 */
export async function openWeightFiles(
  tree: FileTree,
  path: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<WeightFiles> {
  if (path.endsWith(INDEX)) return openShards(tree, path, options);
  let source: ByteSource;
  try {
    source = await tree.open(path);
  } catch (error) {
    const isMissing = DetailFlowError.isInstance(error) && ['io', 'not-found'].includes(error.code);
    if (isMissing && (await tree.exists(path + INDEX))) return openShards(tree, path + INDEX, options);
    throw error;
  }
  return closingOnFailure([source], async (close) => {
    const { weights, metadata } = await openSafetensors(source);
    return { weights, metadata, file: source.name, close };
  });
}

async function openShards(
  tree: FileTree,
  path: string,
  { signal }: { readonly signal?: AbortSignal },
): Promise<WeightFiles> {
  const file = `${tree.name}/${path}`;
  const places = parseIndex(await readText(tree, path, fileLimits.shards.indexBytes), file);
  const folder = path.slice(0, path.lastIndexOf('/') + 1);
  const sources: ByteSource[] = [];
  return closingOnFailure(sources, async (close) => {
    const shards = new Map<string, Weights>();
    const metadata = new Map<string, string>();
    for (const shard of new Set(places.values())) {
      signal?.throwIfAborted();
      const source = await tree.open(folder + shard);
      sources.push(source);
      if (shard.endsWith('.safetensors')) {
        const opened = await openSafetensors(source);
        for (const [key, value] of opened.metadata) metadata.set(key, value);
        shards.set(shard, opened.weights);
      } else {
        shards.set(shard, stateDict(await readTorchCheckpoint(source, { signal })));
      }
    }
    const weights = new Map<string, Weight>();
    for (const [name, shard] of places) {
      const weight = shards.get(shard)?.get(name);
      if (!weight) {
        throw new DetailFlowError(
          'weights',
          `the index says that "${name}" lies in ${shard}, which lacks it`,
          {
            file,
            entry: name,
          },
        );
      }
      weights.set(name, weight);
    }
    return { weights, metadata, file, close };
  });
}

/** Which file each tensor lies in. */
function parseIndex(text: string, file: string): ReadonlyMap<string, string> {
  const fail = (reason: string, entry?: string, cause?: unknown) =>
    new DetailFlowError('format', `not the index of a checkpoint in several files: ${reason}`, {
      file,
      entry,
      cause,
    });
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch (cause) {
    throw fail('it is not JSON', undefined, cause);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) throw fail('it has this key twice', twice.slice(0, 200));
  const map = isRecord(index) ? index.weight_map : undefined;
  if (!isRecord(map)) throw fail('it has no "weight_map" of tensors and their files');
  const places = new Map<string, string>();
  const files = new Set<string>();
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string') throw fail('its file is no text', name);
    const reason = unsafePath(shard);
    if (reason !== undefined) {
      throw fail(
        `the file ${JSON.stringify(shard.slice(0, 200))} must lie in the folder of the index, but ${reason}`,
        name,
      );
    }
    if (shard.endsWith(INDEX)) throw fail('its file is another index', name);
    files.add(shard);
    places.set(name, shard);
  }
  if (places.size === 0) throw fail('it lists no tensors');
  if (files.size > fileLimits.shards.files) {
    throw new DetailFlowError(
      'limit',
      `lists ${files.size} files; at most ${fileLimits.shards.files} are opened`,
      {
        file,
      },
    );
  }
  return places;
}

async function closingOnFailure<T>(
  sources: readonly ByteSource[],
  work: (close: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const close = async () => {
    await Promise.all(sources.map((source) => source.close?.()));
  };
  try {
    return await work(close);
  } catch (error) {
    await close();
    throw error;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
