import type { TokenModel } from '@detailflow/core';

export interface GuidanceOptions {
  /** Classifier-free guidance scale s: logits = uncond + (cond - uncond) s. 1 switches it off. */
  readonly cfg: number;
  /** Lowers the scale group by group after the causal tokens. */
  readonly gradualCfg: boolean;
}

/** Whether unconditional sequences have to be computed at all. */
export function needsGuidance({ cfg, gradualCfg }: GuidanceOptions): boolean {
  return cfg !== 1 || gradualCfg;
}

/**
 * The scale for the tokens predicted at `position`: cfg, or with `gradualCfg` for group i of M (i = position / g),
 * from the first group after the causal tokens on, cfg (M - i + 1) / (M + 1). Source: docs/method.md section 4.
 */
export function guidanceScale(
  position: number,
  model: Pick<TokenModel, 'tokens' | 'groupSize' | 'causalTokens'>,
  { cfg, gradualCfg }: GuidanceOptions,
): number {
  if (!gradualCfg || position < model.causalTokens) return cfg;
  const groups = model.tokens / model.groupSize;
  const group = Math.floor(position / model.groupSize);
  return (cfg * (groups - group + 1)) / (groups + 1);
}

/** Guided logits of one token, written into `out`. */
export function guide(
  conditional: Float32Array,
  unconditional: Float32Array,
  scale: number,
  out: Float32Array,
): void {
  for (let i = 0; i < out.length; i++)
    out[i] = unconditional[i] + (conditional[i] - unconditional[i]) * scale;
}
