import { strideOf } from '@detailflow/blocks';
import type { ConfigObject, ReleasedFile, TokenizerHalf, TokenModelHalf } from '@detailflow/checkpoint';
import { type Weights, weightFromArray } from '@detailflow/core';
import { type GptConfig, sizeName } from './gpt-half';
import type { VqConfig } from './vq-config';

/** How many codes the official tokenizers remember. */
const RECENT_CODES = 65536;

/**
 * A model as LlamaGen and PAR release it: { model } of each half. What these files do not say stands in a config.json beside
 * them, under the names of the official constructors. Which codes were used lately is forgotten.
 */
export function releasedGptFiles(
  tokenizer: TokenizerHalf & { readonly config: VqConfig },
  ar: TokenModelHalf | undefined,
  gpt: GptConfig | undefined,
): ReleasedFile[] {
  const vq = tokenizer.config;
  const stride = strideOf(vq.encoder);
  const suffix = gpt?.kind === 'text' ? 't2i' : 'c2i';
  return [
    { path: `vq_ds${stride}_${suffix}.pt`, torch: { model: withStatistics(tokenizer.weights) } },
    ...(ar && gpt ? [{ path: fileName(gpt, vq), torch: { model: ar.weights } }] : []),
    {
      path: 'config.json',
      json: {
        vq: { image_size: vq.imageSize, codebook_l2_norm: vq.isNormalised },
        ...(gpt && { gpt: gptArguments(gpt) }),
      },
    },
  ];
}

function withStatistics(weights: Weights): Weights {
  const name = 'quantize.codebook_used';
  const used = weightFromArray(name, [RECENT_CODES], new Float32Array(RECENT_CODES));
  return new Map([[name, used], ...weights]);
}

function gptArguments({ tokens, heads, kvHeads, ropeBase, normEpsilon }: GptConfig): ConfigObject {
  return {
    block_size: tokens,
    n_head: heads,
    n_kv_head: kvHeads,
    rope_base: ropeBase,
    norm_eps: normEpsilon,
  };
}

/** c2i_L_384.pt, t2i_XL_256.pt, PAR-XL-4x.pt. */
function fileName(gpt: GptConfig, vq: VqConfig): string {
  const size = sizeName(gpt)?.replace('GPT-', '') ?? `${gpt.layers}x${gpt.dim}`;
  if (gpt.kind === 'text') return `t2i_${size}_${vq.imageSize}.pt`;
  if (gpt.arrangement === 'regions') return `PAR-${size}-${gpt.groupSize}x.pt`;
  return `c2i_${size}_${vq.imageSize}.pt`;
}
