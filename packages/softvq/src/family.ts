import { chosenWeights } from '@detailflow/blocks';
import {
  bundleFamily,
  type ConfigObject,
  decoderDType,
  type Family,
  type FamilyModel,
  type FileTree,
  type ModelFiles,
  openFamilyBundle,
} from '@detailflow/checkpoint';
import { type CallOptions, DetailFlowError, validateWeights, type Weights } from '@detailflow/core';
import { CodeTokenizer, createCodeTokenizer } from './code-tokenizer';
import { parseSoftVqConfig, type SoftVqConfig } from './config';
import { codeLatentsGraph, latentDecoderGraph, latentEncoderGraph } from './graphs';
import { createSoftVqTokenizer } from './latent-tokenizer';
import { ignoredSoftVqWeights, softVqParameters } from './parameters';
import { softVqConfigOf } from './released-config';
import { openReleasedFiles, readArguments } from './released-files';
import { writtenSoftVqConfig } from './written-config';

const NAME = 'SoftVQ';

/**
 * SoftVQ, VQ, KL and AE tokenizers from their released files (config.json, model.safetensors), from a training run (config.yaml,
 * checkpoints/NNNNNNN.pt) or from a bundle. There is no AR half: latents are continuous, or codes that no released model draws.
 * @see https://detailflow.github.io/detailflow-ts/definitions/softvq.html
 */
export const softvqFamily: Family = {
  name: NAME,
  async recognise(files, { signal } = {}) {
    signal?.throwIfAborted();
    const bundle = await bundleFamily(files);
    if (bundle !== undefined) return bundle === NAME;
    const found = await readArguments(treeOf(files));
    return found !== undefined && isReleased(found.args);
  },
  async open(files, { signal } = {}) {
    const model =
      (await bundleFamily(files)) === undefined
        ? await openReleased(treeOf(files), files.settings, { signal })
        : await openBundle(files);
    if (!('tokenizer' in files) || !files.ar) return model;
    await model.close();
    throw new DetailFlowError(
      'unsupported',
      `the tokenizer in ${files.tokenizer.name} ${withoutAr(model.latentDim !== undefined)}; give it alone`,
      { file: files.ar.name },
    );
  },
};

/** Why there is no transformer. */
const withoutAr = (isContinuous: boolean): string =>
  isContinuous
    ? 'has continuous latents, which no autoregressive model predicts'
    : 'has codes of SoftVQ, for which there is no autoregressive model';

const treeOf = (files: ModelFiles): FileTree => ('model' in files ? files.model : files.tokenizer);

/** DetailFlow's own configurations name the same fields, and groups of tokens besides. */
function isReleased(args: ConfigObject): boolean {
  const names = [args.encoder_model, args.decoder_model];
  const isOurs = names.every((name) => typeof name === 'string' && name.startsWith('vit_'));
  return isOurs && args.num_latent_tokens !== undefined && args.group_size === undefined;
}

async function openReleased(
  tree: FileTree,
  settings: ConfigObject | undefined,
  options: CallOptions,
): Promise<FamilyModel> {
  const { file, weights, args, argsFile, towers, close } = await openReleasedFiles(tree, settings, options);
  try {
    const config = softVqConfigOf(weights, args, { towers, file, argsFile });
    return modelOf(config, weights, { file, close });
  } catch (error) {
    await close();
    throw error;
  }
}

const openBundle = (files: ModelFiles): Promise<FamilyModel> =>
  openFamilyBundle(files, ({ card, tokenizer, ar, close }, { name }) => {
    const config = parseSoftVqConfig(card.tokenizer.config, `${name}/config.json`);
    if (ar) {
      throw new DetailFlowError('unsupported', `the tokenizer ${withoutAr(config.kind !== 'vq')}`, {
        file: `${name}/config.json`,
        entry: 'ar',
      });
    }
    return modelOf(config, tokenizer, { file: `${name}/${card.tokenizer.weights}`, close });
  });

function modelOf(
  config: SoftVqConfig,
  all: Weights,
  { file, close }: { readonly file: string; readonly close: () => Promise<void> },
): FamilyModel {
  const specs = softVqParameters(config);
  validateWeights(all, specs, { file, ignore: ignoredSoftVqWeights });
  const weights = chosenWeights(all, specs);
  const options = { config, weights, file };
  return {
    family: NAME,
    pictureSize: config.imageSize,
    tokenizer: {
      ...{ description: describe(config), config, weights, file },
      ...{ previews: 'none', tokens: config.tokens, imageSize: config.imageSize },
      ...{ codebookSize: config.codebookSize, previewCounts: [config.tokens] },
    },
    ...(config.kind !== 'vq' && { latentDim: config.latentDim }),
    createTokenizer: ({ backend, dtype }) =>
      createCodeTokenizer({ ...options, backend, dtype: decoderDType(dtype) }),
    createLatentTokenizer: ({ backend, dtype }) =>
      config.kind === 'vq'
        ? new CodeTokenizer({ ...options, backend, dtype: decoderDType(dtype) })
        : createSoftVqTokenizer({ ...options, backend, dtype: decoderDType(dtype) }),
    graphs: {
      encoder: () => ({ graph: latentEncoderGraph(config), weights }),
      decoder: () => ({ graph: latentDecoderGraph(config), weights }),
      ...(config.kind === 'vq' && { latents: () => ({ graph: codeLatentsGraph(config), weights }) }),
    },
    releasedFiles() {
      const { args, sizes } = writtenSoftVqConfig(config);
      return [
        { path: 'model.safetensors', safetensors: weights },
        { path: 'config.json', json: args },
        ...(sizes ? [{ path: 'timm_vit.json', json: sizes }] : []),
      ];
    },
    close,
  };
}

const names = { soft: 'SoftVQ', vq: 'VQ', kl: 'KL', ae: 'AE' } as const;

function describe({ kind, tokens, latentDim, codebooks, codebookSize, imageSize }: SoftVqConfig): string {
  const codes = codebooks > 0 ? `, ${codebooks} x ${codebookSize} codes` : '';
  return `${names[kind]} tokenizer, ${tokens} latents of ${latentDim}${codes}, ${imageSize} px`;
}
