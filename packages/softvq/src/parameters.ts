import { patchesPerSide, type VitConfig, vitParameters } from '@detailflow/blocks';
import type { ParameterSpec } from '@detailflow/core';
import type { SoftVqConfig } from './config';

/** Names, those of the official state dict, and shapes of every weight that is used or that every file has. */
export function softVqParameters(config: SoftVqConfig): ParameterSpec[] {
  const { kind, tokens, latentDim, encoder, decoder, codebooks, codebookSize } = config;
  const matrix = (name: string, out: number, into: number) => [
    { name: `${name}.weight`, shape: [out, into] },
    { name: `${name}.bias`, shape: [out] },
  ];
  const frequencies = (side: string, { layers, width }: VitConfig) =>
    config.isRotary ? [{ name: `${side}.freqs`, shape: [2, layers, width / 2] }] : [];
  const codes: Partial<Record<typeof kind, ParameterSpec>> = {
    soft: { name: 'quantize.embedding', shape: [codebooks, codebookSize, latentDim] },
    vq: { name: 'quantize.embedding.weight', shape: [codebookSize, latentDim] },
  };
  const codebook = codes[kind];
  return [
    { name: 'encoder.latent_tokens', shape: [1, tokens, encoder.width] },
    { name: 'encoder.latent_pos_embed', shape: [1, tokens, encoder.width] },
    ...frequencies('encoder', encoder),
    ...vitParameters('encoder.model.', encoder),
    ...matrix('quant_conv', kind === 'kl' ? 2 * latentDim : latentDim, encoder.width),
    { name: 'decoder.mask_token', shape: [1, 1, decoder.width] },
    { name: 'decoder.latent_pos_embed', shape: [1, tokens, decoder.width] },
    ...frequencies('decoder', decoder),
    ...vitParameters('decoder.model.', decoder).filter(
      ({ name }) => !name.startsWith('decoder.model.patch_embed.'),
    ),
    ...matrix('decoder.to_pixel.model', 3 * decoder.patchSize ** 2, decoder.width),
    ...matrix('post_quant_conv', decoder.width, latentDim),
    ...(codebook ? [codebook] : []),
  ];
}

/**
 * What files hold besides: counts of used codes, which mean nothing; columns and rows of patches; the token of masked patches
 * and the networks of the alignment loss, which only training uses; patches of the decoder, which nothing uses.
 */
export const ignoredSoftVqWeights: readonly string[] = [
  'quantize.codebook_used',
  'encoder.freqs_t_x',
  'encoder.freqs_t_y',
  'decoder.freqs_t_x',
  'decoder.freqs_t_y',
  'encoder.mask_token',
  'decoder.model.patch_embed.',
  'repa_model.',
  'projection.',
];

/** Patches that the decoder draws, P. */
export const decoderPatches = ({ decoder }: SoftVqConfig): number => patchesPerSide(decoder) ** 2;
