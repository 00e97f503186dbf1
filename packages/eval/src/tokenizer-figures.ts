import { Tensor } from '@detailflow/core';
import { centerView, type ImageDataset, imageValues, type ViewOptions } from '@detailflow/data';
import type { Tokenizer, TokenizerConfig } from '@detailflow/tokenizer';
import { bytesOf } from './image-source';
import { psnr } from './psnr';
import { ssim } from './ssim';

/** Numbers of tokens at which reconstructions are looked at: 1, 2, 4, ... as far as they exist, and all. */
export function previewCounts(
  config: Pick<TokenizerConfig, 'tokens' | 'causalTokens' | 'groupSize'>,
): number[] {
  const { tokens, causalTokens, groupSize } = config;
  const counts: number[] = [];
  for (let n = 1; n < tokens; n *= 2) if (n <= causalTokens || n % groupSize === 0) counts.push(n);
  return [...counts, tokens];
}

/** How well a tokenizer restores images. */
export interface TokenizerFigures {
  readonly images: number;
  /** By number of tokens, decoded at full size: means over images of PSNR in dB and SSIM of the 8-bit images. */
  readonly byTokens: readonly { readonly tokens: number; readonly psnr: number; readonly ssim: number }[];
  /** Share of the codebook that the images use. */
  readonly usage: number;
  /** 2 to the entropy of the codes: as many equally likely codes would be as hard to guess. */
  readonly perplexity: number;
}

export interface TokenizerFigureOptions {
  readonly tokenizer: Tokenizer;
  readonly dataset: ImageDataset;
  readonly view: Pick<ViewOptions, 'size' | 'fit'>;
  /** Numbers of tokens to restore from. */
  readonly counts: readonly number[];
  /** Images, from the first; default all. */
  readonly images?: number;
  readonly batch?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

/** Restores images of a data set from some numbers of tokens. Source of the figures: docs/method.md section 6. */
export async function tokenizerFigures(options: TokenizerFigureOptions): Promise<TokenizerFigures> {
  const { tokenizer, dataset, view, counts, batch = 64, signal, onProgress } = options;
  const total = Math.min(options.images ?? dataset.labels.length, dataset.labels.length);
  const { size } = view;
  const length = 3 * size * size;
  const sums = counts.map(() => ({ psnr: 0, ssim: 0 }));
  const uses = new Float64Array(tokenizer.codebookSize);
  for (let first = 0; first < total; first += batch) {
    const count = Math.min(batch, total - first);
    const values = new Float32Array(count * length);
    for (let i = 0; i < count; i++) {
      const image = centerView(await dataset.image(first + i), view);
      imageValues(image, size, values.subarray(i * length, (i + 1) * length));
    }
    const codes = await tokenizer.encode(new Tensor('float32', values, [count, 3, size, size]), { signal });
    for (const code of codes.data as Int32Array) uses[code]++;
    for (const [c, tokens] of counts.entries()) {
      const { data } = bytesOf(await tokenizer.decode(codes, { tokens, size, signal }));
      for (let i = 0; i < count; i++) {
        const restored = byteValues(data.subarray(i * length, (i + 1) * length), size * size);
        const original = values.subarray(i * length, (i + 1) * length);
        sums[c].psnr += psnr(restored, original);
        sums[c].ssim += ssim(restored, original, { channels: 3, height: size, width: size });
      }
    }
    onProgress?.(first + count, total);
  }
  const codes = uses.reduce((a, b) => a + b, 0);
  const entropy = uses.reduce((sum, use) => (use > 0 ? sum - (use / codes) * Math.log(use / codes) : sum), 0);
  return {
    images: total,
    byTokens: counts.map((tokens, c) => ({ tokens, psnr: sums[c].psnr / total, ssim: sums[c].ssim / total })),
    usage: uses.filter((use) => use > 0).length / uses.length,
    perplexity: Math.exp(entropy),
  };
}

/** Bytes [H, W, 3] as values [3, H, W] in [-1, 1]. */
function byteValues(bytes: Uint8Array, plane: number): Float32Array {
  const out = new Float32Array(bytes.length);
  for (let i = 0; i < plane; i++)
    for (let c = 0; c < 3; c++) out[c * plane + i] = bytes[3 * i + c] / 127.5 - 1;
  return out;
}
