import { strideOf, vqOwner } from '@detailflow/blocks';
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
  validateWeights,
  type Weights,
} from '@detailflow/core';
import { flexvarRules, varRules } from './family-rules';
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

/** VAR: next-scale transformers d16 to d36 and their residual tokenizer, or the tokenizer alone. */
export const varFamily: Family = {
  name: 'VAR',
  async recognise(files, options) {
    const halves = await recogniseHalves(files, varRules, options);
    await halves?.close();
    return halves !== undefined;
  },
  open: (files, options) => opened('VAR', files, options),
};

/** FlexVAR: next-scale transformers for any list of scales and their tokenizer, or the tokenizer alone. */
export const flexvarFamily: Family = {
  name: 'FlexVAR',
  async recognise(files, options) {
    const halves = await recogniseHalves(files, flexvarRules, options);
    if (!halves) return false;
    await halves.close();
    return (
      halves.ar !== undefined || (halves.tokenizer !== undefined && vqOwner(halves.tokenizer) === 'flexvar')
    );
  },
  open: (files, options) => opened('FlexVAR', files, options),
};

async function opened(
  name: 'VAR' | 'FlexVAR',
  ...[files, options]: Parameters<Family['open']>
): Promise<FamilyModel> {
  const halves = await openHalves(files, name === 'VAR' ? varRules : flexvarRules, options);
  try {
    return modelOf(name, halves);
  } catch (error) {
    await halves.close();
    throw error;
  }
}

interface Halves {
  readonly tokenizer: FoundHalf;
  readonly ar?: FoundHalf;
  /** Frees what it holds, files included. */
  close(): Promise<void>;
}

function modelOf(family: 'VAR' | 'FlexVAR', { tokenizer: found, ar, close }: Halves): FamilyModel {
  const scales = scalesOf(family, found, ar);
  const tokenizer = tokenizerOf(family, found, scales);
  const { config, weights, file } = tokenizer;
  const stride = strideOf(config.encoder);
  const starts = scaleStarts(scales);
  const { codebookSize, codeDim } = config;
  const imageSize = scales[scales.length - 1].rows * stride;
  const model = ar && transformerOf(ar, tokenizer);
  const settings = new ConfigFields(ar?.settings ?? {}, { file: ar?.file });
  const rules = drawingRules(settings, codebookSize, ar?.file);
  return {
    family,
    pictureSize: imageSize,
    tokenizer: {
      description: `${family}'s tokenizer, ${codebookSize} codes of ${codeDim} on ${scales.length} scales, ${stride} x ${stride} pixels each`,
      ...{ config, weights, file, previews: 'scales', tokens: placesOf(scales), imageSize, codebookSize },
      previewCounts: scales.map((scale, k) => starts[k] + places(scale)),
    },
    createTokenizer: ({ backend }) => createScaleTokenizer({ config, weights, file, backend }),
    ...(ar &&
      model && {
        ar: {
          description: `${family} of depth ${model.depth}, width ${model.dim}, ${placesOf(scales)} tokens on ${scales.length} scales, ${model.classes} classes`,
          ...{ config: { ...model, ...rules }, file: ar.file, tokens: placesOf(scales) },
          weights: chosen(ar.weights, scaleTransformerParameters(model)),
          schedule: scales.map(places),
          ...{ vocabularySize: model.vocabularySize, classes: model.classes, guidances: ['growing'] },
          sampling: family === 'VAR' ? VAR_SAMPLING : FLEXVAR_SAMPLING,
        },
        createTokenModel: ({ backend, dtype }) =>
          createScaleTokenModel({
            ...{ config: model, weights: ar.weights, file: ar.file, backend, dtype, ...rules },
            tokenizer: { config, weights },
          }),
      }),
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

/** The weights of a model without the tables and statistics that its file holds besides. */
const chosen = (weights: Weights, specs: readonly ParameterSpec[]): Weights =>
  new Map([...weights].filter(([name]) => specs.some((spec) => spec.name === name)));

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
    fields.expect('using_znorm', false);
    fields.expect('same_shape', true);
  } else fields.expect('codebook_l2_norm', true);
  const refinementRatio = fields.number('quant_resi', { least: -1, most: 1, fallback: 0.5 });
  const options = { scales, refinementRatio };
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
  return { config, weights: chosen(weights, specs), file };
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
    { file },
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

/** Settings of FlexVAR's sampler. */
function drawingRules(fields: ConfigFields, codes: number, file?: string) {
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
