/** Sizes of the official GPT models of LlamaGen, PAR and DetailFlow. Source: docs/method.md section 4. */
export const gptSizes = {
  'GPT-B': { layers: 12, heads: 12, dim: 768 },
  'GPT-L': { layers: 24, heads: 16, dim: 1024 },
  'GPT-XL': { layers: 36, heads: 20, dim: 1280 },
  'GPT-XLPlus': { layers: 42, heads: 22, dim: 1408 },
  'GPT-XXL': { layers: 48, heads: 24, dim: 1536 },
  'GPT-XXLPlus': { layers: 48, heads: 30, dim: 1920 },
  'GPT-XXXL': { layers: 48, heads: 40, dim: 2560 },
  'GPT-1B': { layers: 22, heads: 32, dim: 2048 },
  'GPT-3B': { layers: 24, heads: 32, dim: 3200 },
  'GPT-7B': { layers: 32, heads: 32, dim: 4096 },
} as const satisfies Readonly<Record<string, { layers: number; heads: number; dim: number }>>;

/** Width of the SwiGLU layer: two thirds of 4 dim, times `multiplier`, rounded up to `multipleOf`. */
export function feedForwardWidth(dim: number, multipleOf = 256, multiplier?: number | null): number {
  let hidden = Math.trunc((2 * (4 * dim)) / 3);
  if (multiplier !== undefined && multiplier !== null) hidden = Math.trunc(multiplier * hidden);
  return multipleOf * Math.ceil(hidden / multipleOf);
}
