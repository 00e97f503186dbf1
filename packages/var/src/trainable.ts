import {
  convInitialValues,
  type InitialValues,
  parameterAccess,
  parseConvTower,
  strideOf,
  type TrainableDrawingModel,
  type TrainableFamily,
  type TrainableTokenizer,
} from '@detailflow/blocks';
import { ConfigFields, DetailFlowError, mul, Tensor } from '@detailflow/core';
import { scaleInputs } from './scale-coding';
import { createScaleTokenModel } from './scale-token-model';
import { createScaleTokenizer } from './scale-tokenizer';
import { scaleLoss, scaleTokenizerLosses } from './scale-training';
import {
  ignoredScaleWeights,
  type ScaleTransformerConfig,
  scaleTransformerParameters,
} from './scale-transformer';
import { isGrowing, parseScales, places, placesOf, type ScaleLike, scaleStarts } from './scales';
import { varPreset } from './training-presets';
import { scaleTransformerConfigOf } from './var-config';
import {
  ignoredScaleTokenizerWeights,
  type ScaleTokenizerConfig,
  scaleTokenizerConfigOf,
  scaleTokenizerParameters,
} from './var-tokenizer-config';

/** Trains VAR: its residual tokenizer, and a transformer that draws scale after scale. */
export const varTraining: TrainableFamily = {
  ...{ name: 'var', family: 'VAR', presets: { 'var-32': varPreset } },
  without: ['entropyRatio', 'dropout', 'tokenDropout'],
  tokenizer: trainableScales,
  tokenModel: trainableTransformer,
};

const CODEBOOK = 'quantize.embedding.weight';

function trainableScales(settings: unknown, file?: string): TrainableTokenizer {
  const config = tokenizerConfigFrom(settings, file);
  const specs = scaleTokenizerParameters(config);
  const { scales, codebookSize, encoder } = config;
  const starts = scaleStarts(scales);
  return {
    ...{ config, specs, codebookSize, tokens: placesOf(scales) },
    imageSize: scales[scales.length - 1].rows * strideOf(encoder),
    previewCounts: scales.map((scale, k) => starts[k] + places(scale)),
    ...{ codebook: CODEBOOK, lastLayer: 'decoder.conv_out.weight', ignored: ignoredScaleTokenizerWeights },
    initial: convInitialValues(specs, { codebook: CODEBOOK, isNormalised: false }),
    losses(p, images, { vqRatio, commitBeta }) {
      const found = scaleTokenizerLosses(p, config, images, { commitBeta });
      const { pixels, codes, vectors, codebook, commit } = found;
      const entropy = images.graph.constant(new Float32Array(1), [1]);
      return { pixels, codes, vectors, vq: mul(codebook, vqRatio), commit, entropy };
    },
    create: ({ weights, backend }) => createScaleTokenizer({ config, weights, backend }),
  };
}

/** Settings of a tokenizer, in the form in which its weights say them again. */
function tokenizerConfigFrom(settings: unknown, file?: string): ScaleTokenizerConfig {
  const fields = new ConfigFields(settings, { file });
  fields.only(
    ...['imageSize', 'scales', 'encoder', 'decoder', 'codebookSize', 'codeDim', 'quantKernel', 'refinement'],
    ...['coding', 'isNormalised'],
  );
  fields.expect('coding', 'residual');
  fields.expect('isNormalised', false);
  const phi = new ConfigFields(fields.raw('refinement') ?? {}, { file, prefix: 'refinement' });
  phi.only('kind', 'count', 'ratio');
  const ratio = phi.number('ratio', { least: 0, most: 1, fallback: 0.5 });
  const kind = phi.choice('kind', ['shared', 'single', 'each'], 'shared');
  const list = parseScales(fields.raw('scales') as readonly ScaleLike[], file);
  const count = phi.count('count', kind === 'single' ? 1 : kind === 'each' ? list.length : 4);
  const wrong = (message: string, entry: string) => new DetailFlowError('config', message, { file, entry });
  if (kind !== 'shared' && count !== (kind === 'single' ? 1 : list.length)) {
    throw wrong(`is ${count}; there are ${kind === 'single' ? 1 : list.length}`, 'refinement.count');
  }
  const [encoder, decoder] = (['encoder', 'decoder'] as const).map((name) => ({
    ...parseConvTower(fields.raw(name), { file, prefix: name }),
    jointAttention: true,
  }));
  const quantKernel = fields.count('quantKernel', 3);
  if (quantKernel % 2 === 0 || quantKernel > 15) {
    throw wrong(`is ${quantKernel}; give an odd number up to 15`, 'quantKernel');
  }
  const [codebookSize, codeDim] = [fields.count('codebookSize'), fields.count('codeDim')];
  const config: ScaleTokenizerConfig = {
    ...{ scales: list, encoder, decoder, codebookSize, codeDim, quantKernel },
    ...{ coding: 'residual', isNormalised: false, refinement: { kind, count, ratio } },
  };
  const odd = [...encoder.channels, ...decoder.channels].find((n) => n % 32 !== 0);
  if (odd !== undefined) throw wrong(`${odd} cannot be divided into the 32 groups of norms`, 'channels');
  const last = list[list.length - 1];
  if (list.length < 2 || last.rows !== last.columns || !isGrowing(list)) {
    throw wrong(
      `is ${JSON.stringify(fields.raw('scales'))}; give two or more, each larger than the one before, of which the last is square and the largest`,
      'scales',
    );
  }
  const stride = strideOf(encoder);
  const imageSize = fields.count('imageSize', last.rows * stride);
  if (imageSize !== last.rows * stride) {
    throw wrong(
      `the last one has ${last.rows} x ${last.rows} codes of ${stride} x ${stride} pixels, which are no image of ${imageSize}`,
      'scales',
    );
  }
  const shapes = new Map(scaleTokenizerParameters(config).map(({ name, shape }) => [name, { shape }]));
  return scaleTokenizerConfigOf(shapes, 'residual', { scales: list, refinementRatio: ratio }, { file });
}

function trainableTransformer(
  settings: unknown,
  { tokenizer, classes, file }: Parameters<TrainableFamily['tokenModel']>[1],
): TrainableDrawingModel {
  const vae = tokenizer.config as ScaleTokenizerConfig;
  const { scales, codeDim, codebookSize: vocabularySize } = vae;
  const fields = new ConfigFields(settings, { file });
  fields.only('depth', 'dim', 'heads', 'hiddenDim', 'isShared', 'isNormalised', 'normEpsilon');
  const dim = fields.count('dim');
  const own = {
    ...{ depth: fields.count('depth'), dim, heads: fields.count('heads') },
    hiddenDim: fields.count('hiddenDim', 4 * dim),
    isShared: fields.flag('isShared', false),
    isNormalised: fields.flag('isNormalised', true),
    normEpsilon: fields.positive('normEpsilon', { fallback: 1e-6 }),
  };
  const { depth, heads, normEpsilon } = own;
  const fail = (message: string, entry: string) => new DetailFlowError('config', message, { file, entry });
  if (depth > MOST_LAYERS) throw fail(`is ${depth}; at most ${MOST_LAYERS}`, 'depth');
  if (dim % heads !== 0) throw fail(`is ${heads}; must divide dim (${dim})`, 'heads');
  const stated: ScaleTransformerConfig = {
    ...{ scales, ...own, vocabularySize, codeDim, classes, positions: 'table' },
  };
  const specs = scaleTransformerParameters(stated);
  const shapes = new Map(specs.map(({ name, shape }) => [name, { shape }]));
  const config = scaleTransformerConfigOf(shapes, scales, { heads, normEpsilon }, { file });
  return {
    ...{ config, settings: own, specs, ignored: ignoredScaleWeights(config) },
    ...{ initial: drawnTransformer(config), decays: isDecaying },
    ...{ tokens: tokenizer.tokens, vocabularySize, classes, layers: depth, dim },
    loss(graph, p, { batch, dropout }) {
      const codes = graph.input('codes', 'i32', [batch, tokenizer.tokens]);
      const frozen = parameterAccess(graph, scaleTokenizerParameters(vae));
      const { loss, positionLoss } = scaleLoss(p, config, {
        ...{ labels: graph.input('labels', 'i32', [batch]), codes, maps: scaleInputs(frozen, vae, codes) },
        ...(dropout && {
          dropPath: (layer, branch, x) =>
            dropout(x, { layer, branch: branch === 'attention' ? 'attention' : 'feed-forward' }),
        }),
      });
      return { loss, positionLoss };
    },
    feeds: ({ labels, targets }) => ({
      labels: new Tensor('int32', labels, [labels.length]),
      codes: new Tensor('int32', targets, [labels.length, tokenizer.tokens]),
    }),
    create: ({ weights, backend, tokenizer: vaeWeights }) =>
      createScaleTokenModel({ config, weights, backend, tokenizer: { config: vae, weights: vaeWeights } }),
    createTokenizer: ({ weights, backend }) => createScaleTokenizer({ config: vae, weights, backend }),
  };
}

const MOST_LAYERS = 1024;

/** Factor of the rows that make gammas (`alng`), as VAR-d16 begins. */
const GAMMA = 1e-3;

/** Source: docs/family/var.md section 4. */
function drawnTransformer({ dim, depth }: ScaleTransformerConfig): InitialValues {
  const deviation = Math.sqrt(1 / (3 * dim));
  return (name, shape, random) => {
    if (name.endsWith('bias')) return () => 0;
    if (name.includes('scale_mul')) return () => Math.log(4);
    const draw = () => {
      let x = deviation * random.normal();
      while (Math.abs(x) > 2) x = deviation * random.normal();
      return x;
    };
    const size = shape.reduce((a, b) => a * b, 1);
    const modulating = (drawn: () => number) => {
      let at = 0;
      return () => drawn() * (at++ < size / 3 ? GAMMA : 0.5);
    };
    if (name.endsWith('ada_gss')) return modulating(() => random.normal() / Math.sqrt(dim));
    if (name.startsWith('head_nm.')) return () => 0.5 * draw();
    if (name.includes('ada_lin')) return modulating(draw);
    if (name === 'head.weight') return () => 0.02 * draw();
    if (/(attn\.proj|ffn\.fc2)\.weight$/.test(name)) return () => draw() / Math.sqrt(2 * depth);
    return draw;
  };
}

/** Source: docs/family/var.md section 4. */
const isDecaying = (name: string, { length }: readonly number[]): boolean =>
  length >= 2 && !/bias$|pos_1LC|pos_start|lvl_embed|ada_gss|scale_mul/.test(name);
