type Settings = Readonly<Record<string, unknown>>;

/** The adaptive optimiser of all recipes. Source: docs/method.md section 5. */
const adam = { betas: [0.9, 0.95], epsilon: 1e-8, clip: 1 };

const tower = (
  width: number,
  heads: number,
  layers: number,
  mlpWidth: number,
  patchSize: number,
  grid: number,
) => ({
  ...{ width, heads, layers, mlpWidth, patchSize },
  positionGrid: grid,
});

/** For pictures of 32 pixels, such as Fashion-MNIST: small enough for two CPU cores. */
const tiny32: Settings = {
  name: 'tiny-32',
  seed: 1,
  replicas: 2,
  data: { fit: 'pad', flip: false, views: 'center' },
  tokenizer: {
    model: {
      ...{ imageSize: 32, tokens: 64, groupSize: 8, causalTokens: 8, codebookSize: 1024, codebookDim: 8 },
      encoder: tower(128, 4, 3, 512, 4, 8),
      decoder: tower(128, 4, 3, 512, 4, 8),
      ...{ causalEncoder: true, causalDecoder: false, correction: true, resolutionPower: 1.5 },
    },
    ...{ steps: 5600, batch: 32, microBatch: 8, learningRate: 1e-3, warmup: 168, finalFactor: 0.05, ...adam },
    ...{ degradation: 0.2, correction: 0.3 },
    revival: { every: 10, until: 0.6, patience: 40 },
  },
  tokenModel: {
    model: { dim: 192, layers: 4, heads: 6, hiddenDim: 512 },
    ...{
      steps: 4000,
      batch: 64,
      microBatch: 16,
      learningRate: 1e-3,
      warmup: 200,
      finalFactor: 0.02,
      ...adam,
    },
    ...{ weightDecay: 0.05, averageDecay: 0.999, dropout: 0, labelDropout: 0.1, correction: 0.3 },
  },
  checkpoints: { every: 500, keep: 3 },
  validation: { every: 500, images: 256 },
};

/** For pictures of 64 pixels in colour: a start for settings of your own, not yet trained to the end. */
const small64: Settings = {
  name: 'small-64',
  seed: 1,
  replicas: 2,
  data: { fit: 'crop', zoom: 0.8, flip: true, views: 'ten-crop' },
  tokenizer: {
    model: {
      ...{ imageSize: 64, tokens: 64, groupSize: 8, causalTokens: 8, codebookSize: 4096, codebookDim: 8 },
      encoder: tower(256, 8, 4, 1024, 8, 8),
      decoder: tower(256, 8, 4, 1024, 8, 8),
      ...{ causalEncoder: true, causalDecoder: false, correction: true, resolutionPower: 1.5 },
    },
    ...{
      steps: 40000,
      batch: 64,
      microBatch: 8,
      learningRate: 5e-4,
      warmup: 1000,
      finalFactor: 0.05,
      ...adam,
    },
    ...{ degradation: 0.2, correction: 0.35 },
    revival: { every: 10, until: 0.6, patience: 40 },
  },
  tokenModel: {
    model: { dim: 384, layers: 8, heads: 6 },
    ...{
      steps: 40000,
      batch: 64,
      microBatch: 16,
      learningRate: 5e-4,
      warmup: 1000,
      finalFactor: 0.01,
      ...adam,
    },
    ...{ weightDecay: 0.05, averageDecay: 0.9995, dropout: 0.1, labelDropout: 0.1, correction: 0.3 },
  },
  checkpoints: { every: 1000, keep: 3 },
  validation: { every: 1000, images: 256 },
};

/** Settings by name; a configuration names one as its `preset` and changes what it likes. */
export const trainingPresets: Readonly<Record<string, Settings>> = {
  'tiny-32': tiny32,
  'small-64': small64,
};
