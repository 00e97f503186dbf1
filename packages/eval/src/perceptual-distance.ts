import {
  type Backend,
  checkOptions,
  type Executable,
  LazyExecutable,
  symbol,
  type Tensor,
  trace,
  validateWeights,
  type Weights,
} from '@detailflow/core';
import { lpips, lpipsParameters, networkWeights, vggParameters } from '@detailflow/features';

/** How different pairs of images look. */
export interface PerceptualDistance {
  /**
   * LPIPS of pairs.
   * `a`, `b`: [n, 3, H, W] in [-1, 1].
   * @returns [n]
   */
  between(
    a: Tensor<'float32'>,
    b: Tensor<'float32'>,
    options?: { signal?: AbortSignal },
  ): Promise<Float32Array>;
  /** Frees what it holds on the device. */
  dispose(): Promise<void>;
}

/**
 * LPIPS by VGG16.
 * @param options.vgg torchvision's weights of VGG16
 * @param options.heads LPIPS's own weights for VGG16
 * @throws DetailFlowError `weights`
 * Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018.
 */
export function perceptualDistance(options: {
  readonly vgg: Weights;
  readonly heads: Weights;
  readonly backend: Backend;
}): PerceptualDistance {
  checkOptions('perceptualDistance', options, { vgg: true, heads: true, backend: true });
  const { vgg, heads, backend } = options;
  const specs = [...vggParameters(), ...lpipsParameters()];
  const weights: Weights = new Map([...vgg, ...heads]);
  const known = new Set(specs.map(({ name }) => name));
  validateWeights(weights, specs, { ignore: [...weights.keys()].filter((name) => !known.has(name)) });
  const sizes = new Map<string, LazyExecutable>();
  const compiled = (height: number, width: number): Promise<Executable> => {
    const key = `${height} ${width}`;
    const found =
      sizes.get(key) ??
      new LazyExecutable(() => {
        const shape = [symbol('batch'), 3, height, width];
        const graph = trace((g) => ({
          distance: lpips(networkWeights(g, specs), g.input('a', 'f32', shape), g.input('b', 'f32', shape)),
        }));
        return backend.compile(graph, weights);
      });
    sizes.set(key, found);
    return found.get();
  };
  return {
    async between(a, b, run = {}) {
      const executable = await compiled(a.dims[2], a.dims[3]);
      return (await executable.run({ a, b }, run)).distance.data as Float32Array;
    },
    async dispose() {
      for (const one of sizes.values()) await one.dispose();
    },
  };
}
