import {
  type Backend,
  checkOptions,
  DetailFlowError,
  div,
  type Executable,
  LazyExecutable,
  sub,
  symbol,
  trace,
  validateWeights,
  type Weights,
} from '@detailflow/core';
import {
  type ClassifierConfig,
  classifier,
  classifierParameters,
  inception,
  inceptionParameters,
  inceptionWidths,
  networkWeights,
  resizeForInception,
} from '@detailflow/features';
import { planes } from './image-planes';
import type { ByteImages } from './image-source';

/** Features of n images. */
export interface Features {
  /** [n, width], for Frechet distance, KID, precision and recall. */
  readonly pool: Float32Array;
  /** [n, spatialWidth], for sFID, where the network has them. */
  readonly spatial?: Float32Array;
  /** [n, classes], for IS and for the agreement with a requested class; empty where the network knows no classes. */
  readonly logits: Float32Array;
}

/** A network that turns images into features. */
export interface Extractor {
  /** For reports. */
  readonly name: string;
  readonly width: number;
  readonly spatialWidth?: number;
  /** 0 where it knows none. */
  readonly classes: number;
  /** Their names, where the file of the network has them. */
  readonly classNames?: readonly string[];
  /** The side in pixels that images must have; any size where it is missing. */
  readonly imageSize?: number;
  /** Features of images, one row each. */
  extract(images: ByteImages, options?: { signal?: AbortSignal }): Promise<Features>;
  /** Frees what it holds on the device. */
  dispose(): Promise<void>;
}

interface ExtractorOptions {
  readonly weights: Weights;
  readonly backend: Backend;
  /** Where the weights come from, for messages. */
  readonly file?: string;
}

const batch = symbol('batch');

/**
 * Inception-v3 as FID is defined with it; images of any size, resized as TensorFlow 1 does it.
 * @param options.weights those of `pt_inception-2015-12-05-*.pth`
 * @throws DetailFlowError `weights`
 */
export function inceptionExtractor(options: ExtractorOptions): Extractor {
  checkOptions('inceptionExtractor', options, { weights: true, backend: true, file: true });
  const { weights, backend, file } = options;
  const specs = inceptionParameters();
  validateWeights(weights, specs, { file, ignore: inceptionIgnored(weights) });
  const sizes = new Map<string, LazyExecutable>();
  const compiled = (height: number, width: number): Promise<Executable> => {
    const key = `${height} ${width}`;
    const known =
      sizes.get(key) ??
      new LazyExecutable(() =>
        backend.compile(
          trace((g) => {
            const x = resizeForInception(g.input('images', 'f32', [batch, 3, height, width]));
            return { ...inception(networkWeights(g, specs), div(sub(x, 128), 128)) };
          }),
          weights,
        ),
      );
    sizes.set(key, known);
    return known.get();
  };
  return {
    name: 'Inception-v3',
    width: inceptionWidths.pool,
    spatialWidth: inceptionWidths.spatial,
    classes: inceptionWidths.logits,
    async extract(images, options = {}) {
      const executable = await compiled(images.height, images.width);
      const feed = planes(images, (byte) => byte);
      const { pool, spatial, logits } = await executable.run({ images: feed }, options);
      return {
        pool: pool.data as Float32Array,
        spatial: spatial.data as Float32Array,
        logits: logits.data as Float32Array,
      };
    },
    async dispose() {
      for (const one of sizes.values()) await one.dispose();
    },
  };
}

/** Counters of the batch norms, which say nothing. */
const inceptionIgnored = (weights: Weights): string[] =>
  [...weights.keys()].filter((name) => /\.num_batches_tracked$|^AuxLogits\./.test(name));

/**
 * A small classifier trained on the data themselves, for sets that Inception knows nothing of.
 * @throws DetailFlowError `weights`
 */
export function classifierExtractor(
  options: ExtractorOptions & { readonly config: ClassifierConfig },
): Extractor {
  checkOptions('classifierExtractor', options, { weights: true, backend: true, file: true, config: true });
  const { config, weights, backend, file } = options;
  const specs = classifierParameters(config);
  validateWeights(weights, specs, { file });
  const { imageSize: size } = config;
  const executable = new LazyExecutable(() =>
    backend.compile(
      trace((g) => ({
        ...classifier(networkWeights(g, specs), config, g.input('images', 'f32', [batch, 3, size, size])),
      })),
      weights,
    ),
  );
  return {
    name: 'classifier',
    width: config.features,
    classes: config.classes,
    imageSize: size,
    async extract(images, run = {}) {
      if (images.height !== size || images.width !== size) {
        throw new DetailFlowError(
          'shape',
          `images have ${images.width} x ${images.height} pixels, the classifier takes ${size} x ${size}`,
        );
      }
      const feed = planes(images, (byte) => byte / 127.5 - 1);
      const { features, logits } = await (await executable.get()).run({ images: feed }, run);
      return { pool: features.data as Float32Array, logits: logits.data as Float32Array };
    },
    dispose: () => executable.dispose(),
  };
}
