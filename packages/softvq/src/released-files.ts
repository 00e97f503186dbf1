import {
  type ConfigObject,
  type FileTree,
  isWeightsPath,
  newestCheckpoint,
  openTrainingCheckpoint,
  openWeightFiles,
  readJsonConfig,
  readYamlConfig,
  withoutPrefixes,
} from '@detailflow/checkpoint';
import { type CallOptions, DetailFlowError, type Weights } from '@detailflow/core';
import { type TowerSettings, towerSettings } from './towers';

/** A tokenizer's files, opened: weights are read when asked for. */
export interface ReleasedFiles {
  /** The file that the weights lie in. */
  readonly file: string;
  readonly weights: Weights;
  readonly args: ConfigObject;
  /** The file that the arguments stand in. */
  readonly argsFile: string;
  readonly towers: TowerSettings;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

const HUB = { config: 'config.json', weights: 'model.safetensors' } as const;
const TRAINING_CONFIG = 'config.yaml';
const SIZES = 'timm_vit.json';

/**
 * Arguments that stand beside the weights: config.json as released, or config.yaml of a training run; undefined without either.
 * @throws DetailFlowError `format`, `limit`, `io`
 */
export async function readArguments(
  tree: FileTree,
): Promise<{ readonly args: ConfigObject; readonly file: string } | undefined> {
  if (await tree.exists(HUB.config)) {
    return { args: await readJsonConfig(tree, HUB.config), file: `${tree.name}/${HUB.config}` };
  }
  if (await tree.exists(TRAINING_CONFIG)) {
    return { args: await readYamlConfig(tree, TRAINING_CONFIG), file: `${tree.name}/${TRAINING_CONFIG}` };
  }
  return undefined;
}

/**
 * Opens a tokenizer as it is released (config.json, model.safetensors) or as training leaves it (config.yaml,
 * checkpoints/NNNNNNN.pt, of which the newest counts, and in it "ema").
 * @throws DetailFlowError `format`, `weights`, `limit`, `io`, `config`; each names file and reason
 */
export async function openReleasedFiles(
  tree: FileTree,
  settings: ConfigObject = {},
  { signal }: CallOptions = {},
): Promise<ReleasedFiles> {
  const beside = await readArguments(tree);
  const hasSizes = await tree.exists(SIZES);
  const sizes = hasSizes ? towerSettings(await readJsonConfig(tree, SIZES), `${tree.name}/${SIZES}`) : {};
  const { encoder, decoder, repa, ...rest } = settings;
  const given = {
    ...(encoder !== undefined && { encoder }),
    ...(decoder !== undefined && { decoder }),
    ...(repa !== undefined && { repa }),
  };
  const towers = { ...sizes, ...towerSettings(given, 'settings') };
  signal?.throwIfAborted();
  const { file, weights, args: within, close } = await openWeights(tree, await weightsIn(tree), { signal });
  try {
    const inside = beside ? undefined : within?.();
    const args = beside?.args ?? inside;
    if (args === undefined && Object.keys(rest).length === 0) {
      throw new DetailFlowError(
        'config',
        'nothing says image size, patch size and models of this tokenizer: there must be a config.json or config.yaml beside it',
        { file },
      );
    }
    const argsFile = beside?.file ?? (inside ? file : 'settings');
    return { file, weights, args: { ...args, ...rest }, argsFile, towers, close };
  } catch (error) {
    await close();
    throw error;
  }
}

interface OpenedWeights extends Pick<ReleasedFiles, 'file' | 'weights' | 'close'> {
  readonly args?: () => ConfigObject;
}

async function openWeights(tree: FileTree, path: string, { signal }: CallOptions): Promise<OpenedWeights> {
  if (isWeightsPath(path)) {
    const { weights, file, close } = await openWeightFiles(tree, path, { signal });
    return { weights: withoutPrefixes(weights.values(), file), file, close };
  }
  const source = await tree.open(path);
  const close = async () => source.close?.();
  try {
    return {
      ...(await openTrainingCheckpoint(source, { prefersEma: true, signal })),
      file: source.name,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function weightsIn(tree: FileTree): Promise<string> {
  for (const path of [HUB.weights, `${HUB.weights}.index.json`]) if (await tree.exists(path)) return path;
  const newest = await newestCheckpoint(tree);
  if (newest !== undefined) return newest;
  const single = (await tree.list('')).filter((name) => /\.(pt|pth|safetensors)$/.test(name));
  if (single.length === 1) return single[0];
  throw new DetailFlowError(
    'io',
    single.length === 0
      ? `there are no weights: neither ${HUB.weights} nor checkpoints/<steps>.pt`
      : `there are ${single.length} files of weights (${single.slice(0, 5).join(', ')}); leave one`,
    { file: tree.name },
  );
}
