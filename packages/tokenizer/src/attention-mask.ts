import { checkOptions } from '@detailflow/core';
/** Who sees whom among the latent tokens and the patches of a sequence [patches ; latents]. */
export interface MaskOptions {
  readonly patches: number;
  readonly tokens: number;
  readonly groupSize: number;
  readonly causalTokens: number;
  /** Do the patches see the latents? In the decoder they do. */
  readonly patchesSeeLatents: boolean;
  /** Do the latents see the patches? In the encoder they do. */
  readonly latentsSeePatches: boolean;
}

/**
 * Visibility [L, L] with L = patches + tokens: 1 where the row may attend to the column. Patches always see
 * patches. Latent i < causalTokens sees latents up to itself; later ones see all groups up to their own.
 * Source: docs/method.md section 3.
 * @see https://detailflow.github.io/detailflow-ts/guide/how-it-works.html
 */
export function attentionMask(options: MaskOptions): Uint8Array {
  checkOptions('attentionMask', options, {
    patches: true,
    tokens: true,
    groupSize: true,
    causalTokens: true,
    patchesSeeLatents: true,
    latentsSeePatches: true,
  });
  const { patches, tokens } = options;
  const length = patches + tokens;
  const mask = new Uint8Array(length * length);
  for (let row = 0; row < length; row++) {
    const isPatch = row < patches;
    const seesPatches = isPatch || options.latentsSeePatches;
    const latents = isPatch
      ? options.patchesSeeLatents
        ? tokens
        : 0
      : visibleLatents(row - patches, options);
    if (seesPatches) mask.fill(1, row * length, row * length + patches);
    mask.fill(1, row * length + patches, row * length + patches + latents);
  }
  return mask;
}

function visibleLatents(i: number, { tokens, groupSize, causalTokens }: MaskOptions): number {
  return Math.min(tokens, i < causalTokens ? i + 1 : (Math.floor(i / groupSize) + 1) * groupSize);
}
