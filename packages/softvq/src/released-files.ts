import {
  type ConfigObject,
  configObject,
  type FileTree,
  plainValue,
  readJsonConfig,
  readTorchCheckpoint,
  readYamlConfig,
  stateDict,
  type TorchCheckpoint,
  withoutPrefixes,
} from '@detailflow/checkpoint';
import {
  type ByteSource,
  type CallOptions,
  DetailFlowError,
  readSafetensors,
  type Weights,
} from '@detailflow/core';
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
  close(): Promise<void>;
}

const HUB = { config: 'config.json', weights: 'model.safetensors' } as const;
const TRAINING = { config: 'config.yaml', folder: 'checkpoints' } as const;
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
  if (await tree.exists(TRAINING.config)) {
    return { args: await readYamlConfig(tree, TRAINING.config), file: `${tree.name}/${TRAINING.config}` };
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
  const source = await tree.open(await weightsIn(tree));
  const close = async () => source.close?.();
  try {
    const { weights, args: inside } = await openWeights(source, { signal });
    const args = beside?.args ?? inside;
    if (args === undefined && Object.keys(rest).length === 0) {
      throw new DetailFlowError(
        'config',
        'nothing says image size, patch size and models of this tokenizer: there must be a config.json or config.yaml beside it',
        { file: source.name },
      );
    }
    const argsFile = beside?.file ?? (inside ? source.name : 'settings');
    return { file: source.name, weights, args: { ...args, ...rest }, argsFile, towers, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openWeights(
  source: ByteSource,
  { signal }: CallOptions,
): Promise<{ readonly weights: Weights; readonly args?: ConfigObject }> {
  if (source.name.endsWith('.safetensors')) {
    return { weights: withoutPrefixes((await readSafetensors(source)).values(), source.name) };
  }
  const checkpoint = await readTorchCheckpoint(source, { signal });
  const weights = stateDict(checkpoint, keyOf(checkpoint));
  const args = checkpoint.root instanceof Map ? checkpoint.root.get('args') : undefined;
  if (args === undefined || args === null) return { weights };
  return { weights, args: configObject(plainValue(checkpoint, args), source.name, 'args') };
}

function keyOf({ root }: TorchCheckpoint): string | undefined {
  if (!(root instanceof Map)) return undefined;
  if (root.get('ema') instanceof Map) return 'ema';
  return root.has('encoder.latent_tokens') ? undefined : 'model';
}

async function weightsIn(tree: FileTree): Promise<string> {
  if (await tree.exists(HUB.weights)) return HUB.weights;
  const names = await tree.list(TRAINING.folder);
  const numbered = names.filter((name) => /^\d{1,15}\.pt$/.test(name));
  const newest = numbered.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10)).at(-1);
  if (newest !== undefined) return `${TRAINING.folder}/${newest}`;
  const single = (await tree.list('')).filter((name) => /\.(pt|pth|safetensors)$/.test(name));
  if (single.length === 1) return single[0];
  throw new DetailFlowError(
    'io',
    single.length === 0
      ? `there are no weights: neither ${HUB.weights} nor ${TRAINING.folder}/<steps>.pt`
      : `there are ${single.length} files of weights (${single.slice(0, 5).join(', ')}); leave one`,
    { file: tree.name },
  );
}
