import { ConfigFields, DetailFlowError, type Weights } from '@detailflow/core';
import { createResolutionMap, type ResolutionMapOptions } from './resolution-map';

/** Sizes of one transformer tower. */
export interface TowerConfig {
  readonly width: number;
  readonly heads: number;
  readonly layers: number;
  readonly mlpWidth: number;
  /** Side of a patch in pixels. */
  readonly patchSize: number;
  /** Side of the square table of position embeddings (16 in all released models). */
  readonly positionGrid: number;
}

/** Everything that determines a tokenizer's graph. docs/method.md section 3 names the symbols. */
export interface TokenizerConfig {
  /** Side of a full image in pixels, Rmax. */
  readonly imageSize: number;
  /** Latent tokens, N. */
  readonly tokens: number;
  /** Tokens of a group, g. */
  readonly groupSize: number;
  /** First tokens that are ordered one by one, c: a multiple of g; 0 where the first group has no order either. */
  readonly causalTokens: number;
  readonly codebookSize: number;
  readonly codebookDim: number;
  readonly encoder: TowerConfig;
  readonly decoder: TowerConfig;
  readonly causalEncoder: boolean;
  readonly causalDecoder: boolean;
  /** Whether the weights of the self-correction pass exist. */
  readonly correction: boolean;
  /** Exponent a of the resolution map. */
  readonly resolutionPower: number;
  /** Whether codes are unit vectors (`codebook_l2_norm`); true unless said. */
  readonly normalisedCodebook?: boolean;
  /**
   * SoftVQ's quantiser: a token is a mixture of codes, the softmax of its cosines over `temperature`, instead of the nearest code. It
   * has no number then, so no AR model predicts it, and there is no self-correction.
   */
  readonly mixture?: { readonly temperature: number };
}

/**
 * A configuration from plain data, such as a bundle's card, checked and bounded.
 * @throws DetailFlowError `config` naming the first field that no tokenizer can be built from
 */
export function parseTokenizerConfig(value: unknown, file?: string): TokenizerConfig {
  const fields = new ConfigFields(value, { file });
  const config: TokenizerConfig = {
    imageSize: fields.count('imageSize'),
    tokens: fields.count('tokens'),
    groupSize: fields.count('groupSize'),
    causalTokens: fields.count('causalTokens', undefined, 0),
    codebookSize: fields.count('codebookSize'),
    codebookDim: fields.count('codebookDim'),
    encoder: parseTower(fields.raw('encoder'), 'encoder', file),
    decoder: parseTower(fields.raw('decoder'), 'decoder', file),
    causalEncoder: fields.flag('causalEncoder'),
    causalDecoder: fields.flag('causalDecoder'),
    correction: fields.flag('correction'),
    resolutionPower: fields.positive('resolutionPower', { largest: LARGEST_POWER }),
    ...(fields.flag('normalisedCodebook', true) ? {} : { normalisedCodebook: false }),
    ...(fields.raw('mixture') !== undefined && {
      mixture: {
        temperature: new ConfigFields(fields.raw('mixture'), { file, prefix: 'mixture' }).positive(
          'temperature',
        ),
      },
    }),
  };
  const entry = config.correction ? 'correction' : 'normalisedCodebook';
  if (config.mixture && (config.correction || config.normalisedCodebook === false)) {
    throw new DetailFlowError(
      'config',
      `must be ${!config.correction} here: mixtures are of unit vectors and cannot be corrected`,
      {
        file,
        entry,
      },
    );
  }
  const { tokens, groupSize, causalTokens } = config;
  if (tokens % groupSize !== 0 || causalTokens % groupSize !== 0 || causalTokens > tokens) {
    throw new DetailFlowError(
      'config',
      `tokens (${tokens}) and causalTokens (${causalTokens}) must be multiples of groupSize (${groupSize}), and causalTokens at most tokens`,
      { file },
    );
  }
  checkSizes(config, file);
  return config;
}

/** Far beyond any plausible model; they bound the lists and attention masks that a broken file can ask for. */
const MOST_LAYERS = 1024;
const MOST_PLACES = 16384;

function checkSizes(config: TokenizerConfig, file?: string): void {
  for (const entry of ['encoder', 'decoder'] as const) {
    const { layers, patchSize } = config[entry];
    if (layers > MOST_LAYERS) {
      throw new DetailFlowError('config', `has ${layers} layers; at most ${MOST_LAYERS} are read`, {
        file,
        entry,
      });
    }
    const places = Math.ceil(config.imageSize / patchSize) ** 2 + config.tokens;
    if (places > MOST_PLACES) {
      throw new DetailFlowError(
        'config',
        `images of ${config.imageSize} pixels in patches of ${patchSize}, and ${config.tokens} tokens, make ` +
          `${places} places; at most ${MOST_PLACES} fit`,
        { file, entry },
      );
    }
  }
  try {
    createResolutionMap(resolutionSettings(config));
  } catch (cause) {
    throw new DetailFlowError('config', (cause as Error).message, { file, cause });
  }
}

/** The resolution map of a configuration. */
export function resolutionSettings(config: TokenizerConfig): ResolutionMapOptions {
  return {
    tokens: config.tokens,
    groupSize: config.groupSize,
    causalNum: config.causalTokens,
    maxImageSize: config.imageSize,
    power: config.resolutionPower,
    encoderPatch: config.encoder.patchSize,
    decoderPatch: config.decoder.patchSize,
  };
}

function parseTower(value: unknown, name: string, file?: string): TowerConfig {
  const fields = new ConfigFields(value, { file, prefix: name });
  const tower: TowerConfig = {
    width: fields.count('width'),
    heads: fields.count('heads'),
    layers: fields.count('layers'),
    mlpWidth: fields.count('mlpWidth'),
    patchSize: fields.count('patchSize'),
    positionGrid: fields.count('positionGrid'),
  };
  if (tower.width % tower.heads !== 0) {
    throw new DetailFlowError(
      'config',
      `the width ${tower.width} is not a multiple of the ${tower.heads} heads`,
      {
        file,
        entry: name,
      },
    );
  }
  return tower;
}

/** What an official tokenizer folder says of its model. */
export interface OfficialTokenizerFiles {
  /** config.json. */
  readonly config: unknown;
  /** config.yaml, if there. */
  readonly args?: unknown;
  /** siglip2_vision.json, if there: the only place where head counts of unusual widths can stand. */
  readonly vision?: unknown;
  /** Widths and layer counts are read off the weights, where they cannot be wrong. */
  readonly weights: Weights;
  /** For messages. */
  readonly file?: string;
}

/** Head counts that the officially used towers imply: so400m, and base. */
const headsByWidth: Readonly<Record<number, number>> = { 1152: 16, 768: 12 };

/**
 * Reads a configuration in the official form. Source: docs/method.md section 3.
 * @throws DetailFlowError `config` when a value is missing or impossible, `unsupported` for other model types
 */
export function officialTokenizerConfig(files: OfficialTokenizerFiles): TokenizerConfig {
  const { weights, file } = files;
  const fields = new ConfigFields(files.config, { file });
  const args = new ConfigFields(files.args ?? {}, { file: beside(file, 'config.yaml') });
  fields.expect('enc_type', 'siglip2');
  fields.expect('dec_type', 'siglip2');
  fields.expect('num_codebooks', 1);
  const groupSize = fields.count('group_size');
  return parseTokenizerConfig(
    {
      imageSize: fields.count(fields.raw('max_image_size') === undefined ? 'image_size' : 'max_image_size'),
      tokens: fields.count('num_latent_tokens'),
      groupSize,
      causalTokens: fields.count('causal_num', groupSize, 0),
      codebookSize: fields.count('codebook_size'),
      codebookDim: fields.count('codebook_embed_dim'),
      encoder: officialTower('encoder', fields.count('enc_patch_size'), files),
      decoder: officialTower('decoder', fields.count('dec_patch_size'), files),
      causalEncoder: fields.flag('causal_encoder', true),
      causalDecoder: fields.flag('causal_decoder', false),
      correction: weights.has('refine_conv.weight'),
      resolutionPower: args.positive('degradation_power', { fallback: 1.5, largest: LARGEST_POWER }),
      normalisedCodebook: fields.flag('codebook_l2_norm', true),
    },
    file,
  );
}

/** A configuration in the official form: config.json, config.yaml and siglip2_vision.json of a tokenizer. */
export function toOfficialTokenizerConfig(config: TokenizerConfig): {
  config: Record<string, unknown>;
  args: Record<string, unknown>;
  vision: Record<string, unknown>;
} {
  const tower = ({ width, heads, layers, mlpWidth, positionGrid }: TowerConfig) => ({
    hidden_size: width,
    intermediate_size: mlpWidth,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_channels: 3,
    num_patches: positionGrid ** 2,
    hidden_act: 'gelu_pytorch_tanh',
    layer_norm_eps: 1e-6,
  });
  return {
    config: {
      image_size: config.imageSize,
      max_image_size: config.imageSize,
      codebook_size: config.codebookSize,
      codebook_embed_dim: config.codebookDim,
      codebook_l2_norm: config.normalisedCodebook ?? true,
      num_codebooks: 1,
      enc_type: 'siglip2',
      dec_type: 'siglip2',
      num_latent_tokens: config.tokens,
      enc_patch_size: config.encoder.patchSize,
      dec_patch_size: config.decoder.patchSize,
      causal_encoder: config.causalEncoder,
      causal_decoder: config.causalDecoder,
      group_size: config.groupSize,
      causal_num: config.causalTokens === config.groupSize ? null : config.causalTokens,
      correction_training: config.correction,
    },
    args: { degradation_power: config.resolutionPower },
    vision: { encoder: tower(config.encoder), decoder: tower(config.decoder) },
  };
}

/** Largest exponent of the resolution map. */
const LARGEST_POWER = 100;

function officialTower(
  name: 'encoder' | 'decoder',
  patchSize: number,
  files: OfficialTokenizerFiles,
): TowerConfig {
  const { weights, file } = files;
  const prefix = `${name}.visual_model.`;
  const shape = (suffix: string) => {
    const weight = weights.get(`${prefix}${suffix}`);
    if (!weight)
      throw new DetailFlowError('weights', 'the weight is missing', { file, entry: `${prefix}${suffix}` });
    return weight.shape;
  };
  const [positions, width] = shape('embeddings.position_embedding.weight');
  const positionGrid = Math.round(Math.sqrt(positions));
  if (positionGrid ** 2 !== positions) {
    throw new DetailFlowError('config', `the position table has ${positions} rows, which is no square`, {
      file,
      entry: name,
    });
  }
  let layers = 0;
  while (weights.has(`${prefix}encoder.layers.${layers}.mlp.fc1.weight`)) layers++;
  const [mlpWidth] = shape('encoder.layers.0.mlp.fc1.weight');
  return { width, heads: headCount(name, width, files), layers, mlpWidth, patchSize, positionGrid };
}

function headCount(
  name: 'encoder' | 'decoder',
  width: number,
  { vision, file }: OfficialTokenizerFiles,
): number {
  const visionFile = beside(file, 'siglip2_vision.json');
  if (vision !== undefined && vision !== null) {
    const tower = new ConfigFields(vision, { file: visionFile }).raw(name);
    return new ConfigFields(tower, { file: visionFile, prefix: name }).count('num_attention_heads');
  }
  const implied = headsByWidth[width];
  if (implied) return implied;
  throw new DetailFlowError(
    'config',
    `the ${name} is ${width} wide, and no file says how many heads (only 1152 and 768 imply it). ` +
      `Put a siglip2_vision.json beside config.json: {"${name}": {"num_attention_heads": ...}, ...}`,
    { file },
  );
}

/** The name of another file in the folder of `file`. */
function beside(file: string | undefined, name: string): string {
  return file === undefined ? name : file.replace(/[^/\\]*$/, name);
}
