import { chosenWeights, type GroupTransformerConfig, regionOrder, strideOf } from '@detailflow/blocks';
import { type FoundHalf, type ModelGraph, requireStated, type TokenizerHalf } from '@detailflow/checkpoint';
import { ConfigFields, validateWeights } from '@detailflow/core';

import { gridOf, ignoredVqWeights, type VqConfig, vqConfigOf, vqParameters } from './vq-config';
import { vqDecoderGraph, vqEncoderGraph } from './vq-graphs';

/** The configuration of a tokenizer out of its file, for pictures of the size that its settings say. */
export function vqConfigIn({ weights, file, settings }: FoundHalf): VqConfig {
  const stated = new ConfigFields(settings, { file });
  const given = (...names: string[]) => names.find((one) => stated.raw(one) !== undefined) ?? names[0];
  const imageSize = given('imageSize', 'image_size');
  const config = vqConfigOf(weights, {
    imageSize: stated.raw(imageSize) === undefined ? undefined : stated.count(imageSize),
    isNormalised: stated.flag(given('isNormalised', 'codebook_l2_norm'), true),
    file,
  });
  requireStated(settings, { codebook_size: config.codebookSize, codebook_embed_dim: config.codeDim }, file);
  return config;
}

/** @throws DetailFlowError `weights` where they are not those of the configuration */
export function vqHalf({ weights, file }: FoundHalf, config: VqConfig): TokenizerHalf & { config: VqConfig } {
  validateWeights(weights, vqParameters(config), { file, ignore: ignoredVqWeights });
  const stride = strideOf(config.encoder);
  return {
    description: `VQ tokenizer, ${config.codebookSize} codes of ${config.codeDim}, ${stride} x ${stride} pixels each`,
    ...{ config, weights: chosenWeights(weights, vqParameters(config)), file, previews: 'rows' },
    ...{ tokens: gridOf(config) ** 2, imageSize: config.imageSize, codebookSize: config.codebookSize },
    previewCounts: quarters(gridOf(config)),
  };
}

/** Place in the picture of each token, where they are not drawn row by row. */
export const orderOf = (gpt: Pick<GroupTransformerConfig, 'arrangement' | 'tokens' | 'groupSize'>) =>
  gpt.arrangement === 'regions' ? regionOrder(gpt.tokens, gpt.groupSize) : undefined;

/** Encoder and decoder for full pictures; codes are in row order. */
export function vqGraphs({ config, weights }: { config: VqConfig; weights: FoundHalf['weights'] }) {
  const side = gridOf(config);
  const grid = { rows: side, columns: side };
  return {
    encoder: (): ModelGraph => ({ graph: vqEncoderGraph(config, grid), weights }),
    decoder: (): ModelGraph => ({ graph: vqDecoderGraph(config, grid), weights }),
  };
}

/** Complete rows: a quarter of the picture, half of it, three quarters, all. */
const quarters = (side: number): number[] => [
  ...new Set([1, 2, 3, 4].map((n) => Math.max(1, Math.floor((n * side) / 4)) * side)),
];
