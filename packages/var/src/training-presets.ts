const adam = { betas: [0.9, 0.95], epsilon: 1e-8, clip: 1 };
const tower = { channels: [32, 64, 64], blocks: 1, latentChannels: 128 };

/**
 * For pictures of 32 pixels, such as Fashion-MNIST, beside DetailFlow's `tiny-32`: parameters within 10 %, and the same images
 * seen. 130 codes on 6 scales. Recipe and schedule are those of `tiny-32`, not the published ones, so that systems alone differ.
 */
export const varPreset: Readonly<Record<string, unknown>> = {
  ...{ family: 'var', name: 'var-32', seed: 1, replicas: 2 },
  data: { fit: 'pad', background: 'black', flip: false, views: 'center' },
  tokenizer: {
    model: {
      ...{ scales: [1, 2, 3, 4, 6, 8], encoder: tower, decoder: tower, codebookSize: 1024, codeDim: 16 },
      refinement: { kind: 'shared', count: 4, ratio: 0.5 },
    },
    ...{ steps: 5600, batch: 32, microBatch: 8, learningRate: 1e-3, warmup: 168, finalFactor: 0.05, ...adam },
    revival: { every: 10, until: 0.6, patience: 40 },
  },
  tokenModel: {
    model: { depth: 4, dim: 192, heads: 6, isShared: true },
    ...{
      steps: 10000,
      batch: 64,
      microBatch: 16,
      learningRate: 1e-3,
      warmup: 200,
      finalFactor: 0.02,
      ...adam,
    },
    ...{ weightDecay: 0.05, averageDecay: 0.999, labelDropout: 0.1 },
  },
  checkpoints: { every: 500, keep: 3 },
  validation: { every: 500, images: 256 },
};
