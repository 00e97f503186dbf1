import { type GroupTransformerConfig, gptSizes, parseGroupConfig } from '@detailflow/blocks';
import type { ConfigObject } from '@detailflow/checkpoint';
import { ConfigFields, DetailFlowError, type Weights } from '@detailflow/core';

/** What no file of a released GPT says. */
export interface GptSettings {
  /** Codes of a picture, a square number; or {@link imageSize} with {@link downsampleSize}. */
  readonly tokens?: number;
  readonly imageSize?: number;
  /** Pixels that a code covers in each direction; default 16. */
  readonly downsampleSize?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly ropeBase?: number;
  readonly normEpsilon?: number;
}

/** Settings from an object: ours, or those that the official constructors take (block_size, n_head, ...). */
export function gptSettings(value: ConfigObject, file?: string): GptSettings {
  const fields = new ConfigFields(value, { file });
  const count = (...names: string[]): number | undefined => {
    const name = names.find((one) => fields.raw(one) !== undefined);
    return name === undefined ? undefined : fields.count(name);
  };
  const number = (...names: string[]): number | undefined => {
    const name = names.find((one) => fields.raw(one) !== undefined);
    return name === undefined ? undefined : fields.positive(name);
  };
  return {
    tokens: count('tokens', 'block_size'),
    imageSize: count('imageSize', 'image_size'),
    downsampleSize: count('downsampleSize', 'downsample_size'),
    heads: count('heads', 'n_head'),
    kvHeads: count('kvHeads', 'n_kv_head'),
    ropeBase: number('ropeBase', 'rope_base'),
    normEpsilon: number('normEpsilon', 'norm_eps'),
  };
}

/**
 * The configuration of a class-conditional GPT of LlamaGen or PAR: sizes are read off the weights; head counts follow from
 * the official sizes; the grid must be told, since the weights do not depend on it. Source: docs/family/llamagen.md.
 * @throws DetailFlowError `config` that asks for the setting which no file says, `weights`
 */
export function gptConfigOf(
  weights: Weights,
  settings: GptSettings = {},
  { file }: { readonly file?: string } = {},
): GroupTransformerConfig {
  const extentOf = (name: string, axis: number): number => {
    const extent = weights.get(name)?.shape[axis];
    if (extent !== undefined) return extent;
    throw new DetailFlowError('weights', `there is no such weight, or it has no axis ${axis}`, {
      file,
      entry: name,
    });
  };
  const [vocabularySize, dim] = [extentOf('tok_embeddings.weight', 0), extentOf('tok_embeddings.weight', 1)];
  if (weights.has('cls_embedding.cap_proj.fc1.weight')) {
    throw new DetailFlowError('weights', 'this is a text-conditional GPT: use textGptConfigOf', { file });
  }
  const layers = layersOf(weights);
  const heads = settings.heads ?? headsOf(dim, layers, file);
  const headDim = dim / heads;
  const special = weights.get('spe_tok_embeddings.special_embeddings.weight')?.shape[0] ?? 0;
  const tokens = codesOf(settings, file);
  const groupSize = special + 1;
  return parseGroupConfig(
    {
      ...{ tokens, groupSize, causalTokens: special === 0 ? tokens : groupSize, vocabularySize },
      classes: extentOf('cls_embedding.embedding_table.weight', 0) - 1,
      ...{ dim, layers, heads },
      kvHeads: settings.kvHeads ?? (extentOf('layers.0.attention.wqkv.weight', 0) / headDim - heads) / 2,
      hiddenDim: extentOf('layers.0.feed_forward.w1.weight', 0),
      ropeBase: settings.ropeBase ?? 10000,
      normEpsilon: settings.normEpsilon ?? 1e-5,
    },
    { file, arrangement: special === 0 ? 'raster' : 'regions' },
  );
}

const MOST_LAYERS = 1024;

export function layersOf(weights: Pick<Weights, 'has'>): number {
  let layers = 0;
  while (layers < MOST_LAYERS && weights.has(`layers.${layers}.attention.wqkv.weight`)) layers++;
  return layers;
}

/** Head counts stand in no file: the official sizes have them. */
export function headsOf(dim: number, layers: number, file?: string): number {
  const size = Object.values(gptSizes).find((one) => one.dim === dim && one.layers === layers);
  if (size) return size.heads;
  throw new DetailFlowError(
    'config',
    `${layers} layers of width ${dim} are none of the official sizes: give the number of heads (setting "heads")`,
    { file },
  );
}

/** Codes of a picture. @throws DetailFlowError `config` that asks for the setting which neither file nor its name says */
export function codesOf({ tokens, imageSize, downsampleSize = 16 }: GptSettings, file?: string): number {
  const named = downsampleSize === RELEASED_STRIDE ? gridInName(file) : undefined;
  const found = tokens ?? (imageSize === undefined ? named : (imageSize / downsampleSize) ** 2);
  if (found === undefined) {
    throw new DetailFlowError(
      'config',
      'no file says for which grid of codes this model was trained: give the setting "imageSize" (256, 384 or 512 in the ' +
        'released models), or "tokens"',
      { file },
    );
  }
  if (Number.isInteger(Math.sqrt(found))) return found;
  throw new DetailFlowError(
    'config',
    `${found} codes do not make a square grid; give "imageSize" or "tokens"`,
    { file },
  );
}

/** Pixels that a code of the released GPTs covers in each direction: names of files tell the grid for these alone. */
export const RELEASED_STRIDE = 16;

/** Released files say the image size at the end of their name: c2i_L_384.pt; those of PAR are all of 384 pixels. */
export function gridInName(file: string | undefined): number | undefined {
  const name = file?.split('/').pop() ?? '';
  const side =
    /^(?:c2i_[A-Za-z0-9]+|t2i_[A-Za-z0-9]+_stage\d|t2i_[A-Za-z0-9]+)_(256|384|512)\.pt$/.exec(name)?.[1] ??
    (/^PAR-\w+-\d+x\.pt$/.test(name) ? '384' : undefined);
  return side === undefined ? undefined : (Number(side) / RELEASED_STRIDE) ** 2;
}
