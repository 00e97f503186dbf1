import {
  createGroupTokenModel,
  type GroupTransformerConfig,
  gptSizes,
  gradualGuidance,
  groupParameters,
  groupSchedule,
  ignoredGroupWeights,
  regionOrder,
  strideOf,
  vqOwner,
} from '@detailflow/blocks';
import {
  type Family,
  type FamilyModel,
  type FoundHalf,
  openHalves,
  recogniseHalves,
  requireStated,
} from '@detailflow/checkpoint';
import {
  ConfigFields,
  DetailFlowError,
  type ParameterSpec,
  type SamplingDefaults,
  validateWeights,
  type Weights,
} from '@detailflow/core';
import { gptRule, vqRule } from './family-rules';
import { gptConfigOf, gptSettings } from './gpt-config';
import { intervalGuidance } from './interval-guidance';
import { gridOf, ignoredVqWeights, type VqConfig, vqConfigOf, vqParameters } from './vq-config';
import { createVqTokenizer } from './vq-tokenizer';

/** LlamaGen: class-conditional GPTs of 256, 384 and 512 pixels and their VQ tokenizers, or such a tokenizer alone. */
export const llamagenFamily: Family = familyOf('llamagen');

/** PAR: the same tokenizers, with a transformer that draws regions in parallel. */
export const parFamily: Family = familyOf('par');

function familyOf(kind: 'llamagen' | 'par'): Family {
  const rules = { tokenizer: vqRule, ar: gptRule(kind) };
  const name = kind === 'par' ? 'PAR' : 'LlamaGen';
  return {
    name,
    async recognise(files, options) {
      const halves = await recogniseHalves(files, rules, options);
      if (!halves) return false;
      await halves.close();
      const { tokenizer, ar, others } = halves;
      if (ar || !tokenizer) return ar !== undefined;
      const isBesideVar = [...others.values()].some((weights) => weights.has('word_embed.weight'));
      return kind === 'llamagen' && !isBesideVar && vqOwner(tokenizer) === 'llamagen';
    },
    async open(files, options) {
      const { tokenizer, ar, close } = await openHalves(files, rules, options);
      try {
        return modelOf(name, { tokenizer, ar, close });
      } catch (error) {
        await close();
        throw error;
      }
    },
  };
}

interface Halves {
  readonly tokenizer: FoundHalf;
  readonly ar?: FoundHalf;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

function modelOf(family: string, { tokenizer, ar, close }: Halves): FamilyModel {
  const stated = new ConfigFields(tokenizer.settings, { file: tokenizer.file });
  const imageSize = ['imageSize', 'image_size'].find((one) => stated.raw(one) !== undefined);
  const alone = vqConfigOf(tokenizer.weights, {
    imageSize: imageSize === undefined ? undefined : stated.count(imageSize),
    isNormalised: stated.flag('codebook_l2_norm', true),
    file: tokenizer.file,
  });
  requireStated(
    tokenizer.settings,
    { codebook_size: alone.codebookSize, codebook_embed_dim: alone.codeDim },
    tokenizer.file,
  );
  const gpt = ar && gptOf(ar, alone);
  const stride = strideOf(alone.encoder);
  // A tokenizer serves pictures of any size: the transformer says which it draws.
  const config: VqConfig = gpt ? { ...alone, imageSize: Math.sqrt(gpt.tokens) * stride } : alone;
  validateWeights(tokenizer.weights, vqParameters(config), {
    file: tokenizer.file,
    ignore: ignoredVqWeights,
  });
  if (gpt && gpt.vocabularySize !== config.codebookSize) {
    throw new DetailFlowError(
      'config',
      `tokenizer and transformer do not belong together: ${tokenizer.file} has ${config.codebookSize} codes, the transformer ${gpt.vocabularySize}`,
      { file: ar.file },
    );
  }
  const tokens = gridOf(config) ** 2;
  const order = gpt?.arrangement === 'regions' ? regionOrder(tokens, gpt.groupSize) : undefined;
  const sampling = gpt && officialSampling(gpt);
  return {
    family,
    pictureSize: config.imageSize,
    tokenizer: {
      description: `VQ tokenizer, ${config.codebookSize} codes of ${config.codeDim}, ${stride} x ${stride} pixels each`,
      ...{
        config,
        weights: chosen(tokenizer.weights, vqParameters(config)),
        file: tokenizer.file,
        previews: 'rows',
        tokens,
      },
      ...{ imageSize: config.imageSize, codebookSize: config.codebookSize },
      previewCounts: quarters(gridOf(config)),
    },
    createTokenizer: ({ backend }) =>
      createVqTokenizer({ config, weights: tokenizer.weights, file: tokenizer.file, backend, order }),
    ...(gpt && {
      ar: {
        description: describeGpt(gpt),
        ...{ config: gpt, weights: chosen(ar.weights, groupParameters(gpt)), file: ar.file },
        ...{ tokens: gpt.tokens, sampling },
        ...{ schedule: groupSchedule(gpt), vocabularySize: gpt.vocabularySize, classes: gpt.classes },
        guidances: Object.keys({ gradual: gradualGuidance(gpt) }),
      },
      intervalGuidance: (interval: number) => intervalGuidance(gpt, interval),
      createTokenModel: ({ backend, dtype }) =>
        createGroupTokenModel({
          ...{ config: gpt, weights: ar.weights, file: ar.file, backend, dtype, sampling },
        }),
    }),
    close,
  };
}

function gptOf({ weights, file, settings }: FoundHalf, vq: VqConfig): GroupTransformerConfig {
  if (weights.has('cls_embedding.cap_proj.fc1.weight')) {
    throw new DetailFlowError(
      'unsupported',
      'draws from features of a text, which cannot be read yet; give a model for classes',
      { file },
    );
  }
  const known = gptSettings(settings, file);
  const stride = strideOf(vq.encoder);
  if (known.tokens === undefined && (known.downsampleSize ?? stride) !== stride) {
    throw new DetailFlowError(
      'config',
      `was trained for codes of ${known.downsampleSize} x ${known.downsampleSize} pixels, those of the tokenizer are ${stride} x ${stride}: ` +
        'give the tokenizer that it belongs to, or the setting "tokens"',
      { file },
    );
  }
  const config = gptConfigOf(weights, { ...defined(known), downsampleSize: stride }, { file });
  requireStated(
    settings,
    {
      ...{ dim: config.dim, n_layer: config.layers, n_head: config.heads, cls_token_num: 1 },
      ...{ vocab_size: config.vocabularySize, num_classes: config.classes },
      ...(config.arrangement === 'regions' && {
        spe_token_num: config.groupSize - 1,
        ar_token_num: config.causalTokens,
      }),
    },
    file,
  );
  validateWeights(weights, groupParameters(config), { file, ignore: ignoredGroupWeights });
  return config;
}

/** The weights of a model without the tables and statistics that its file holds besides. */
const chosen = (weights: Weights, specs: readonly ParameterSpec[]): Weights =>
  new Map([...weights].filter(([name]) => specs.some((spec) => spec.name === name)));

const defined = (settings: object): object =>
  Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));

/** Complete rows: a quarter of the picture, half of it, three quarters, all. */
const quarters = (side: number): number[] => [
  ...new Set([1, 2, 3, 4].map((n) => Math.max(1, Math.floor((n * side) / 4)) * side)),
];

const sizeName = ({ dim, layers }: GroupTransformerConfig): string | undefined =>
  Object.entries(gptSizes).find(([, size]) => size.dim === dim && size.layers === layers)?.[0];

function describeGpt(config: GroupTransformerConfig): string {
  const { layers, dim, groupSize, tokens, classes } = config;
  const size = sizeName(config) ?? `GPT of ${layers} layers of ${dim}`;
  const groups = groupSize > 1 ? ` in groups of ${groupSize}` : '';
  return `${size}, ${tokens} tokens${groups}, ${classes} classes`;
}

/** Guidance of the official evaluations, by size. Source: docs/family/llamagen.md sections 2 and 3. */
function officialSampling(config: GroupTransformerConfig): Partial<SamplingDefaults> {
  const size = sizeName(config) ?? '';
  if (config.arrangement === 'regions') {
    if (size === 'GPT-3B' && config.groupSize === 4) return { cfg: 1.345 };
    return { cfg: size === 'GPT-XXL' ? 1.435 : 1.5 };
  }
  if (size === 'GPT-3B') return { cfg: 1.65 };
  return { cfg: size === 'GPT-XL' || size === 'GPT-XXL' ? 1.75 : 2 };
}
