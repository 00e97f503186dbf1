import {
  chosenWeights,
  createGroupTokenModel,
  type GroupTransformerConfig,
  gptSizes,
  gradualGuidance,
  groupGenerator,
  groupParameters,
  groupSchedule,
  ignoredGroupWeights,
  stepGraph,
  strideOf,
} from '@detailflow/blocks';
import { type FamilyModel, type FoundHalf, requireStated } from '@detailflow/checkpoint';
import { DetailFlowError, type SamplingDefaults, validateWeights } from '@detailflow/core';
import { type GptSettings, gptConfigOf, gptSettings, gridInName, RELEASED_STRIDE } from './gpt-config';
import { intervalGuidance } from './interval-guidance';
import { pictureGraph } from './picture-graph';
import { leftPaddedText } from './text-condition';
import { isTextGpt, type TextGptConfig, textGptConfigOf, textGptParameters } from './text-config';
import { textStepGraph } from './text-graphs';
import { createTextTokenModel, TEXT_SAMPLING } from './text-token-model';
import type { VqConfig } from './vq-config';

/** The transformer of a model: what can be said of it, and what it makes. */
export interface GptPart
  extends Required<Pick<FamilyModel, 'ar' | 'intervalGuidance' | 'createTokenModel'>>,
    Pick<FamilyModel, 'generatorGraphs'> {
  readonly gpt: GptConfig;
  readonly graphs: FamilyModel['graphs'];
}

/** For classes, or for texts. */
export type GptConfig =
  | (GroupTransformerConfig & { readonly kind: 'class' })
  | (TextGptConfig & { readonly kind: 'text' });

/** The tokenizer that a transformer is opened with. */
export interface GridTokenizer {
  readonly config: VqConfig;
  readonly file: string;
}

/** Settings of a transformer, on the grid of a tokenizer. */
function settingsOn({ settings, file }: FoundHalf, { config: vq, file: vqFile }: GridTokenizer): GptSettings {
  const known = gptSettings(settings, file);
  const stride = strideOf(vq.encoder);
  if (known.tokens === undefined && (known.downsampleSize ?? stride) !== stride) {
    throw new DetailFlowError(
      'config',
      `was trained for codes of ${known.downsampleSize} x ${known.downsampleSize} pixels, those of ${vqFile} are ${stride} x ${stride}: ` +
        'give the tokenizer that it belongs to, or the setting "tokens"',
      { file },
    );
  }
  const isUnsaid = known.tokens === undefined && known.imageSize === undefined;
  if (isUnsaid && stride !== RELEASED_STRIDE && gridInName(file) !== undefined) {
    throw new DetailFlowError(
      'config',
      `by its name it was trained for codes of ${RELEASED_STRIDE} x ${RELEASED_STRIDE} pixels, those of ${vqFile} are ${stride} x ${stride}: ` +
        'give the tokenizer that it belongs to; or, if it was trained with this one, the setting "imageSize" or "tokens"',
      { file },
    );
  }
  const given = Object.entries(known).filter(([, value]) => value !== undefined);
  return { ...Object.fromEntries(given), downsampleSize: stride };
}

/** @throws DetailFlowError `config`, `weights` */
export function gptPart(found: FoundHalf, vq: GridTokenizer): GptPart {
  return isTextGpt(found.weights) ? textPart(found, vq) : classPart(found, vq);
}

function classPart(found: FoundHalf, vq: GridTokenizer): GptPart {
  const { settings, file } = found;
  const config = gptConfigOf(found.weights, settingsOn(found, vq), { file });
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
  validateWeights(found.weights, groupParameters(config), { file, ignore: ignoredGroupWeights });
  const weights = chosenWeights(found.weights, groupParameters(config));
  const sampling = officialSampling(config);
  return {
    gpt: { ...config, kind: 'class' },
    ar: {
      description: describe(config, `${config.classes} classes`),
      ...{ config, weights, file, tokens: config.tokens, sampling },
      ...{ schedule: groupSchedule(config), vocabularySize: config.vocabularySize, classes: config.classes },
      guidances: Object.keys({ gradual: gradualGuidance(config) }),
    },
    intervalGuidance: (interval) => intervalGuidance(config, interval),
    createTokenModel: ({ backend, dtype }) =>
      createGroupTokenModel({ config, weights, file, backend, dtype, sampling }),
    graphs: { step: () => ({ graph: stepGraph(config), weights }) },
    generatorGraphs(options) {
      const { width, ...loop } = groupGenerator(config, options);
      return { ...loop, last: pictureGraph(vq.config, config, width) };
    },
  };
}

function textPart(found: FoundHalf, vq: GridTokenizer): GptPart {
  const { settings, file } = found;
  const config = textGptConfigOf(found.weights, settingsOn(found, vq), { file });
  requireStated(
    settings,
    {
      ...{ dim: config.dim, n_layer: config.layers, n_head: config.heads },
      ...{ vocab_size: config.vocabularySize, caption_dim: config.textWidth },
      cls_token_num: config.textPlaces,
    },
    file,
  );
  const specs = textGptParameters(config);
  validateWeights(found.weights, specs, { file, ignore: ignoredGroupWeights });
  const weights = chosenWeights(found.weights, specs);
  const { tokens, vocabularySize, textPlaces, textWidth } = config;
  return {
    gpt: { ...config, kind: 'text' },
    ar: {
      description: describe(config, `texts of ${textPlaces} x ${textWidth} features`),
      ...{ config, weights, file, tokens, sampling: TEXT_SAMPLING },
      ...{ schedule: Array<number>(tokens).fill(1), vocabularySize, classes: 0, guidances: [] },
      text: {
        ...{ places: textPlaces, width: textWidth },
        padded: (text) => leftPaddedText(text, { places: textPlaces }),
      },
    },
    intervalGuidance: (interval) => intervalGuidance({ causalTokens: tokens }, interval),
    createTokenModel: ({ backend, dtype }) => createTextTokenModel({ config, weights, file, backend, dtype }),
    graphs: { step: () => ({ graph: textStepGraph(config), weights }) },
  };
}

type Sizes = Pick<GroupTransformerConfig, 'dim' | 'layers' | 'tokens'> & { readonly groupSize?: number };

/** The name of an official size, such as "GPT-XL". */
export const sizeName = ({ dim, layers }: Pick<Sizes, 'dim' | 'layers'>): string | undefined =>
  Object.entries(gptSizes).find(([, size]) => size.dim === dim && size.layers === layers)?.[0];

function describe(config: Sizes, condition: string): string {
  const { layers, dim, groupSize = 1, tokens } = config;
  const size = sizeName(config) ?? `GPT of ${layers} layers of ${dim}`;
  const groups = groupSize > 1 ? ` in groups of ${groupSize}` : '';
  return `${size}, ${tokens} tokens${groups}, ${condition}`;
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
