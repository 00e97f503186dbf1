import { fileURLToPath } from 'node:url';
import {
  ignoredTokenModelWeights,
  officialTokenModelConfig,
  parseTokenModelConfig,
  type TokenModelConfig,
  tokenModelParameters,
} from '@detailflow/ar-model';
import {
  type BundleCard,
  type FileTree,
  type OfficialCheckpoint,
  readBundle,
  readOfficialFolder,
} from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import {
  ConfigFields,
  checkOptions,
  DetailFlowError,
  describe,
  validateWeights,
  type Weights,
} from '@detailflow/core';
import { isRemote, type OpenHubOptions, openRemote } from '@detailflow/hub/node';
import {
  createResolutionMap,
  ignoredTokenizerWeights,
  officialTokenizerConfig,
  parseTokenizerConfig,
  resolutionSettings,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import { modelFolder } from './model-package';
import { completedAr, releasedModel } from './released-models';

/**
 * A folder: its path, its `file:` URL, any {@link FileTree}, the name of a package that holds a model, an address on the hub
 * (`hf:org/name[@revision][/path]`) or on a web server (`https://`).
 */
export type FolderSource = string | URL | FileTree;

/**
 * Where a model lies: a bundle, a folder that holds the official `tokenizer/` and `ar/`, or the two official
 * folders by themselves. A text may also be the name of a released model.
 */
export type ModelSource = FolderSource | { readonly tokenizer: FolderSource; readonly ar?: FolderSource };

/** A configuration and the weights that go with it, checked against each other. */
export interface ModelPart<Config> {
  readonly config: Config;
  readonly weights: Weights;
  /** The file the weights lie in. */
  readonly file: string;
}

/** An opened model: nothing of the weights is read yet. */
export interface OpenedModel {
  readonly kind: 'bundle' | 'official';
  /** config.json of a bundle. */
  readonly card?: BundleCard;
  readonly tokenizer: ModelPart<TokenizerConfig>;
  readonly ar?: ModelPart<TokenModelConfig>;
  /** Side in pixels of the pictures that it draws: less than the tokenizer's where the AR model has fewer tokens. */
  readonly pictureSize: number;
  close(): Promise<void>;
}

/**
 * Opens a model and checks that its weights fit its configuration.
 * @throws DetailFlowError naming the file and what is wrong with it
 */
export async function openModel(
  source: ModelSource,
  options: { signal?: AbortSignal; hub?: OpenHubOptions } = {},
): Promise<OpenedModel> {
  checkOptions('openModel', options, { signal: true, hub: true });
  const released = typeof source === 'string' ? releasedModel(source) : undefined;
  if (released) return openModel({ tokenizer: released.tokenizer, ar: released.ar }, options);
  if (typeof source === 'object' && source !== null && 'tokenizer' in source) {
    const ar = source.ar === undefined ? undefined : await toTree(source.ar, options);
    return openOfficial(await toTree(source.tokenizer, options), ar, options);
  }
  const tree = await toTree(source, options);
  if (await tree.exists('tokenizer/config.json')) {
    const ar = (await tree.exists('ar/config.json')) ? subtree(tree, 'ar') : undefined;
    return openOfficial(subtree(tree, 'tokenizer'), ar, options);
  }
  if (!(await tree.exists('config.json'))) {
    throw new DetailFlowError(
      'io',
      'there is neither a config.json of a bundle nor a folder tokenizer/ with one; give the folder of a model',
      { file: tree.name },
    );
  }
  return openBundle(tree);
}

async function openBundle(tree: FileTree): Promise<OpenedModel> {
  const bundle = await readBundle(tree);
  const { card, close } = bundle;
  return closingOnFailure(close, () => {
    const file = `${tree.name}/config.json`;
    const tokenizer = {
      config: parseTokenizerConfig(card.tokenizer.config, file),
      weights: bundle.tokenizer,
      file: `${tree.name}/${card.tokenizer.weights}`,
    };
    const ar = card.ar && {
      config: parseTokenModelConfig(card.ar.config, file),
      weights: bundle.ar as Weights,
      file: `${tree.name}/${card.ar.weights}`,
    };
    return checked({ kind: 'bundle', card, tokenizer, ar, close: () => bundle.close() });
  });
}

async function openOfficial(
  tokenizerTree: FileTree,
  arTree: FileTree | undefined,
  options: { signal?: AbortSignal },
): Promise<OpenedModel> {
  const first = await readOfficialFolder(tokenizerTree, 'tokenizer', { signal: options.signal });
  return closingOnFailure(first.close, async () => {
    const completed = arTree && (await completedAr(arTree, first));
    const second = completed && (await readOfficialFolder(completed, 'ar', { signal: options.signal }));
    const close = async () => {
      await first.close();
      await second?.close();
    };
    return closingOnFailure(
      async () => second?.close(),
      () => {
        const { config, args, vision, weights, file } = first;
        const where = `${tokenizerTree.name}/config.json`;
        const tokenizer = {
          config: officialTokenizerConfig({ config, args, vision, weights, file: where }),
          weights,
          file,
        };
        const ar = second && {
          config: officialTokenModelConfig(second.config, `${arTree?.name}/config.json`),
          weights: second.weights,
          file: second.file,
        };
        const isGuessed = completed !== arTree;
        const model = withReason(isGuessed ? arTree?.name : undefined, () =>
          checked({ kind: 'official', tokenizer, ar, close }),
        );
        if (second && model.pictureSize < tokenizer.config.imageSize)
          checkImageSize(second, model.pictureSize, `${arTree?.name}/config.yaml`);
        return model;
      },
    );
  });
}

/** What is wrong with a model whose AR folder has no config.json is first of all that. */
function withReason<T>(folder: string | undefined, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (folder === undefined || !DetailFlowError.isInstance(cause)) throw cause;
    throw new DetailFlowError(
      cause.code,
      `there is no config.json, and as a GPT-L, which released models are, it does not fit (${cause.message})`,
      { file: folder, cause },
    );
  }
}

function checked(model: Omit<OpenedModel, 'pictureSize'>): OpenedModel {
  const { tokenizer, ar } = model;
  validateWeights(tokenizer.weights, tokenizerParameters(tokenizer.config), {
    file: tokenizer.file,
    ignore: ignoredTokenizerWeights,
  });
  if (!ar) return { ...model, pictureSize: tokenizer.config.imageSize };
  validateWeights(ar.weights, tokenModelParameters(ar.config), {
    file: ar.file,
    ignore: ignoredTokenModelWeights,
  });
  const { tokens, groupSize, causalTokens, codebookSize } = tokenizer.config;
  const fits =
    ar.config.groupSize === groupSize &&
    ar.config.causalTokens === causalTokens &&
    ar.config.vocabularySize === codebookSize;
  // An AR model for smaller images has as many tokens as the tokenizer gives images of that size.
  const map = createResolutionMap(resolutionSettings(tokenizer.config));
  const counts = [...new Set([...map.bestTokens, tokens])];
  if (fits && counts.includes(ar.config.tokens))
    return { ...model, pictureSize: map.tokenToDecOutRes(ar.config.tokens) };
  const describe = (config: readonly number[]) =>
    `${config[0]} tokens in groups of ${config[1]} after ${config[2]}, ${config[3]} codes`;
  const possible = fits ? `; with this tokenizer an AR model has ${counts.join(', ')} tokens` : '';
  throw new DetailFlowError(
    'config',
    `tokenizer and AR model do not belong together: ${describe([tokens, groupSize, causalTokens, codebookSize])}; ` +
      describe([ar.config.tokens, ar.config.groupSize, ar.config.causalTokens, ar.config.vocabularySize]) +
      possible,
    { file: ar.file },
  );
}

/** An AR model of fewer tokens says for which images it was trained: others of as many tokens are of another tokenizer. */
function checkImageSize({ args }: OfficialCheckpoint, pictureSize: number, file: string): void {
  const trained = new ConfigFields(args ?? {}, { file }).count('image_size', pictureSize);
  if (trained === pictureSize) return;
  throw new DetailFlowError(
    'config',
    `tokenizer and AR model do not belong together: the AR model was trained for ${trained} pixels, and its tokens are ` +
      `those of ${pictureSize} pixels with this tokenizer`,
    { file, entry: 'image_size' },
  );
}

async function closingOnFailure<T>(close: () => Promise<void>, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await close();
    throw error;
  }
}

/** Opens a folder by its path or address. */
export function toTree(
  source: FolderSource,
  options: { signal?: AbortSignal; hub?: OpenHubOptions } = {},
): Promise<FileTree> | FileTree {
  const remote = source instanceof URL ? source.href : source;
  if (typeof remote === 'string' && isRemote(remote))
    return openRemote(remote, { signal: options.signal, ...options.hub });
  if (typeof source === 'string') {
    const folder = modelFolder(source);
    if (folder !== undefined) return openFolder(folder);
    throw new DetailFlowError(
      'io',
      `is no folder, and no package with a model is installed by that name: npm install ${source}`,
      { file: source },
    );
  }
  if (!(source instanceof URL)) {
    if (typeof source === 'object' && source !== null && typeof source.open === 'function') return source;
    throw new DetailFlowError(
      'invalid-argument',
      `the model is ${describe(source)}; give a folder, a package, or { tokenizer, ar }`,
    );
  }
  if (source.protocol === 'file:') return openFolder(fileURLToPath(source));
  throw new DetailFlowError('unsupported', 'only file:, https: and hf: addresses can be opened', {
    file: source.href,
  });
}

/** The part of a tree below a folder. */
function subtree(tree: FileTree, folder: string): FileTree {
  const below = (path: string) => (path === '' ? folder : `${folder}/${path}`);
  return {
    name: `${tree.name}/${folder}`,
    open: (path) => tree.open(below(path)),
    exists: (path) => tree.exists(below(path)),
    list: (path) => tree.list(below(path)),
  };
}
