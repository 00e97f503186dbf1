import {
  convInitialValues,
  createGroupTokenModel,
  feedForwardWidth,
  type GroupTransformerConfig,
  groupTraining,
  type InitialValues,
  parseGroupConfig,
  type TrainableDrawingModel,
  type TrainableFamily,
  type TrainableTokenizer,
} from '@detailflow/blocks';
import { ConfigFields, mul } from '@detailflow/core';
import { vqLosses } from './training';
import { llamagenPreset, parPreset } from './training-presets';
import {
  gridOf,
  ignoredVqWeights,
  parseVqConfig,
  type VqConfig,
  vqConfigOf,
  vqParameters,
} from './vq-config';
import { orderOf } from './vq-half';
import { createVqTokenizer } from './vq-tokenizer';

/** Trains LlamaGen: its VQ tokenizer, and a GPT for classes. */
export const llamagenTraining: TrainableFamily = {
  ...{ name: 'llamagen', family: 'LlamaGen', presets: { 'llamagen-32': llamagenPreset } },
  tokenizer: trainableVq,
  tokenModel: (settings, options) => trainableGpt(settings, options, false),
};

/** Trains PAR: the same tokenizer, and a GPT that draws regions in parallel (`groupSize` of them). */
export const parTraining: TrainableFamily = {
  ...{ name: 'par', family: 'PAR', presets: { 'par-32': parPreset } },
  tokenizer: trainableVq,
  tokenModel: (settings, options) => trainableGpt(settings, options, true),
};

const CODEBOOK = 'quantize.embedding.weight';

function trainableVq(settings: unknown, file?: string): TrainableTokenizer {
  const config = vqConfigFrom(settings, file);
  const specs = vqParameters(config);
  const { imageSize, codebookSize, isNormalised } = config;
  const tokens = gridOf(config) ** 2;
  return {
    ...{ config, specs, imageSize, tokens, codebookSize, previewCounts: [tokens] },
    ...{ codebook: CODEBOOK, lastLayer: 'decoder.conv_out.weight', ignored: ignoredVqWeights },
    initial: convInitialValues(specs, { codebook: CODEBOOK, isNormalised }),
    losses(p, images, { vqRatio, commitBeta, entropyRatio }) {
      const { pixels, codes, vectors, vq, commit, entropy } = vqLosses(p, config, images, {
        ...{ commitBeta, entropyRatio },
      });
      return { pixels, codes, vectors, vq: mul(vq, vqRatio), commit, entropy };
    },
    create: ({ weights, backend }) => createVqTokenizer({ config, weights, backend }),
  };
}

/** Settings of a tokenizer, in the form in which its weights say them again. */
function vqConfigFrom(settings: unknown, file?: string): VqConfig {
  const fields = new ConfigFields(settings, { file });
  fields.only('imageSize', 'encoder', 'decoder', 'codebookSize', 'codeDim', 'isNormalised');
  for (const prefix of ['encoder', 'decoder']) {
    const tower = new ConfigFields(fields.raw(prefix), { file, prefix });
    tower.only('channels', 'blocks', 'latentChannels', 'stem', 'jointAttention');
  }
  const { imageSize, isNormalised, ...rest } = parseVqConfig(settings, file);
  const shapes = new Map(
    vqParameters({ imageSize, isNormalised, ...rest }).map(({ name, shape }) => [name, { shape }]),
  );
  return vqConfigOf(shapes, { imageSize, isNormalised, file });
}

function trainableGpt(
  settings: unknown,
  { tokenizer, classes, file }: Parameters<TrainableFamily['tokenModel']>[1],
  isParallel: boolean,
): TrainableDrawingModel {
  const vq = tokenizer.config as VqConfig;
  const fields = new ConfigFields(settings, { file });
  const { tokens, codebookSize: vocabularySize } = tokenizer;
  fields.only(
    ...['dim', 'layers', 'heads', 'kvHeads', 'hiddenDim', 'ropeBase', 'normEpsilon'],
    ...(isParallel ? ['groupSize'] : []),
  );
  const [dim, heads] = [fields.count('dim'), fields.count('heads')];
  const own = {
    ...{ dim, layers: fields.count('layers'), heads, kvHeads: fields.count('kvHeads', heads) },
    hiddenDim: fields.count('hiddenDim', feedForwardWidth(dim)),
    ropeBase: fields.positive('ropeBase', { fallback: 10000 }),
    normEpsilon: fields.positive('normEpsilon', { fallback: 1e-5 }),
    ...(isParallel && { groupSize: fields.count('groupSize') }),
  };
  const groupSize = isParallel ? fields.count('groupSize') : 1;
  const causalTokens = isParallel ? groupSize : tokens;
  const config: GroupTransformerConfig = parseGroupConfig(
    { ...own, tokens, groupSize, causalTokens, vocabularySize, classes },
    { file, arrangement: isParallel ? 'regions' : 'raster' },
  );
  const order = orderOf(config);
  const training = groupTraining(config);
  return {
    ...training,
    ...{ settings: own, initial: drawnGpt },
    feeds({ labels, rows, targets }) {
      const ordered = (codes: Int32Array) =>
        order ? codes.map((_, i) => codes[i - (i % tokens) + order[i % tokens]]) : codes;
      return training.feeds({ labels, rows: ordered(rows), targets: ordered(targets) });
    },
    create: ({ weights, backend }) => createGroupTokenModel({ config, weights, backend }),
    createTokenizer: ({ weights, backend }) => createVqTokenizer({ config: vq, weights, backend, order }),
  };
}

const DEVIATION = 0.02;

/** Linear and Embedding N(0, .02), `output` zero, norms 1. Source: docs/family/llamagen.md section 2. */
const drawnGpt: InitialValues = (name, shape, random) => {
  if (name === 'output.weight') return () => 0;
  return shape.length === 1 ? () => 1 : () => DEVIATION * random.normal();
};
