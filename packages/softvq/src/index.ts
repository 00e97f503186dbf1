export {
  type Alignment,
  type AlignmentConfig,
  alignmentConfigOf,
  alignmentFeatures,
  alignmentLoss,
  alignmentParameters,
} from './alignment';
export { CodeTokenizer, createCodeTokenizer } from './code-tokenizer';
export { type LatentKind, parseSoftVqConfig, type SoftVqConfig } from './config';
export { softvqFamily } from './family';
export { codeLatentsGraph, latentDecoderGraph, latentEncoderGraph } from './graphs';
export {
  createSoftVqTokenizer,
  type EncodeOptions,
  type LatentOptions,
  SoftVqTokenizer,
  type SoftVqTokenizerOptions,
} from './latent-tokenizer';
export {
  codesOf,
  decodedPatches,
  decodeLatents,
  decoderSequence,
  drawnLatents,
  encodeImages,
  encoderLatents,
  encoderSequence,
  latentsOfCodes,
  posteriorOf,
  postQuantise,
  preQuantise,
  softQuantise,
  toPixels,
} from './model';
export { ignoredSoftVqWeights, softVqParameters } from './parameters';
export { type ReleasedConfigOptions, softVqConfigOf } from './released-config';
export { openReleasedFiles, type ReleasedFiles } from './released-files';
export { type TowerSettings, type TowerSizes, towerSettings } from './towers';
export {
  klDivergence,
  type LatentLossOptions,
  type LatentTrainingOutputs,
  latentTraining,
} from './training';
