import { siglipVisionParameters } from '@detailflow/blocks';
import {
  type Backend,
  type CallOptions,
  checkOptions,
  DetailFlowError,
  describe,
  LazyExecutable,
  multiplyDims,
  ofType,
  requireTensor,
  resizeMatrix,
  symbol,
  Tensor,
  trace,
  validateWeights,
  type Weights,
} from '@detailflow/core';
import { networkWeights, SIGLIP, type SiglipConfig, siglipFeatures } from '@detailflow/features';
import type { Extractor } from './extractor';
import { planes } from './image-planes';

const batch = symbol('batch');
/** Patches a side. */
const side = symbol('side');

/** Which network is read, and how it sees images. */
export interface SiglipOptions {
  readonly config: SiglipConfig;
  /** Names beginning with `vision_model.`; see `siglipWeights` of `@detailflow/features`. */
  readonly weights: Weights;
  readonly backend: Backend;
  /** Where the weights come from, for messages. */
  readonly file?: string;
}

/** A frozen vision tower of SigLIP2: what it sees at the patches of images of any size. */
export class SiglipNetwork {
  /** Length of the features, F. */
  readonly width: number;
  /** Side of a patch in pixels. */
  readonly patchSize: number;
  readonly #config: SiglipConfig;
  readonly #executable: LazyExecutable;

  /** @throws DetailFlowError `weights` when the weights do not fit the configuration */
  constructor(options: SiglipOptions) {
    checkOptions('SiglipNetwork', options, { config: true, weights: true, backend: true, file: true });
    const { config, weights, backend, file } = options;
    const specs = siglipVisionParameters(SIGLIP, config);
    validateWeights(weights, specs, { file });
    this.#config = config;
    this.width = config.width;
    this.patchSize = config.patchSize;
    this.#executable = new LazyExecutable(() =>
      backend.compile(
        trace((g) => {
          const size = multiplyDims(side, config.patchSize);
          const images = g.input('images', 'f32', [batch, 3, size, size]);
          const resize = g.input('resize', 'f32', [side, config.positionGrid]);
          return { features: siglipFeatures(networkWeights(g, specs), config, images, resize) };
        }),
        weights,
      ),
    );
  }

  /**
   * Features of the patches of images float32 [B, 3, S, S] in [-1, 1], S being a multiple of the patch: float32 [B, (S / p)^2, F].
   * @throws DetailFlowError `shape`
   */
  async features(images: Tensor, options: CallOptions = {}): Promise<Tensor<'float32'>> {
    const must = `float32 [B, 3, S, S] with S a multiple of ${this.patchSize}`;
    const { dims } = requireTensor(images, { what: 'images', must, type: 'float32', axes: 4 });
    const [, channels, height, width] = dims;
    if (channels !== 3 || height !== width || width % this.patchSize !== 0) {
      throw new DetailFlowError('shape', `images are ${describe(images)}; give ${must}`);
    }
    const { positionGrid } = this.#config;
    const across = width / this.patchSize;
    const resize = new Tensor('float32', resizeMatrix('bilinear-antialias', positionGrid, across), [
      across,
      positionGrid,
    ]);
    const { features } = await (await this.#executable.get()).run({ images, resize }, options);
    return ofType(features, 'float32');
  }

  /** The mean over the patches of every image: float32 [B, F]. */
  async means(images: Tensor, options: CallOptions = {}): Promise<Tensor<'float32'>> {
    const { data, dims } = await this.features(images, options);
    const [count, patches, width] = dims;
    const out = new Float32Array(count * width);
    for (let i = 0; i < count * patches; i++) {
      const at = Math.floor(i / patches) * width;
      for (let f = 0; f < width; f++) out[at + f] += data[i * width + f] / patches;
    }
    return new Tensor('float32', out, [count, width]);
  }

  /** Frees the network. */
  dispose(): Promise<void> {
    return this.#executable.dispose();
  }
}

/** SigLIP2 as a feature network: the mean over patches. It knows no classes, so there is no inception score. */
export function siglipExtractor(network: SiglipNetwork): Extractor {
  return {
    name: `SigLIP2 ${network.width}`,
    width: network.width,
    classes: 0,
    async extract(images, options = {}) {
      const pool = await network.means(
        planes(images, (byte) => byte / 127.5 - 1),
        options,
      );
      return { pool: pool.data, logits: new Float32Array(0) };
    },
    dispose: () => network.dispose(),
  };
}
