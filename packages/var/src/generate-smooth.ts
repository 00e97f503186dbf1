import {
  type Backend,
  type CallOptions,
  type Condition,
  checkOptions,
  DetailFlowError,
  decodeInSlices,
  describe,
  exponentialNoise,
  isTensor,
  LazyExecutable,
  ofType,
  type Picture,
  scheduleSteps,
  Tensor,
  type Weights,
} from '@detailflow/core';
import { filterLogits, guide, softmax } from '@detailflow/sampler';
import { mapDecoderGraph } from './graphs';
import { VAR_SAMPLING } from './scale-rules';
import type { ScaleTokenModel } from './scale-token-model';
import { placesOf } from './scales';
import { smoothScaleGraph } from './smooth-graph';
import { varPicture } from './var-picture';
import type { ScaleTokenizerConfig } from './var-tokenizer-config';

/** Options of {@link generateSmooth}. */
export interface SmoothOptions extends CallOptions {
  readonly model: ScaleTokenModel;
  /** The tokenizer that the model belongs to, of residual coding. */
  readonly tokenizer: { readonly config: ScaleTokenizerConfig; readonly weights: Weights };
  readonly backend: Backend;
  readonly labels: readonly Condition[];
  /** Default: those of the official evaluation. */
  readonly cfg?: number;
  readonly topK?: number;
  readonly topP?: number;
  /** Image i uses seed + i. Default 0. */
  readonly seed?: number;
  /** float32 [B, L, V]: Exp(1) draws to use instead of the seed's. */
  readonly noise?: Tensor<'float32'>;
}

/** The picture after a scale. */
export interface SmoothStep {
  /** Scales so far, and in all. */
  readonly scale: number;
  readonly scales: number;
  /** float32 [B, z, H, W]: the sum of the scales. */
  readonly map: Tensor<'float32'>;
  /** float32 [B, 3, H, W] in [-1, 1]. */
  pixels(): Promise<Tensor<'float32'>>;
  /** One picture, the first unless said. */
  image(index?: number): Promise<Picture>;
}

/**
 * VAR's `more_smooth`: every place is a mixture of codes instead of one, which gives smoother pictures and no codes. Meant for
 * looking at, not for figures. Source: docs/family/var.md section 3.
 * @throws DetailFlowError `invalid-argument`, `runtime` for logits that are not finite; the signal's reason when aborted
 */
export async function* generateSmooth(options: SmoothOptions): AsyncGenerator<SmoothStep, void, void> {
  checkOptions('generateSmooth', options, {
    ...{ model: true, tokenizer: true, backend: true, labels: true, cfg: true, topK: true, topP: true },
    ...{ seed: true, noise: true, signal: true },
  });
  const { model, tokenizer, backend, labels, signal } = options;
  const { cfg = 1.5, topK = VAR_SAMPLING.topK ?? 0, topP = VAR_SAMPLING.topP ?? 1 } = options;
  const { scales, vocabularySize: size, codeDim } = model.config;
  requireSettings({ cfg, topK, topP });
  requireResidual(tokenizer.config, model);
  const noiseOf = noiseSource(options);
  const images = labels.length;
  const decoder = new LazyExecutable(() =>
    backend.compile(mapDecoderGraph(tokenizer.config), tokenizer.weights),
  );
  const stepper = await model.beginScales([...labels, ...labels.map(() => model.unconditional())], {
    signal,
  });
  const last = scales[scales.length - 1];
  let map = new Tensor('float32', new Float32Array(images * codeDim * last.rows * last.columns), [
    ...[images, codeDim, last.rows, last.columns],
  ]);
  let fed = new Float32Array(2 * images * model.schedule[0] * codeDim);
  try {
    for (const step of scheduleSteps(model.schedule)) {
      signal?.throwIfAborted();
      const { index: k, count, position, steps } = step;
      const logits = (await stepper.logits(k, fed, signal)).data;
      const ratio = steps > 1 ? k / (steps - 1) : 0;
      const shares = new Float32Array(images * count * size);
      const row = new Float32Array(size);
      for (let i = 0; i < images * count; i++) {
        const own = logits.subarray(i * size, (i + 1) * size);
        const other = logits.subarray((images * count + i) * size, (images * count + i + 1) * size);
        guide(own, other, model.guidances.growing(step, cfg), row);
        if (!row.every(Number.isFinite)) {
          throw new DetailFlowError('runtime', `the logits of scale ${k} are not finite`);
        }
        const kept = filterLogits(row, { temperature: 1, topK, topP });
        const noise = noiseOf(Math.floor(i / count), position + (i % count));
        shares.set(mixture(kept, noise, ratio), i * size);
      }
      const graph = await backend.compile(smoothScaleGraph(tokenizer.config, k), tokenizer.weights);
      try {
        const feeds = { shares: new Tensor('float32', shares, [images, count, size]), map };
        const { sum, next } = await graph.run(feeds, { signal });
        map = ofType(sum, 'float32');
        if (next) fed = twice(ofType(next, 'float32').data);
      } finally {
        await graph.dispose();
      }
      yield smoothStep(k, map);
    }
  } finally {
    await stepper.dispose();
    await decoder.dispose();
  }

  function smoothStep(k: number, sum: Tensor<'float32'>): SmoothStep {
    const pixels = async () => decodeInSlices(await decoder.get(), 'map', sum, {}, signal);
    const image = async (index = 0) => varPicture(await pixels(), index);
    return { scale: k + 1, scales: scales.length, map: sum, pixels, image };
  }
}

/** Shares of the codes at one place: softmax((logits (1 + ratio) + g) / tau), g a Gumbel draw for each. */
function mixture(logits: Float32Array, noise: Float32Array, ratio: number): Float32Array {
  const tau = Math.max(0.27 * (1 - 0.95 * ratio), 0.005);
  return Float32Array.from(
    softmax(logits.map((logit, i) => (logit * (1 + ratio) - Math.log(noise[i])) / tau)),
  );
}

/** The same rows for sequences with and without class. */
function twice(rows: Float32Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(2 * rows.length);
  out.set(rows);
  out.set(rows, rows.length);
  return out;
}

function requireSettings({ cfg, topK, topP }: Required<Pick<SmoothOptions, 'cfg' | 'topK' | 'topP'>>): void {
  const fail = (name: string, value: number, range: string) => {
    throw new DetailFlowError('invalid-argument', `${name} is ${describe(value)}; give ${range}`);
  };
  if (!(Number.isFinite(cfg) && cfg >= 0)) fail('cfg', cfg, 'a number from 0');
  if (!(Number.isInteger(topK) && topK >= 0)) fail('topK', topK, 'a whole number, 0 for no limit');
  if (!(topP >= 0 && topP <= 1)) fail('topP', topP, 'a number from 0 to 1');
}

function requireResidual(tokenizer: ScaleTokenizerConfig, model: ScaleTokenModel): void {
  if (tokenizer.coding !== 'residual') {
    throw new DetailFlowError(
      'invalid-argument',
      'smooth pictures are sums of scales, and this tokenizer (FlexVAR) codes each scale on its own; use generate',
    );
  }
  const { codebookSize, codeDim, scales } = tokenizer;
  const { config } = model;
  if (
    codebookSize !== config.vocabularySize ||
    codeDim !== config.codeDim ||
    placesOf(scales) !== model.tokens
  ) {
    throw new DetailFlowError('invalid-argument', 'the tokenizer and the model do not belong together');
  }
}

/** The noise of one place: from the tensor given, or drawn from the image's seed. */
function noiseSource({ noise, seed = 0, labels, model }: SmoothOptions) {
  const { tokens, vocabularySize: size } = model;
  if (noise === undefined) {
    if (!Number.isSafeInteger(seed)) {
      throw new DetailFlowError('invalid-argument', `seed is ${describe(seed)}; give a whole number`);
    }
    const out = new Float32Array(size);
    return (image: number, position: number) =>
      exponentialNoise({ seed: seed + image, position, count: size, out });
  }
  const shape = [labels.length, tokens, size];
  if (!isTensor(noise) || noise.type !== 'float32' || noise.dims.join() !== shape.join()) {
    throw new DetailFlowError('invalid-argument', `noise is ${describe(noise)}; give float32 [${shape}]`);
  }
  if (!noise.data.every((e) => e > 0)) {
    throw new DetailFlowError('invalid-argument', 'noise holds numbers that are not above 0');
  }
  return (image: number, position: number) => {
    const at = (image * tokens + position) * size;
    return noise.data.subarray(at, at + size);
  };
}
