import { fileURLToPath } from 'node:url';
import {
  ignoredTokenModelWeights,
  officialTokenModelConfig,
  parseTokenModelConfig,
  type TokenModelConfig,
  tokenModelParameters,
} from '@detailflow/ar-model';
import { type BundleCard, type FileTree, readBundle, readOfficialFolder } from '@detailflow/checkpoint';
import { openFolder } from '@detailflow/checkpoint/node';
import { DetailFlowError, validateWeights, type Weights } from '@detailflow/core';
import {
  ignoredTokenizerWeights,
  officialTokenizerConfig,
  parseTokenizerConfig,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';

/** A folder: its path, its `file:` URL, or any {@link FileTree}. */
export type FolderSource = string | URL | FileTree;

/**
 * Where a model lies: a bundle, a folder that holds the official `tokenizer/` and `ar/`, or the two official
 * folders by themselves.
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
  close(): Promise<void>;
}

/**
 * Opens a model and checks that its weights fit its configuration.
 * @throws DetailFlowError naming the file and what is wrong with it
 */
export async function openModel(
  source: ModelSource,
  options: { signal?: AbortSignal } = {},
): Promise<OpenedModel> {
  if (typeof source === 'object' && 'tokenizer' in source) {
    const ar = source.ar === undefined ? undefined : await toTree(source.ar);
    return openOfficial(await toTree(source.tokenizer), ar, options);
  }
  const tree = await toTree(source);
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
  const first = await readOfficialFolder(tokenizerTree, 'tokenizer', options);
  return closingOnFailure(first.close, async () => {
    const second = arTree && (await readOfficialFolder(arTree, 'ar', options));
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
        return checked({ kind: 'official', tokenizer, ar, close });
      },
    );
  });
}

function checked(model: OpenedModel): OpenedModel {
  const { tokenizer, ar } = model;
  validateWeights(tokenizer.weights, tokenizerParameters(tokenizer.config), {
    file: tokenizer.file,
    ignore: ignoredTokenizerWeights,
  });
  if (!ar) return model;
  validateWeights(ar.weights, tokenModelParameters(ar.config), {
    file: ar.file,
    ignore: ignoredTokenModelWeights,
  });
  const { tokens, groupSize, causalTokens, codebookSize } = tokenizer.config;
  const fits =
    ar.config.tokens === tokens &&
    ar.config.groupSize === groupSize &&
    ar.config.causalTokens === causalTokens &&
    ar.config.vocabularySize === codebookSize;
  if (fits) return model;
  const describe = (config: readonly number[]) =>
    `${config[0]} tokens in groups of ${config[1]} after ${config[2]}, ${config[3]} codes`;
  throw new DetailFlowError(
    'config',
    `tokenizer and AR model do not belong together: ${describe([tokens, groupSize, causalTokens, codebookSize])}; ` +
      describe([ar.config.tokens, ar.config.groupSize, ar.config.causalTokens, ar.config.vocabularySize]),
    { file: ar.file },
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
export function toTree(source: FolderSource): Promise<FileTree> | FileTree {
  if (typeof source === 'string') return openFolder(source);
  if (!(source instanceof URL)) return source;
  if (source.protocol === 'file:') return openFolder(fileURLToPath(source));
  throw new DetailFlowError('unsupported', 'only file: addresses can be opened here', { file: source.href });
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
