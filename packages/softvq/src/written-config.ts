import type { VitConfig } from '@detailflow/blocks';
import type { ConfigObject } from '@detailflow/checkpoint';
import type { SoftVqConfig } from './config';
import { modelOfSizes } from './towers';

/** A configuration as it is released: config.json, and a timm_vit.json where transformers have sizes of their own. */
export interface WrittenConfig {
  readonly args: ConfigObject;
  readonly sizes?: ConfigObject;
}

/** The arguments from which `softVqConfigOf` reads a configuration. Source: docs/family/softvq.md section 5. */
export function writtenSoftVqConfig(config: SoftVqConfig): WrittenConfig {
  const { kind, encoder, decoder, isRotary } = config;
  const hasCodes = kind === 'soft' || kind === 'vq';
  const named = { encoder: modelOfSizes(encoder), decoder: modelOfSizes(decoder) };
  const isNamed = named.encoder.isExact && named.decoder.isExact;
  return {
    args: {
      ...{ image_size: config.imageSize, num_latent_tokens: config.tokens },
      ...{ codebook_embed_dim: config.latentDim, enc_type: 'vit', dec_type: 'vit', to_pixel: 'linear' },
      ...{ encoder_model: named.encoder.model, decoder_model: named.decoder.model },
      ...{ enc_patch_size: encoder.patchSize, dec_patch_size: decoder.patchSize },
      ...{ dec_cls_token: decoder.hasClass, use_ape: true, use_rope: isRotary, rope_mixed: isRotary },
      ...(hasCodes && {
        ...{ num_codebooks: config.codebooks, codebook_size: config.codebookSize },
        ...{ codebook_l2_norm: config.isNormalised, tau: config.temperature },
      }),
      ...{ vq_mean: config.latentMean, vq_std: config.latentDeviation },
    },
    ...(!isNamed && { sizes: { encoder: sizesOf(encoder), decoder: sizesOf(decoder) } }),
  };
}

const sizesOf = ({ width, heads, layers, registers }: VitConfig): ConfigObject => ({
  ...{ embed_dim: width, num_heads: heads, depth: layers, reg_tokens: registers },
});
