import { type RopeTransformerConfig, ropeTransformerParameters } from '@detailflow/blocks';
import { ConfigFields, DetailFlowError, type ParameterSpec, type Weights } from '@detailflow/core';
import { codesOf, type GptSettings, headsOf, layersOf } from './gpt-config';

/** Everything that determines the graphs of a text-conditional GPT. Source: docs/family/llamagen.md section 2. */
export interface TextGptConfig extends RopeTransformerConfig {
  /** Codes of a picture, N: a square grid. */
  readonly tokens: number;
  /** Places of the text, T. */
  readonly textPlaces: number;
  /** Width of the text's features, F. */
  readonly textWidth: number;
  readonly ropeBase: number;
}

/** What stands for "no text": a table of features. */
export const NO_TEXT = 'cls_embedding.uncond_embedding';

/** Names (those of the official state dict) and shapes of every weight. */
export function textGptParameters(config: TextGptConfig): ParameterSpec[] {
  const { dim, vocabularySize, textPlaces, textWidth } = config;
  return [
    { name: 'cls_embedding.cap_proj.fc1.weight', shape: [dim, textWidth] },
    { name: 'cls_embedding.cap_proj.fc2.weight', shape: [dim, dim] },
    { name: NO_TEXT, shape: [textPlaces, textWidth] },
    { name: 'tok_embeddings.weight', shape: [vocabularySize, dim] },
    ...ropeTransformerParameters(config),
  ];
}

/** Names of what is trained: "no text" is a constant. */
export const trainedTextParameters = (config: TextGptConfig): string[] =>
  textGptParameters(config)
    .map(({ name }) => name)
    .filter((name) => name !== NO_TEXT);

/** Whether weights are those of a text-conditional GPT. */
export const isTextGpt = (weights: Pick<Weights, 'has'>): boolean =>
  weights.has('cls_embedding.cap_proj.fc1.weight');

const MOST_TEXT_PLACES = 4096;

/**
 * The configuration of a text-conditional GPT of LlamaGen, as `gptConfigOf` has it for classes. The places of a text are the
 * rows of the table for "no text".
 * @throws DetailFlowError `config` that asks for the setting which no file says, `weights`
 */
export function textGptConfigOf(
  weights: Weights,
  settings: GptSettings = {},
  { file }: { readonly file?: string } = {},
): TextGptConfig {
  if (!isTextGpt(weights)) {
    throw new DetailFlowError('weights', 'this is no text-conditional GPT: it has no projection of texts', {
      file,
      entry: 'cls_embedding.cap_proj.fc1.weight',
    });
  }
  const extentOf = (name: string, axis: number): number => {
    const extent = weights.get(name)?.shape[axis];
    if (extent !== undefined) return extent;
    throw new DetailFlowError('weights', `there is no such weight, or it has no axis ${axis}`, {
      file,
      entry: name,
    });
  };
  const dim = extentOf('tok_embeddings.weight', 1);
  const layers = layersOf(weights);
  const heads = settings.heads ?? headsOf(dim, layers, file);
  const joint = extentOf('layers.0.attention.wqkv.weight', 0);
  return parseTextGptConfig(
    {
      ...{ dim, layers, heads, tokens: codesOf(settings, file) },
      kvHeads: settings.kvHeads ?? (joint / (dim / heads) - heads) / 2,
      hiddenDim: extentOf('layers.0.feed_forward.w1.weight', 0),
      vocabularySize: extentOf('tok_embeddings.weight', 0),
      textPlaces: extentOf(NO_TEXT, 0),
      textWidth: extentOf(NO_TEXT, 1),
      ropeBase: settings.ropeBase ?? 10000,
      normEpsilon: settings.normEpsilon ?? 1e-5,
    },
    { file },
  );
}

/**
 * A configuration from plain data, checked and bounded.
 * @throws DetailFlowError `config` naming the field that no model can be built from
 */
export function parseTextGptConfig(value: unknown, { file }: { readonly file?: string } = {}): TextGptConfig {
  const fields = new ConfigFields(value, { file });
  const config: TextGptConfig = {
    tokens: fields.count('tokens'),
    textPlaces: fields.count('textPlaces'),
    textWidth: fields.count('textWidth'),
    vocabularySize: fields.count('vocabularySize'),
    dim: fields.count('dim'),
    layers: fields.count('layers'),
    heads: fields.count('heads'),
    kvHeads: fields.count('kvHeads'),
    hiddenDim: fields.count('hiddenDim'),
    ropeBase: fields.positive('ropeBase'),
    normEpsilon: fields.positive('normEpsilon'),
  };
  const { tokens, textPlaces, dim, heads, kvHeads, layers } = config;
  const fail = (message: string) => {
    throw new DetailFlowError('config', message, { file });
  };
  if (!Number.isInteger(Math.sqrt(tokens)) || tokens > MOST_TOKENS) {
    fail(`its ${tokens} tokens are no square grid of at most ${MOST_TOKENS}`);
  }
  if (textPlaces > MOST_TEXT_PLACES) {
    fail(`it has ${textPlaces} places of text; at most ${MOST_TEXT_PLACES} are possible`);
  }
  if (layers > MOST_LAYERS) fail(`it has ${layers} layers; at most ${MOST_LAYERS} are read`);
  if (dim % heads !== 0 || (dim / heads) % 4 !== 0) {
    fail(`dim (${dim}) must be heads (${heads}) times a multiple of 4, for two-dimensional rotary positions`);
  }
  if (heads % kvHeads !== 0) fail(`heads (${heads}) must be a multiple of kvHeads (${kvHeads})`);
  return config;
}

const MOST_TOKENS = 16384;
const MOST_LAYERS = 1024;
