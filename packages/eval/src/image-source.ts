import { DetailFlowError, pixelToByte, Tensor, type TokenModel } from '@detailflow/core';
import { centerView, type ImageDataset, imageValues, type ViewOptions } from '@detailflow/data';
import { sampleTokens } from '@detailflow/sampler';
import type { Tokenizer } from '@detailflow/tokenizer';

/** Images of 8 bits a channel. */
export interface ByteImages {
  /** [count, height, width, 3] */
  readonly data: Uint8Array;
  readonly count: number;
  readonly height: number;
  readonly width: number;
}

/** Images that are read, restored or generated when they are asked for. */
export interface ImageSource {
  /** What it is and what it depends on: features of sources of one name may be kept. */
  readonly name: string;
  /** Of every image the class; their number is the number of images. */
  readonly labels: Int32Array;
  /** Images first .. first + count - 1. */
  read(first: number, count: number, options?: { signal?: AbortSignal }): Promise<ByteImages>;
}

type View = Pick<ViewOptions, 'size' | 'fit'>;

/** The images of a data set, squared. */
export function datasetSource(dataset: ImageDataset, view: View): ImageSource {
  const { size } = view;
  return {
    name: `${dataset.name} ${JSON.stringify(view)}`,
    labels: dataset.labels,
    async read(first, count) {
      const data = new Uint8Array(count * size * size * 3);
      for (let i = 0; i < count; i++) {
        data.set(centerView(await dataset.image(first + i), view).data, i * size * size * 3);
      }
      return { data, count, height: size, width: size };
    },
  };
}

/** The images of a data set, encoded and restored from the first tokens, as bytes. */
export function reconstructionSource(
  dataset: ImageDataset,
  view: View,
  options: { readonly tokenizer: Tokenizer; readonly tokens?: number; readonly noiseIndex?: number | null },
): ImageSource {
  const { tokenizer, tokens = tokenizer.tokens, noiseIndex = null } = options;
  const { size } = view;
  return {
    name: `${dataset.name} ${JSON.stringify(view)} from ${tokens} tokens, noise ${noiseIndex}`,
    labels: dataset.labels,
    async read(first, count, { signal } = {}) {
      const values = new Float32Array(count * 3 * size * size);
      for (let i = 0; i < count; i++) {
        const image = centerView(await dataset.image(first + i), view);
        imageValues(image, size, values.subarray(i * 3 * size * size, (i + 1) * 3 * size * size));
      }
      const images = new Tensor('float32', values, [count, 3, size, size]);
      const codes =
        noiseIndex === null
          ? await tokenizer.encode(images, { signal })
          : (await tokenizer.encodeCorrected(images, { noiseIndex, seed: first, signal })).input;
      return bytesOf(await tokenizer.decode(codes, { tokens, size, signal }));
    },
  };
}

/** How pictures are drawn for an evaluation. */
export interface GeneratedOptions {
  readonly model: TokenModel;
  readonly tokenizer: Tokenizer;
  readonly count: number;
  readonly classes: number;
  /** Image i uses seed + i; default 0. */
  readonly seed?: number;
  readonly cfg?: number;
  readonly gradualCfg?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
}

/** Generated pictures, as bytes: every class as often, image i of class i mod classes. */
export function generatedSource(options: GeneratedOptions): ImageSource {
  const { model, tokenizer, count, classes, seed = 0, ...sampling } = options;
  return {
    name: `generated ${JSON.stringify({ classes, seed, ...sampling })}`,
    labels: Int32Array.from({ length: count }, (_, i) => i % classes),
    async read(first, size, { signal } = {}) {
      const labels = Array.from({ length: size }, (_, i) => (first + i) % classes);
      for await (const step of sampleTokens({ ...sampling, model, labels, seed: seed + first, signal })) {
        if (step.count === step.total)
          return bytesOf(await tokenizer.decode(await step.tokens(), { signal }));
      }
      throw new DetailFlowError('runtime', 'the sampler made no step');
    },
  };
}

/** [n, 3, H, W] in [-1, 1] as bytes, as the official code rounds. */
export function bytesOf(pixels: Tensor): ByteImages {
  const [count, , height, width] = pixels.dims;
  const values = pixels.data as Float32Array;
  const plane = height * width;
  const data = new Uint8Array(count * plane * 3);
  for (let i = 0; i < count; i++) {
    for (let at = 0; at < plane; at++) {
      for (let c = 0; c < 3; c++)
        data[3 * (i * plane + at) + c] = pixelToByte(values[(3 * i + c) * plane + at]);
    }
  }
  return { data, count, height, width };
}
