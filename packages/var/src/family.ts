import { chosenWeights, strideOf, vqOwner } from '@detailflow/blocks';
import {
  type Family,
  type FamilyModel,
  type FoundHalf,
  familyOfHalves,
  type ModelHalves,
  requireStated,
} from '@detailflow/checkpoint';
import { ConfigFields, DetailFlowError, validateWeights } from '@detailflow/core';
import { flexvarRules, varRules } from './family-rules';
import {
  plainDecoderGraph,
  residualDecoderGraph,
  scaleEncoderGraph,
  scaleInputsGraph,
  scaleStepGraph,
} from './graphs';
import { type DrawingRules, releasedScaleFiles } from './released-files';
import { FLEXVAR_SAMPLING, VAR_SAMPLING } from './scale-rules';
import { createScaleTokenModel } from './scale-token-model';
import { createScaleTokenizer } from './scale-tokenizer';
import {
  ignoredScaleWeights,
  type ScaleTransformerConfig,
  scaleTransformerParameters,
} from './scale-transformer';
import { parseScales, places, placesOf, type Scale, type ScaleLike, scaleStarts } from './scales';
import { scaleTransformerConfigOf } from './var-config';
import {
  FLEXVAR_SCALES,
  ignoredScaleTokenizerWeights,
  renamedVarWeights,
  SCALES_256,
  SCALES_512,
  type ScaleTokenizerConfig,
  scaleTokenizerConfigOf,
  scaleTokenizerParameters,
} from './var-tokenizer-config';

/**
 * VAR: next-scale transformers d16 to d36 and their residual tokenizer, or the tokenizer alone.
 * @see https://detailflow.github.io/detailflow-ts/definitions/var.html
 */
export const varFamily: Family = familyOfHalves({
  name: 'VAR',
  rules: varRules,
  model: (halves) => modelOf('VAR', halves),
});

/** FlexVAR: next-scale transformers for any list of scales and their tokenizer, or the tokenizer alone. */
export const flexvarFamily: Family = familyOfHalves({
  name: 'FlexVAR',
  rules: flexvarRules,
  owns: ({ tokenizer }) => tokenizer !== undefined && vqOwner(tokenizer) === 'flexvar',
  model: (halves) => modelOf('FlexVAR', halves),
});

function modelOf(family: 'VAR' | 'FlexVAR', { tokenizer: found, ar, close }: ModelHalves): FamilyModel {
  const scales = scalesOf(family, found, ar);
  const tokenizer = tokenizerOf(family, found, scales);
  const { config, weights, file } = tokenizer;
  const stride = strideOf(config.encoder);
  const starts = scaleStarts(scales);
  const { codebookSize, codeDim } = config;
  const last = scales[scales.length - 1];
  const imageSize = last.rows * stride;
  const model = ar && transformerOf(ar, tokenizer);
  const settings = new ConfigFields(ar?.settings ?? {}, { file: ar?.file });
  const rules = drawingRules(settings, codebookSize, ar?.file);
  const half = ar &&
    model && { ...ar, weights: chosenWeights(ar.weights, scaleTransformerParameters(model)), config: model };
  return {
    family,
    pictureSize: imageSize,
    ...(last.rows !== last.columns && { pictureWidth: last.columns * stride }),
    tokenizer: {
      description: `${family}'s tokenizer, ${codebookSize} codes of ${codeDim} on ${scales.length} scales, ${stride} x ${stride} pixels each`,
      ...{ config, weights, file, previews: 'scales', tokens: placesOf(scales), imageSize, codebookSize },
      previewCounts: scales.map((scale, k) => starts[k] + places(scale)),
    },
    createTokenizer: ({ backend }) => createScaleTokenizer({ config, weights, file, backend }),
    ...(half && {
      ar: {
        description: `${family} of depth ${half.config.depth}, width ${half.config.dim}, ${placesOf(scales)} tokens on ${scales.length} scales, ${half.config.classes} classes`,
        ...{ config: { ...half.config, ...rules }, file: half.file, tokens: placesOf(scales) },
        ...{ weights: half.weights, schedule: scales.map(places) },
        ...{ vocabularySize: half.config.vocabularySize, classes: half.config.classes },
        ...{ guidances: ['growing'], sampling: family === 'VAR' ? VAR_SAMPLING : FLEXVAR_SAMPLING },
      },
      createTokenModel: ({ backend, dtype }) =>
        createScaleTokenModel({
          ...{ config: half.config, weights: half.weights, file: half.file, backend, dtype, ...rules },
          tokenizer: { config, weights },
        }),
    }),
    graphs: {
      encoder: () => ({ graph: scaleEncoderGraph(config), weights }),
      decoder: () => ({
        graph: config.coding === 'residual' ? residualDecoderGraph(config) : plainDecoderGraph(config, last),
        weights,
      }),
      ...(half && {
        inputs: () => ({ graph: scaleInputsGraph(config), weights }),
        step: () => ({ graph: scaleStepGraph(half.config), weights: half.weights }),
      }),
    },
    releasedFiles: () =>
      releasedScaleFiles(
        { config, weights },
        half && { config: { ...half.config, ...rules }, weights: half.weights },
      ),
    close,
  };
}

/** The list of scales: what settings say, or the one that the positions are for, or that of the released models. */
function scalesOf(family: 'VAR' | 'FlexVAR', tokenizer: FoundHalf, ar?: FoundHalf): readonly Scale[] {
  for (const half of [ar, tokenizer]) {
    const list = half?.settings.scales ?? half?.settings.patch_nums;
    if (list !== undefined) return parseScales(list as readonly ScaleLike[], half?.file);
  }
  if (family === 'FlexVAR') return FLEXVAR_SCALES;
  return ar?.weights.get('pos_1LC')?.shape[1] === placesOf(SCALES_512) ? SCALES_512 : SCALES_256;
}

/** r of the refinement: of a configuration of ours, or under its official name. */
function ratioOf(fields: ConfigFields, file: string): number {
  const own = fields.raw('refinement');
  const ratio = { least: -1, most: 1, fallback: 0.5 };
  if (own === undefined) return fields.number('quant_resi', ratio);
  return new ConfigFields(own, { file, prefix: 'refinement' }).number('ratio', ratio);
}

interface ScaleHalf {
  readonly config: ScaleTokenizerConfig;
  readonly weights: FoundHalf['weights'];
  readonly file: string;
}

function tokenizerOf(
  family: 'VAR' | 'FlexVAR',
  { weights: official, file, settings }: FoundHalf,
  scales: readonly Scale[],
): ScaleHalf {
  const fields = new ConfigFields(settings, { file });
  const isVar = family === 'VAR';
  const weights = isVar ? renamedVarWeights(official) : official;
  if (isVar) {
    fields.expect('same_shape', true);
  } else fields.expect('codebook_l2_norm', true);
  const refinementRatio = ratioOf(fields, file);
  const cosine = fields.raw('isCosine') === undefined ? 'using_znorm' : 'isCosine';
  const options = { scales, refinementRatio, isCosine: isVar && fields.flag(cosine, false) };
  const config = scaleTokenizerConfigOf(weights, isVar ? 'residual' : 'plain', options, { file });
  const { codebookSize, codeDim, encoder } = config;
  requireStated(
    settings,
    isVar
      ? {
          z_channels: codeDim,
          quant_conv_ks: config.quantKernel,
          vocab_size: codebookSize,
        }
      : { z_channels: encoder.latentChannels, codebook_size: codebookSize, codebook_embed_dim: codeDim },
    file,
  );
  validateWeights(weights, scaleTokenizerParameters(config), { file, ignore: ignoredScaleTokenizerWeights });
  const specs = scaleTokenizerParameters(config);
  return { config, weights: chosenWeights(weights, specs), file };
}

function transformerOf({ weights, file, settings }: FoundHalf, tokenizer: ScaleHalf): ScaleTransformerConfig {
  const fields = new ConfigFields(settings, { file });
  const given = (names: readonly string[]) => names.find((name) => fields.raw(name) !== undefined);
  const [heads, epsilon] = [given(['heads', 'num_heads']), given(['normEpsilon', 'norm_eps'])];
  const { codebookSize, codeDim, scales } = tokenizer.config;
  const config = scaleTransformerConfigOf(
    weights,
    scales,
    {
      heads: heads === undefined ? undefined : fields.count(heads),
      normEpsilon: epsilon === undefined ? undefined : fields.positive(epsilon),
    },
    { file, tokenizer: tokenizer.file },
  );
  requireStated(
    settings,
    { depth: config.depth, embed_dim: config.dim, num_heads: config.heads, num_classes: config.classes },
    file,
  );
  validateWeights(weights, scaleTransformerParameters(config), { file, ignore: ignoredScaleWeights(config) });
  if (config.vocabularySize === codebookSize && config.codeDim === codeDim) return config;
  throw new DetailFlowError(
    'config',
    `tokenizer and transformer do not belong together: ${tokenizer.file} has ${codebookSize} codes of ${codeDim}, the ` +
      `transformer ${config.vocabularySize} of ${config.codeDim}`,
    { file },
  );
}

function drawingRules(fields: ConfigFields, codes: number, file?: string): DrawingRules {
  const [largest, invalid] = ['largestDrawn', 'invalidCodes'].map((own, i) => {
    const official = ['max_pn', 'invalid_ids'][i];
    return fields.raw(own) === undefined ? official : own;
  });
  const list = fields.raw(invalid);
  const isCode = (one: unknown) =>
    typeof one === 'number' && Number.isInteger(one) && one >= 0 && one < codes;
  if (list !== undefined && !(Array.isArray(list) && list.every(isCode))) {
    throw new DetailFlowError('config', `must be a list of codes from 0 to ${codes - 1}`, {
      file,
      entry: invalid,
    });
  }
  return {
    ...(fields.raw(largest) !== undefined && { largestDrawn: fields.count(largest) }),
    ...(list !== undefined && { invalidCodes: list as number[] }),
  };
}
