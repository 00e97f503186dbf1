import { type ByteSource, checkOptions, DetailFlowError, type Weights } from '@detailflow/core';
import type { ConfigObject } from './config-files';
import type { FileTree } from './file-tree';
import { PickleObject } from './pickle-value';
import { plainValue } from './plain-value';
import { dictEntries, kindOf, stateDict } from './state-dict';
import { readTorchCheckpoint, type TorchCheckpoint } from './torch-checkpoint';
import type { TorchValue } from './torch-globals';
import { TorchTensor } from './torch-tensor';

/** What a training script has saved: weights, and the arguments of the run. */
export interface TrainingCheckpoint {
  /** Names of the state dict, without wrapper prefixes. */
  readonly weights: Weights;
  /**
   * The arguments of the run, where the file holds any.
   * @throws DetailFlowError `format` when they cannot be read
   */
  readonly args?: () => ConfigObject;
}

/**
 * A .pt file as training scripts leave it: a state dict beside optimisers and arguments.
 * @param options.key the state dict; default: 'ema' where it is preferred, 'model', 'module' or 'state_dict', the first that is
 *   there, or else the file itself
 * @throws DetailFlowError `format`, `weights`, `limit`, `io`
 */
export async function openTrainingCheckpoint(
  source: ByteSource,
  options: { readonly key?: string; readonly prefersEma?: boolean; readonly signal?: AbortSignal } = {},
): Promise<TrainingCheckpoint> {
  checkOptions('openTrainingCheckpoint', options, { key: true, prefersEma: true, signal: true });
  const { key, prefersEma = false, signal } = options;
  const checkpoint = await readTorchCheckpoint(source, { signal });
  const weights = stateDict(checkpoint, key ?? chooseKey(checkpoint, prefersEma));
  const args = dictEntries(checkpoint.root)?.get('args');
  if (args === undefined || args === null) return { weights };
  return { weights, args: () => readArgs(checkpoint, args) };
}

/** How many steps the training that left a checkpoint had made (`steps`); undefined where it does not say. */
export function stepsMade({ root }: TorchCheckpoint): number | undefined {
  const steps = dictEntries(root)?.get('steps');
  return typeof steps === 'number' && Number.isSafeInteger(steps) && steps >= 0 ? steps : undefined;
}

/** The newest of checkpoints/NNNNNNN.pt in a folder; undefined where there is none. */
export async function newestCheckpoint(tree: FileTree): Promise<string | undefined> {
  const names = await tree.list('checkpoints');
  const numbered = names.filter((name) => /^\d+\.pt$/.test(name));
  const steps = (name: string) => BigInt(name.slice(0, -3));
  const newest = numbered.reduce<string | undefined>(
    (best, name) => (best === undefined || steps(name) >= steps(best) ? name : best),
    undefined,
  );
  return newest === undefined ? undefined : `checkpoints/${newest}`;
}

/** The state dict that the official scripts take: the first of these keys that is there, else the file itself. */
function chooseKey({ root }: TorchCheckpoint, prefersEma: boolean): string | undefined {
  const entries = dictEntries(root);
  const keys = [...(prefersEma ? ['ema'] : []), 'model', 'module', 'state_dict'];
  const found = keys.find((key) => (entries?.get(key) ?? null) !== null);
  if (found !== undefined) return found;
  const isBare = [...(entries?.values() ?? [])].some((value) => value instanceof TorchTensor);
  return isBare ? undefined : 'model';
}

/** The arguments inside a .pt: what is no plain value among them is kept, and refused by whoever needs it. */
function readArgs(checkpoint: TorchCheckpoint, args: TorchValue): ConfigObject {
  if (args instanceof PickleObject || dictEntries(args)) {
    return plainValue(checkpoint, args, { foreign: 'keep' }) as ConfigObject;
  }
  throw new DetailFlowError(
    'format',
    `are ${kindOf(args)}; put a config.yaml with the arguments of the training run beside config.json`,
    { file: checkpoint.file, entry: 'args' },
  );
}
