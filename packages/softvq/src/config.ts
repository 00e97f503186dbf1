import { patchesPerSide, prefixTokens, type VitConfig } from '@detailflow/blocks';
import { ConfigFields, DetailFlowError } from '@detailflow/core';

const kinds = ['soft', 'vq', 'kl', 'ae'] as const;

/**
 * How latents are made: `soft`, a mixture of codes (SoftVQ); `vq`, the nearest code; `kl`, a normal distribution; `ae`, as they
 * are (MAETok).
 */
export type LatentKind = (typeof kinds)[number];

/** Everything that determines the graphs of a tokenizer. Source: docs/family/softvq.md. */
export interface SoftVqConfig {
  readonly kind: LatentKind;
  /** Side of every image in pixels. */
  readonly imageSize: number;
  /** Latents of an image, L. */
  readonly tokens: number;
  /** Width of a latent, d. */
  readonly latentDim: number;
  readonly encoder: VitConfig;
  readonly decoder: VitConfig;
  /** Patches are turned by learned frequencies, in both towers; the decoder adds no table of positions then. */
  readonly isRotary: boolean;
  /** Codebooks, each for a run of latents; 1 unless the kind is `soft`, 0 where there are no codes. */
  readonly codebooks: number;
  /** Codes in each; 0 where there are none. */
  readonly codebookSize: number;
  /** Latents and codes are compared as unit vectors. */
  readonly isNormalised: boolean;
  /** Divides the similarities before the softmax (`soft`). */
  readonly temperature: number;
  /** Mean and deviation by which generators standardise latents. */
  readonly latentMean: number;
  readonly latentDeviation: number;
}

/** Beyond any picture of such models; bounds what a broken file can ask for. */
export const LARGEST_IMAGE = 4096;
const MOST_TOKENS = 1 << 14;
const MOST_LAYERS = 1024;
const WIDEST = 1 << 16;

/**
 * A configuration as {@link SoftVqConfig} says, from a file.
 * @throws DetailFlowError `config` or `unsupported` naming the field that no tokenizer can be built from
 */
export function parseSoftVqConfig(value: unknown, file?: string): SoftVqConfig {
  const fields = new ConfigFields(value, { file });
  const imageSize = fields.count('imageSize');
  const tower = (name: 'encoder' | 'decoder'): VitConfig => {
    const inner = new ConfigFields(fields.raw(name), { file, prefix: name });
    return {
      ...{ imageSize, patchSize: inner.count('patchSize'), width: inner.count('width') },
      ...{ heads: inner.count('heads'), layers: inner.count('layers'), hiddenDim: inner.count('hiddenDim') },
      feedForward: inner.choice('feedForward', ['gelu', 'swiglu']),
      hasClass: inner.flag('hasClass'),
      registers: inner.raw('registers') === 0 ? 0 : inner.count('registers'),
      positions: inner.choice('positions', ['patches', 'class-and-patches']),
      isScaled: inner.flag('isScaled'),
    };
  };
  const kind = fields.choice('kind', kinds);
  const hasCodes = kind === 'soft' || kind === 'vq';
  return checkedConfig(
    {
      ...{ kind, imageSize, tokens: fields.count('tokens'), latentDim: fields.count('latentDim') },
      ...{ encoder: tower('encoder'), decoder: tower('decoder'), isRotary: fields.flag('isRotary') },
      codebooks: hasCodes ? fields.count('codebooks') : 0,
      codebookSize: hasCodes ? fields.count('codebookSize') : 0,
      isNormalised: fields.flag('isNormalised'),
      temperature: fields.positive('temperature'),
      latentMean: fields.number('latentMean', { least: -1e6, most: 1e6 }),
      latentDeviation: fields.positive('latentDeviation', { largest: 1e6 }),
    },
    file,
  );
}

/** @throws DetailFlowError `config`, or `unsupported` for what the official program cannot run either */
export function checkedConfig(config: SoftVqConfig, file?: string): SoftVqConfig {
  const { imageSize, tokens, codebooks, encoder, decoder, isRotary } = config;
  const fail = (message: string, entry?: string): never => {
    throw new DetailFlowError('config', message, { file, entry });
  };
  if (imageSize > LARGEST_IMAGE) fail(`images of ${imageSize} pixels; at most ${LARGEST_IMAGE}`);
  if (tokens > MOST_TOKENS) fail(`${tokens} latents; at most ${MOST_TOKENS}`);
  if (config.kind === 'soft' && tokens % codebooks !== 0) {
    fail(`${tokens} latents cannot be divided into runs for ${codebooks} codebooks`);
  }
  for (const [name, tower] of Object.entries({ encoder, decoder })) {
    const { width, heads, layers, hiddenDim } = tower;
    const side = patchesPerSide(tower);
    if (layers > MOST_LAYERS || width > WIDEST || hiddenDim > WIDEST || prefixTokens(tower) > WIDEST) {
      fail(`more than ${MOST_LAYERS} layers, or an extent beyond ${WIDEST}`, name);
    }
    if (width % heads !== 0) fail(`a width of ${width} cannot be divided into ${heads} heads`, name);
    if (!Number.isInteger(side) || side * side > WIDEST) {
      fail(`${imageSize} pixels are no multiple of ${tower.patchSize}, or too many patches`, name);
    }
    if (isRotary && (width / heads) % 2 !== 0)
      fail(`heads of width ${width / heads} have no pairs to turn`, name);
    const addsTable = name === 'encoder' || !isRotary;
    if (addsTable && tower.positions === 'class-and-patches' && !(tower.hasClass && tower.registers === 0)) {
      throw new DetailFlowError(
        'unsupported',
        'its table of positions has a row more than there are patches, for a class token alone, but the prefix is another one; ' +
          'without a class token, a decoder must have rotary positions or registers',
        { file, entry: name },
      );
    }
  }
  return config;
}
