// The systems of `npm run bench -- family` at full size or small, with random weights: bundles that load() opens.

import { feedForwardWidth } from '@detailflow/ar-model';
import { gptSizes, groupParameters } from '@detailflow/blocks';
import { vqConfigOf, vqParameters } from '@detailflow/llamagen';
import { tokenizerParameters } from '@detailflow/tokenizer';
import {
  FLEXVAR_SCALES,
  SCALES_256,
  scaleTokenizerConfigOf,
  scaleTokenizerParameters,
  scaleTransformerConfigOf,
  scaleTransformerParameters,
} from '@detailflow/var';
import { randomWeight } from './random-weights.mjs';

const weightsOf = (specs) => new Map(specs.map(({ name, shape }) => [name, randomWeight(name, shape)]));

/** Layers and widths: of the released models, or a few of them. */
const sizes = {
  full: { gpt: gptSizes['GPT-L'], depth: 16, channels: 1, tower: { width: 768, layers: 12 }, codes: 16384 },
  small: {
    gpt: { layers: 2, heads: 2, dim: 64 },
    ...{ depth: 1, channels: 32, tower: { width: 48, layers: 1 }, codes: 64 },
  },
};

/** Channels of the levels: base times 1, 1, 2, 2, 4. */
const levels = (base, small) => [1, 1, 2, 2, 4].map((n) => (small === 1 ? base * n : 32));

function gpt(size, { tokens, codes, groupSize = 1, causalTokens = tokens, arrangement }) {
  const { dim, layers, heads } = sizes[size].gpt;
  return {
    ...{ tokens, groupSize, causalTokens, vocabularySize: codes, classes: 1000, dim, layers, heads },
    ...{ kvHeads: heads, hiddenDim: feedForwardWidth(dim), ropeBase: 10000, normEpsilon: 1e-5 },
    ...(arrangement && { arrangement }),
  };
}

function vq16(size) {
  const { channels, codes } = sizes[size];
  const tower = { channels: levels(128, channels), blocks: channels === 1 ? 2 : 1, latentChannels: 256 };
  const specs = vqParameters({ encoder: tower, decoder: tower, codebookSize: codes, codeDim: 8 });
  const weights = weightsOf(specs);
  return { config: vqConfigOf(weights, { imageSize: 256 }), weights };
}

function llamagen(size, rest) {
  const config = gpt(size, { tokens: 256, codes: sizes[size].codes, ...rest });
  return { tokenizer: vq16(size), ar: { config, weights: weightsOf(groupParameters(config)) } };
}

function scaled(size, coding) {
  const isVar = coding === 'residual';
  const { channels, depth } = sizes[size];
  const scales = isVar ? SCALES_256 : FLEXVAR_SCALES;
  const base = {
    channels: levels(isVar ? 160 : 128, channels),
    ...{ blocks: channels === 1 ? 2 : 1, latentChannels: isVar ? 32 : 256, jointAttention: isVar },
  };
  const codebookSize = size === 'full' ? (isVar ? 4096 : 8912) : 64;
  const weights = weightsOf(
    scaleTokenizerParameters({
      ...{
        scales,
        encoder: base,
        decoder: base,
        codebookSize,
        codeDim: 32,
        quantKernel: isVar ? 3 : 1,
        coding,
      },
      ...(isVar && { refinement: { kind: 'shared', count: 4, ratio: 0.5 } }),
      isNormalised: !isVar,
    }),
  );
  const tokenizer = { config: scaleTokenizerConfigOf(weights, coding, { scales }), weights };
  const dim = 64 * depth;
  const transformer = weightsOf(
    scaleTransformerParameters({
      ...{ scales, depth, dim, heads: depth, hiddenDim: 4 * dim, vocabularySize: codebookSize, codeDim: 32 },
      ...{ classes: 1000, isShared: false, isNormalised: true, positions: isVar ? 'table' : 'area' },
      normEpsilon: 1e-6,
    }),
  );
  return { tokenizer, ar: { config: scaleTransformerConfigOf(transformer, scales), weights: transformer } };
}

function detailflow(size) {
  const { width, layers } = sizes[size].tower;
  const codes = size === 'full' ? 8192 : 64;
  const tower = (patchSize, depth) => ({
    ...{ width, heads: width / (size === 'full' ? 64 : 12), layers: depth, mlpWidth: 4 * width, patchSize },
    positionGrid: 16,
  });
  const config = {
    ...{ imageSize: 256, tokens: 128, groupSize: 8, causalTokens: 8, codebookSize: codes, codebookDim: 8 },
    ...{ encoder: tower(16, layers), decoder: tower(16, layers), causalEncoder: true, causalDecoder: false },
    ...{ correction: true, resolutionPower: 1.5 },
  };
  const ar = gpt(size, { tokens: 128, codes, groupSize: 8, causalTokens: 8 });
  return {
    tokenizer: { config, weights: weightsOf(tokenizerParameters(config)) },
    ar: { config: ar, weights: weightsOf(groupParameters(ar)) },
  };
}

/** By name: the family of the bundle (DetailFlow's says none), its halves, and the guidance that was published. */
export const systems = {
  'DetailFlow-16, GPT-L': { make: detailflow, cfg: 1.45 },
  'VAR-d16': { family: 'VAR', make: (size) => scaled(size, 'residual') },
  'FlexVAR-d16': { family: 'FlexVAR', make: (size) => scaled(size, 'plain') },
  'LlamaGen-L, 256 tokens': {
    family: 'LlamaGen',
    make: (size) => llamagen(size, { arrangement: 'raster' }),
  },
  'PAR-L-4x, 256 tokens': {
    family: 'PAR',
    make: (size) => llamagen(size, { groupSize: 4, causalTokens: 4, arrangement: 'regions' }),
  },
};
