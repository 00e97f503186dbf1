import {
  type ConvTowerConfig,
  convTowerConfig,
  convTowerParameters,
  parseConvTower,
  strideOf,
  type WeightShapes,
} from '@detailflow/blocks';
import { ConfigFields, checkOptions, DetailFlowError, type ParameterSpec } from '@detailflow/core';

/** Everything that determines the graphs of a VQ tokenizer. Source: docs/family/llamagen.md section 1. */
export interface VqConfig {
  /** Side in pixels of the images that a full code stands for. */
  readonly imageSize: number;
  readonly encoder: ConvTowerConfig;
  readonly decoder: ConvTowerConfig;
  readonly codebookSize: number;
  /** Width of a code, d. */
  readonly codeDim: number;
  /** Codes and latents are compared as unit vectors; so in all released models. */
  readonly isNormalised: boolean;
}

/** Codes along each side of an image of the full size. */
export const gridOf = (config: VqConfig): number => config.imageSize / strideOf(config.encoder);

/** Names (those of the official state dict) and shapes of every weight. */
export function vqParameters({ encoder, decoder, codebookSize, codeDim }: VqConfig): ParameterSpec[] {
  const conv = (name: string, from: number, to: number) => [
    { name: `${name}.weight`, shape: [to, from, 1, 1] },
    { name: `${name}.bias`, shape: [to] },
  ];
  return [
    ...convTowerParameters('encoder', encoder),
    ...convTowerParameters('decoder', decoder),
    { name: 'quantize.embedding.weight', shape: [codebookSize, codeDim] },
    ...conv('quant_conv', encoder.latentChannels, codeDim),
    ...conv('post_quant_conv', codeDim, decoder.latentChannels),
  ];
}

/** Statistics that checkpoints hold besides. */
export const ignoredVqWeights: readonly string[] = ['quantize.codebook_used'];

/**
 * The sizes of a tokenizer, read off its weights.
 * @param options.imageSize side of a full image; 256 unless said, no file says it
 * @throws DetailFlowError `weights` or `config`
 */
export function vqConfigOf(
  weights: WeightShapes,
  options: { readonly imageSize?: number; readonly isNormalised?: boolean; readonly file?: string } = {},
): VqConfig {
  checkOptions('vqConfigOf', options, { imageSize: true, isNormalised: true, file: true });
  const { imageSize = 256, isNormalised = true, file } = options;
  const codebook = weights.get('quantize.embedding.weight')?.shape;
  if (codebook?.length !== 2) {
    throw new DetailFlowError('weights', 'there is no codebook [codes, width]', {
      file,
      entry: 'quantize.embedding.weight',
    });
  }
  const [codebookSize, codeDim] = codebook;
  const encoder = convTowerConfig('encoder', weights, { file });
  const decoder = convTowerConfig('decoder', weights, { file });
  return checked({ imageSize, encoder, decoder, codebookSize, codeDim, isNormalised }, file);
}

/**
 * A configuration from plain data, checked and bounded.
 * @throws DetailFlowError `config` naming the field that no tokenizer can be built from
 */
export function parseVqConfig(value: unknown, file?: string): VqConfig {
  const fields = new ConfigFields(value, { file });
  const tower = (prefix: 'encoder' | 'decoder') => parseConvTower(fields.raw(prefix), { file, prefix });
  return checked(
    {
      imageSize: fields.count('imageSize'),
      encoder: tower('encoder'),
      decoder: tower('decoder'),
      codebookSize: fields.count('codebookSize'),
      codeDim: fields.count('codeDim'),
      isNormalised: fields.raw('isNormalised') !== false,
    },
    file,
  );
}

/** Beyond any picture of such models; bounds what a broken file can ask for. */
const LARGEST_IMAGE = 4096;

function checked(config: VqConfig, file?: string): VqConfig {
  const { encoder, decoder, imageSize } = config;
  const stride = strideOf(encoder);
  const fail = (message: string): never => {
    throw new DetailFlowError('config', message, { file });
  };
  if (strideOf(decoder) !== stride) {
    fail(`the encoder shrinks ${stride} times, the decoder grows ${strideOf(decoder)} times`);
  }
  if (imageSize % stride !== 0 || imageSize > LARGEST_IMAGE) {
    fail(`the image size ${imageSize} must be a multiple of ${stride}, at most ${LARGEST_IMAGE}`);
  }
  const channels = [...encoder.channels, ...decoder.channels, encoder.stem ?? encoder.channels[0]];
  const odd = channels.find((n) => n % 32 !== 0);
  if (odd !== undefined) fail(`${odd} channels cannot be divided into the 32 groups of its norms`);
  return config;
}
