import { checkOptions, DetailFlowError, type Weights } from '@detailflow/core';
import { type ConfigObject, readJsonConfig, readYamlConfig } from './config-files';
import type { FileTree } from './file-tree';
import { newestCheckpoint, openTrainingCheckpoint } from './training-checkpoint';
import { isWeightsPath, openWeightFiles } from './weight-files';
import { withoutPart, withoutPrefixes } from './weight-names';

/** Which half of a DetailFlow model a folder holds. */
export type OfficialKind = 'tokenizer' | 'ar';

/** What is read of an official folder. */
export interface ReadOfficialOptions {
  /**
   * The weights, as a path inside the folder: `checkpoints/0050000.pt` or `ema.safetensors`. Without it the newest
   * of checkpoints/*.pt is taken, or else model.safetensors (AR: ema.safetensors, then model.safetensors), which may lie
   * in several files with a `model.safetensors.index.json`.
   */
  readonly weights?: string;
  /**
   * Which state dict of a .pt file. Default: 'model' for tokenizers; for AR models 'ema', or 'model' where there is none.
   * A file without either may call it 'module' or 'state_dict', or hold nothing else.
   */
  readonly key?: 'model' | 'ema';
  readonly signal?: AbortSignal;
}

/** One half of an official checkpoint. Weights are read when asked for; call `close` when done. */
export interface OfficialCheckpoint {
  readonly kind: OfficialKind;
  /** The file the weights lie in. */
  readonly file: string;
  /** config.json: the model's arguments. */
  readonly config: ConfigObject;
  /**
   * config.yaml: the arguments of the training run. Without that file, those inside the .pt; else undefined. Throws
   * DetailFlowError `format` when those inside the .pt are asked for and cannot be read.
   */
  readonly args?: ConfigObject;
  /** siglip2_vision.json: sizes of the two towers, where the folder has it. */
  readonly vision?: ConfigObject;
  /** Names of the official state dict, without wrapper prefixes and without the frozen `repa_model.*`. */
  readonly weights: Weights;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/**
 * Opens a folder as the official training scripts leave it: config.json, config.yaml, checkpoints/NNNNNNN.pt.
 * The frozen features `repa_model.*` are left out and never read.
 * @throws DetailFlowError `format`, `weights`, `limit`, `io`; each names file and reason
 */
export async function readOfficialFolder(
  tree: FileTree,
  kind: OfficialKind,
  options: ReadOfficialOptions = {},
): Promise<OfficialCheckpoint> {
  checkOptions('readOfficialFolder', options, { weights: true, key: true, signal: true });
  if (!(await tree.exists('config.json'))) {
    throw new DetailFlowError(
      'io',
      'there is no config.json; give the folder that holds config.json and checkpoints/',
      { file: tree.name },
    );
  }
  const config = await readJsonConfig(tree, 'config.json');
  const yaml = (await tree.exists('config.yaml')) ? await readYamlConfig(tree, 'config.yaml') : undefined;
  const hasVision = await tree.exists('siglip2_vision.json');
  const vision = hasVision ? await readJsonConfig(tree, 'siglip2_vision.json') : undefined;
  options.signal?.throwIfAborted();

  const path = options.weights ?? (await findWeights(tree, kind));
  if (isWeightsPath(path)) {
    const { weights: found, file, close } = await openWeightFiles(tree, path, options);
    const weights = withoutPart(withoutPrefixes(found.values(), file), skipped);
    return { kind, file, config, args: yaml, vision, weights, close };
  }
  const source = await tree.open(path);
  const close = async () => source.close?.();
  try {
    const { key, signal } = options;
    const opened = await openTrainingCheckpoint(source, { key, prefersEma: kind === 'ar', signal });
    const { args } = opened;
    const weights = withoutPart(opened.weights, skipped);
    if (weights.size === 0)
      throw new DetailFlowError('weights', 'it holds no weights', { file: source.name });
    return {
      kind,
      file: source.name,
      config,
      get args() {
        return yaml ?? args?.();
      },
      vision,
      weights,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Frozen features. */
const skipped = 'repa_model.';

async function findWeights(tree: FileTree, kind: OfficialKind): Promise<string> {
  const newest = await newestCheckpoint(tree);
  if (newest !== undefined) return newest;
  const single = kind === 'ar' ? ['ema.safetensors', 'model.safetensors'] : ['model.safetensors'];
  for (const name of single) {
    for (const path of [name, `${name}.index.json`]) if (await tree.exists(path)) return path;
  }
  throw new DetailFlowError(
    'io',
    `there are no weights: neither checkpoints/<steps>.pt nor ${single.join(' nor ')}; ` +
      'name another file with the option weights',
    { file: tree.name },
  );
}
