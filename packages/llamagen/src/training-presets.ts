type Settings = Readonly<Record<string, unknown>>;

const adam = { betas: [0.9, 0.95], epsilon: 1e-8, clip: 1 };
const tower = { channels: [32, 64, 64], blocks: 1, latentChannels: 128 };

/**
 * For pictures of 32 pixels, such as Fashion-MNIST, beside DetailFlow's `tiny-32`: as many codes, parameters within 10 %, and the
 * same images seen. Recipe and schedule are those of `tiny-32`, not the published ones, so that systems alone differ.
 */
const preset = (name: string, model: Settings): Settings => ({
  ...{ name, seed: 1, replicas: 2 },
  data: { fit: 'pad', background: 'black', flip: false, views: 'center' },
  tokenizer: {
    model: { imageSize: 32, encoder: tower, decoder: tower, codebookSize: 1024, codeDim: 8 },
    ...{ steps: 5600, batch: 32, microBatch: 8, learningRate: 1e-3, warmup: 168, finalFactor: 0.05, ...adam },
    revival: { every: 10, until: 0.6, patience: 40 },
  },
  tokenModel: {
    model: { dim: 192, layers: 4, heads: 6, hiddenDim: 512, ...model },
    ...{
      steps: 10000,
      batch: 64,
      microBatch: 16,
      learningRate: 1e-3,
      warmup: 200,
      finalFactor: 0.02,
      ...adam,
    },
    ...{ weightDecay: 0.05, averageDecay: 0.999, dropout: 0, labelDropout: 0.1 },
  },
  checkpoints: { every: 500, keep: 3 },
  validation: { every: 500, images: 256 },
});

/** 64 codes, one by one. */
export const llamagenPreset = { family: 'llamagen', ...preset('llamagen-32', {}) };

/** 64 codes of 4 regions: 4 one by one, then 15 groups. */
export const parPreset = { family: 'par', ...preset('par-32', { groupSize: 4 }) };
