import { createTokenModel, type GroupTokenModel } from '@detailflow/ar-model';
import { createNodeBackend } from '@detailflow/backend-node';
import type { BundleCard } from '@detailflow/checkpoint';
import {
  type Backend,
  type CallOptions,
  DetailFlowError,
  pixelToByte,
  type Tensor,
  type WeightDType,
} from '@detailflow/core';
import { psnr, tokenWorth, worthTarget } from '@detailflow/eval';
import {
  type GenerateOptions,
  type GenerationStep,
  generate,
  type VaryOptions,
  vary,
} from '@detailflow/sampler';
import { createTokenizer, type Tokenizer } from '@detailflow/tokenizer';
import { type ModelSource, type OpenedModel, openModel } from './model-source';

export interface LoadOptions extends CallOptions {
  /** Where to compute. A CPU backend of its own if omitted, closed with the model. */
  readonly backend?: Backend;
  /** How the matrices of the AR model are held: 'fp32' (default), or rounded to 'q8' or 'q4', which is faster. */
  readonly dtype?: WeightDType;
}

/** A reconstruction from the first `tokens` tokens. */
export interface Reconstruction {
  readonly tokens: number;
  /** Side of `pixels`: what that many tokens are worth. */
  readonly resolution: number;
  /** float32 [B, 3, R, R]. */
  readonly pixels: Tensor;
  /** PSNR in dB of each of them as 8-bit picture, against the original resized the same way. */
  readonly psnr: readonly number[];
}

/**
 * Loads a model from a bundle or from official checkpoints.
 * @throws DetailFlowError naming the file and what is wrong with it
 */
export async function load(source: ModelSource, options: LoadOptions = {}): Promise<Model> {
  const opened = await openModel(source, options);
  try {
    options.signal?.throwIfAborted();
    const backend = options.backend ?? (await createNodeBackend());
    return new Model(opened, backend, { ownsBackend: options.backend === undefined, dtype: options.dtype });
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** A tokenizer and, where there is one, the AR model that belongs to it, on one backend. */
export class Model {
  readonly tokenizer: Tokenizer;
  /** Missing when only a tokenizer was loaded. */
  readonly tokenModel?: GroupTokenModel;
  /** Card of the bundle, if the model came from one. */
  readonly card?: BundleCard;
  readonly backend: Backend;
  readonly #opened: OpenedModel;
  readonly #ownsBackend: boolean;

  /** @internal Use {@link load}. */
  constructor(opened: OpenedModel, backend: Backend, options: { ownsBackend: boolean; dtype?: WeightDType }) {
    this.#opened = opened;
    this.#ownsBackend = options.ownsBackend;
    this.backend = backend;
    this.card = opened.card;
    this.tokenizer = createTokenizer({ ...opened.tokenizer, backend });
    if (opened.ar) this.tokenModel = createTokenModel({ ...opened.ar, backend, dtype: options.dtype });
  }

  /** Draws pictures; see `generate` of `@detailflow/sampler` for the options. */
  generate(
    options: Omit<GenerateOptions, 'model' | 'tokenizer'>,
  ): AsyncGenerator<GenerationStep, void, void> {
    return generate({ ...options, model: this.#requireTokenModel(), tokenizer: this.tokenizer });
  }

  /** Draws variations of pictures float32 [B, 3, S, S] in [-1, 1]; see `vary` of `@detailflow/sampler`. */
  vary(
    images: Tensor,
    options: Omit<VaryOptions, 'model' | 'tokenizer'>,
  ): AsyncGenerator<GenerationStep, void, void> {
    return vary(images, { ...options, model: this.#requireTokenModel(), tokenizer: this.tokenizer });
  }

  /** Images float32 [B, 3, S, S] in [-1, 1] -> codes int32 [B, n]. */
  encode(images: Tensor, options?: CallOptions & { tokens?: number }): Promise<Tensor> {
    return this.tokenizer.encode(images, options);
  }

  /** Codes int32 [B, n] -> images float32 [B, 3, R, R]. */
  decode(codes: Tensor, options?: CallOptions & { tokens?: number; size?: number }): Promise<Tensor> {
    return this.tokenizer.decode(codes, options);
  }

  /**
   * Encodes images of full size and draws them again from ever more of their tokens.
   * @param options.tokens token counts to draw; default: 1, 2, 4, ... and all
   */
  async *reconstruct(
    images: Tensor,
    options: CallOptions & { tokens?: readonly number[] } = {},
  ): AsyncGenerator<Reconstruction, void, void> {
    const { signal, tokens: counts = doublings(this.tokenizer.tokens) } = options;
    const codes = await this.encode(images, { signal });
    const size = images.dims[2];
    for (const tokens of counts) {
      const worth = tokenWorth(this.tokenizer, tokens, size);
      const pixels = await this.decode(codes, { tokens, size: worth.size, signal });
      yield { tokens, resolution: worth.size, pixels, psnr: psnrOfEach(pixels, worthTarget(images, worth)) };
    }
  }

  /** Frees the model, and its backend if `load` made it. */
  async dispose(): Promise<void> {
    await this.#opened.close();
    if (this.#ownsBackend) {
      await this.backend.close();
      return;
    }
    await this.tokenizer.dispose();
    await this.tokenModel?.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  #requireTokenModel(): GroupTokenModel {
    if (this.tokenModel) return this.tokenModel;
    throw new DetailFlowError(
      'unsupported',
      'this model has no AR part: it can encode and decode, not generate',
    );
  }
}

function doublings(limit: number): number[] {
  const counts: number[] = [];
  for (let n = 1; n < limit; n *= 2) counts.push(n);
  return [...counts, limit];
}

function psnrOfEach(restored: Tensor, originals: Tensor): number[] {
  const [batch, ...rest] = originals.dims;
  const size = rest.reduce((a, b) => a * b, 1);
  const part = (tensor: Tensor, i: number) =>
    (tensor.data as Float32Array).subarray(i * size, (i + 1) * size);
  const shown = (values: Float32Array) => values.map((value) => pixelToByte(value) / 127.5 - 1);
  return Array.from({ length: batch }, (_, i) => psnr(shown(part(restored, i)), part(originals, i)));
}
