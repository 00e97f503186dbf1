import {
  chosenWeights,
  createTokenModel,
  type GroupTokenModel,
  gradualGuidance,
  groupSchedule,
  ignoredTokenModelWeights,
  officialTokenModelConfig,
  parseTokenModelConfig,
  stepGraph,
  type TokenModelConfig,
  tokenModelParameters,
} from '@detailflow/ar-model';
import {
  type BundleCard,
  bundleFamily,
  type ConfigObject,
  decoderDType,
  type Family,
  type FamilyModel,
  type FileTree,
  type ModelFiles,
  type OfficialCheckpoint,
  readBundle,
  readOfficialFolder,
  type TokenizerHalf,
  type TokenModelHalf,
} from '@detailflow/checkpoint';
import {
  type Backend,
  type CallOptions,
  ConfigFields,
  DetailFlowError,
  describe,
  type ImageTokenizer,
  type ParameterSpec,
  validateWeights,
  type WeightDType,
  type Weights,
} from '@detailflow/core';
import {
  createMixtureTokenizer,
  createResolutionMap,
  createTokenizer,
  decoderGraph,
  encoderGraph,
  ignoredTokenizerWeights,
  officialTokenizerConfig,
  parseTokenizerConfig,
  resolutionSettings,
  type Tokenizer,
  type TokenizerConfig,
  tokenizerParameters,
} from '@detailflow/tokenizer';
import { isDetailFlowHalf, isDetailFlowModel, subtree } from './detailflow-folder';
import { releasedDetailFlowFiles } from './detailflow-released';
import { generatorGraphs } from './generator-graph';
import { completedAr } from './released-models';

/** A configuration and the weights that go with it, checked against each other. */
export interface ModelPart<Config> {
  readonly config: Config;
  readonly weights: Weights;
  /** The file the weights lie in. */
  readonly file: string;
}

/** A DetailFlow model as its family opens it. */
export interface DetailFlowModel extends FamilyModel {
  readonly family: typeof DETAILFLOW;
  readonly kind: 'bundle' | 'official';
  /** config.json of a bundle. */
  readonly card?: BundleCard;
  readonly tokenizer: TokenizerHalf & ModelPart<TokenizerConfig>;
  readonly ar?: TokenModelHalf & ModelPart<TokenModelConfig>;
  /** Side in pixels of the pictures that it draws: less than the tokenizer's where the AR model has fewer tokens. */
  readonly pictureSize: number;
  createTokenizer(options: { readonly backend: Backend; readonly dtype?: WeightDType }): Tokenizer;
  createTokenModel?(options: {
    readonly backend: Backend;
    readonly dtype?: WeightDType;
    readonly tokenizer: ImageTokenizer;
  }): GroupTokenModel;
}

const DETAILFLOW = 'DetailFlow';

/** DetailFlow: bundles, and the folders of the official training. */
export const detailflowFamily: Family & {
  /** As {@link Family.open}, with all that DetailFlow's models can do. */
  open(files: ModelFiles, options?: CallOptions): Promise<DetailFlowModel>;
} = {
  name: DETAILFLOW,
  async recognise(files) {
    const bundle = await bundleFamily(files);
    if (bundle !== undefined) return bundle === DETAILFLOW;
    if ('model' in files) return isDetailFlowModel(files.model);
    const halves = [files.tokenizer, ...(files.ar ? [files.ar] : [])];
    return (await Promise.all(halves.map(isDetailFlowHalf))).every(Boolean);
  },
  async open(files, options = {}) {
    const reading = { ...options, keys: stateDictKeys(files.settings) };
    if (!('model' in files)) return openOfficial(files.tokenizer, files.ar, reading);
    const tree = files.model;
    if (await tree.exists('tokenizer/config.json')) {
      const ar = (await tree.exists('ar/config.json')) ? subtree(tree, 'ar') : undefined;
      return openOfficial(subtree(tree, 'tokenizer'), ar, reading);
    }
    if (Object.keys(reading.keys).length > 0) {
      throw new DetailFlowError(
        'invalid-argument',
        `settings: ${Object.keys(reading.keys)}; they choose among the weights of official checkpoints, and this is none`,
        { file: tree.name },
      );
    }
    if (!(await tree.exists('config.json'))) {
      throw new DetailFlowError(
        'io',
        'there is neither a config.json of a bundle nor a folder tokenizer/ with one; give the folder of a model',
        { file: tree.name },
      );
    }
    return openBundle(tree);
  },
};

/** Which weights of an official checkpoint are read: 'model' or 'ema', for each half; by default those that the official scripts take. */
interface StateDictKeys {
  readonly tokenizerKey?: 'model' | 'ema';
  readonly arKey?: 'model' | 'ema';
}

function stateDictKeys(settings: ConfigObject = {}): StateDictKeys {
  for (const [name, value] of Object.entries(settings)) {
    if (name !== 'tokenizerKey' && name !== 'arKey') {
      throw new DetailFlowError(
        'invalid-argument',
        `settings: there is no "${name}"; tokenizerKey and arKey choose among the weights of official checkpoints, all else a DetailFlow model has of its own`,
      );
    }
    if (value === 'model' || value === 'ema') continue;
    throw new DetailFlowError(
      'invalid-argument',
      `settings: ${name} is ${describe(value)}; give model or ema`,
    );
  }
  return settings;
}

/** Whether an opened model is one of DetailFlow. */
export const isDetailFlow = (model: FamilyModel): model is DetailFlowModel =>
  model.family === DETAILFLOW && 'kind' in model;

async function openBundle(tree: FileTree): Promise<DetailFlowModel> {
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
  { keys, signal }: CallOptions & { readonly keys: StateDictKeys },
): Promise<DetailFlowModel> {
  if (keys.arKey !== undefined && !arTree) {
    throw new DetailFlowError(
      'invalid-argument',
      'settings: arKey chooses among weights of an AR model, and none is given',
    );
  }
  const first = await readOfficialFolder(tokenizerTree, 'tokenizer', { key: keys.tokenizerKey, signal });
  return closingOnFailure(first.close, async () => {
    const completed = arTree && (await completedAr(arTree, first));
    const second = completed && (await readOfficialFolder(completed, 'ar', { key: keys.arKey, signal }));
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

interface Parts {
  readonly kind: DetailFlowModel['kind'];
  readonly card?: BundleCard;
  readonly tokenizer: ModelPart<TokenizerConfig>;
  readonly ar?: ModelPart<TokenModelConfig>;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

/** A model made of its parts. @throws DetailFlowError `weights`, `config` where they do not fit together */
export function checked(model: Parts): DetailFlowModel {
  const { tokenizer, ar } = model;
  validateWeights(tokenizer.weights, tokenizerParameters(tokenizer.config), {
    file: tokenizer.file,
    ignore: ignoredTokenizerWeights,
  });
  if (!ar) return asFamilyModel(model, tokenizer.config.imageSize);
  validateWeights(ar.weights, tokenModelParameters(ar.config), {
    file: ar.file,
    ignore: ignoredTokenModelWeights,
  });
  const { tokens, groupSize, causalTokens, codebookSize } = tokenizer.config;
  if (tokenizer.config.mixture) {
    throw new DetailFlowError(
      'config',
      `the tokens of ${tokenizer.file} are mixtures of codes, which no AR model predicts; give the tokenizer alone`,
      { file: ar.file },
    );
  }
  const fits =
    ar.config.groupSize === groupSize &&
    ar.config.causalTokens === causalTokens &&
    ar.config.vocabularySize === codebookSize;
  // An AR model for smaller images has as many tokens as the tokenizer gives images of that size.
  const map = createResolutionMap(resolutionSettings(tokenizer.config));
  const counts = [...new Set([...map.bestTokens, tokens])];
  if (fits && counts.includes(ar.config.tokens))
    return asFamilyModel(model, map.tokenToDecOutRes(ar.config.tokens));
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

function asFamilyModel({ tokenizer, ar, ...rest }: Parts, pictureSize: number): DetailFlowModel {
  const { tokens, imageSize, codebookSize, groupSize } = tokenizer.config;
  return {
    ...rest,
    ...{ family: DETAILFLOW, pictureSize },
    tokenizer: {
      ...tokenizer,
      description: `DetailFlow's tokenizer, ${tokens} tokens of ${codebookSize} codes in groups of ${groupSize}`,
      ...{ previews: 'coarse-to-fine', tokens, imageSize, codebookSize, previewCounts: doublings(tokens) },
    },
    ...(tokenizer.config.mixture && {
      latentDim: tokenizer.config.codebookDim,
      createLatentTokenizer: ({ backend, dtype }) => {
        const { config, weights, file } = tokenizer;
        return createMixtureTokenizer({ config, weights, file, backend, dtype: decoderDType(dtype) });
      },
    }),
    createTokenizer: ({ backend, dtype }) =>
      createTokenizer({
        ...{ config: tokenizer.config, weights: tokenizer.weights, file: tokenizer.file, backend },
        dtype: decoderDType(dtype),
      }),
    graphs: {
      encoder: () => ({ graph: encoderGraph(tokenizer.config), weights: tokenizer.weights }),
      decoder: () => ({ graph: decoderGraph(tokenizer.config), weights: tokenizer.weights }),
      ...(ar && { step: () => ({ graph: stepGraph(ar.config), weights: ar.weights }) }),
    },
    ...(!tokenizer.config.mixture && {
      releasedFiles: () =>
        releasedDetailFlowFiles(
          chosen(tokenizer, tokenizerParameters(tokenizer.config)),
          ar && chosen(ar, tokenModelParameters(ar.config)),
        ),
    }),
    ...(ar && {
      generatorGraphs: ({ guidance }) =>
        generatorGraphs(tokenizer.config, ar.config, { guidance: guidance as 'constant' | 'gradual' }),
      ar: {
        ...ar,
        description: `DetailFlow's AR model, ${ar.config.tokens} tokens, ${ar.config.classes} classes`,
        ...{ tokens: ar.config.tokens, schedule: groupSchedule(ar.config), classes: ar.config.classes },
        ...{ vocabularySize: ar.config.vocabularySize, sampling: undefined },
        guidances: Object.keys({ gradual: gradualGuidance(ar.config) }),
      },
      createTokenModel: ({ backend, dtype }) =>
        createTokenModel({ config: ar.config, weights: ar.weights, file: ar.file, backend, dtype }),
    }),
  };
}

/** A half without the weights that only training uses. */
const chosen = <Config>(
  { config, weights }: ModelPart<Config>,
  specs: readonly ParameterSpec[],
): { config: Config; weights: Weights } => ({ config, weights: chosenWeights(weights, specs) });

function doublings(limit: number): number[] {
  const counts: number[] = [];
  for (let n = 1; n < limit; n *= 2) counts.push(n);
  return [...counts, limit];
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
