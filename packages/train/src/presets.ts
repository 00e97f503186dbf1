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
  data: { fit: 'pad', background: 'black', flip: false, views: 'center' },
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
      steps: 10000,
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

/**
 * For the emoji of tools/emoji, 64 pixels in colour: about half a day on two CPU cores. A perceptual loss is for a second
 * run that begins with this one (`--init`): from the start it hurts (docs/training.md).
 */
const emoji64: Settings = {
  name: 'emoji-64',
  seed: 34, // holds some of every class out
  replicas: 2,
  data: {
    ...{ fit: 'crop', zoom: 1, flip: true, heldOut: 0.1, groupBy: '__', balance: 0.5, views: 'varied' },
    augment: { shift: 0.05, scale: 0.1, rotate: 8, hue: 12, saturation: 0.2, brightness: 0.1 },
  },
  classifier: { steps: 1500, batch: 64, microBatch: 32 },
  tokenizer: {
    model: {
      ...{ imageSize: 64, tokens: 64, groupSize: 8, causalTokens: 8, codebookSize: 1024, codebookDim: 8 },
      encoder: tower(128, 4, 3, 512, 8, 8),
      decoder: tower(128, 4, 3, 512, 8, 8),
      ...{ causalEncoder: true, causalDecoder: false, correction: true, resolutionPower: 1.5 },
    },
    ...{
      steps: 60000,
      batch: 32,
      microBatch: 16,
      learningRate: 1e-3,
      warmup: 200,
      finalFactor: 0.02,
      ...adam,
    },
    ...{ averageDecay: 0.999, degradation: 0.2, correction: 0.2 },
    revival: { every: 10, until: 0.6, patience: 40 },
  },
  tokenModel: {
    model: { dim: 192, layers: 6, heads: 6 },
    ...{
      steps: 6000,
      batch: 64,
      microBatch: 32,
      learningRate: 1e-3,
      warmup: 200,
      finalFactor: 0.02,
      ...adam,
    },
    ...{ weightDecay: 0.05, averageDecay: 0.999, dropout: 0.2, labelDropout: 0.1, correction: 0.3 },
  },
  checkpoints: { every: 500, keep: 3 },
  validation: { every: 1000, images: 128 },
};

/** Steps of an epoch of ImageNet in batches of 256. */
const EPOCH = 5004;

/**
 * The official recipe: ImageNet, 256 pixels. Two things differ. The towers are trained from scratch unless parameters
 * are given, and the discriminator is a PatchGAN, where the official one has heads on the features of DINO: whoever has
 * its weights sets `tokenizer.adversarial.discriminator` to dino. Source: docs/method.md sections 3 to 5.
 */
const official = (name: string, tokens: number): Settings => ({
  name,
  seed: 0,
  replicas: 1,
  data: { fit: 'crop', zoom: 0.8, flip: true, views: 'ten-crop' },
  tokenizer: {
    model: {
      ...{ imageSize: 256, tokens, groupSize: 8, causalTokens: 8, codebookSize: 8192, codebookDim: 8 },
      encoder: tower(1152, 16, 12, 4304, 16, 16),
      decoder: tower(768, 12, 12, 3072, 16, 16),
      ...{ causalEncoder: true, causalDecoder: false, correction: true, resolutionPower: 1.5 },
    },
    ...{ steps: 250 * EPOCH, batch: 256, microBatch: 8, learningRate: 1e-4, warmup: EPOCH },
    ...{ initialFactor: 0.1, finalFactor: 0.1, ...adam },
    ...{ degradation: 0.2, correction: 1 },
    perceptual: { weight: 1, warmup: 10000 },
    adversarial: { start: 40000, weight: 0.2, adaptive: false, lecam: 0.001, consistency: 4 },
    alignment: { weight: 1 },
  },
  tokenModel: {
    model: { dim: 1024, layers: 24, heads: 16 },
    ...{ steps: 300 * EPOCH, batch: 256, microBatch: 8, learningRate: 1e-4, warmup: 15 * EPOCH, ...adam },
    ...{ weightDecay: 0.05, averageDecay: 0.9999, dropout: 0.1, labelDropout: 0.1, correction: 0.3 },
  },
  checkpoints: { every: 2500, keep: 11 },
  validation: { every: EPOCH, images: 256 },
});

/** Settings by name; a configuration names one as its `preset` and changes what it likes. */
export const trainingPresets: Readonly<Record<string, Settings>> = {
  'tiny-32': tiny32,
  'small-64': small64,
  'emoji-64': emoji64,
  'detailflow-16': official('detailflow-16', 128),
  'detailflow-32': official('detailflow-32', 256),
  'detailflow-64': official('detailflow-64', 512),
};
