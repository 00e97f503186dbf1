import { DetailFlowError, type Weights } from '@detailflow/core';
import type { ConfigObject } from './config-files';
import type { FileTree } from './file-tree';
import { PickleObject } from './pickle-value';
import { plainValue } from './plain-value';
import { dictEntries, stateDict } from './state-dict';
import { readTorchCheckpoint, type TorchCheckpoint } from './torch-checkpoint';
import type { TorchValue } from './torch-globals';
import { TorchTensor } from './torch-tensor';
import { isWeightsPath, openWeightFiles } from './weight-files';

/** A file of weights, whatever wraps its state dicts. Call `close` when done. */
export interface StateDicts {
  readonly file: string;
  /** Names of what lies at the top of the file. */
  readonly keys: readonly string[];
  /** The state dict below some keys, one inside the other; none: the file itself. Undefined where there is no such one. */
  at(keys: readonly string[]): Weights | undefined;
  /** The checkpoint of torch that the file is; undefined where it is another kind of file. */
  readonly checkpoint?: TorchCheckpoint;
  /** Plain settings below some keys, such as the arguments of the training; undefined where there are none. */
  settings(keys: readonly string[]): ConfigObject | undefined;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/**
 * Opens a file of weights: .safetensors, an index of several, or what torch.save wrote. No weight is read.
 * @throws DetailFlowError `format`, `weights`, `limit`, `io`; each names the file
 */
export async function openStateDicts(
  tree: FileTree,
  path: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<StateDicts> {
  if (isWeightsPath(path)) {
    const { weights, file, close } = await openWeightFiles(tree, path, options);
    const at = (keys: readonly string[]) => (keys.length === 0 ? weights : undefined);
    return { file, keys: [...weights.keys()], at, settings: () => undefined, close };
  }
  const source = await tree.open(path);
  try {
    const checkpoint = await readTorchCheckpoint(source, options);
    const entries = dictEntries(checkpoint.root);
    if (entries === undefined) {
      throw new DetailFlowError('format', 'it holds no dict of weights', { file: source.name });
    }
    return {
      ...{ file: source.name, checkpoint },
      keys: [...entries.keys()].filter((key) => typeof key === 'string'),
      at: (keys) => weightsAt(checkpoint, keys),
      settings: (keys) => settingsAt(checkpoint, keys),
      close: async () => source.close?.(),
    };
  } catch (error) {
    await source.close?.();
    throw error;
  }
}

function valueAt(root: TorchValue, keys: readonly string[]): TorchValue | undefined {
  return keys.reduce<TorchValue | undefined>((value, key) => dictEntries(value)?.get(key), root);
}

function weightsAt({ file, root }: TorchCheckpoint, keys: readonly string[]): Weights | undefined {
  const found = valueAt(root, keys);
  const isFilled = [...(dictEntries(found)?.values() ?? [])].some((value) => value instanceof TorchTensor);
  return isFilled ? stateDict({ file, root: found as TorchValue }) : undefined;
}

function settingsAt(checkpoint: TorchCheckpoint, keys: readonly string[]): ConfigObject | undefined {
  const found = valueAt(checkpoint.root, keys);
  if (!(found instanceof PickleObject) && !dictEntries(found)) return undefined;
  return plainValue(checkpoint, found as TorchValue, { foreign: 'keep' }) as ConfigObject;
}
