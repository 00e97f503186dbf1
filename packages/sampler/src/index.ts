export {
  drawToken,
  filterLogits,
  mostLikelyToken,
  softmax,
} from './choose-token';
export {
  type GenerateOptions,
  type GenerationStep,
  generate,
  type SampleOptions,
  sampleTokens,
} from './generate';
export type { GivenOptions } from './given-tokens';
export { constantGuidance, guidanceUntil, guide } from './guidance';
export {
  type BatchPictureOptions,
  type BatchRun,
  createPictureBatch,
  type PictureBatch,
  type PictureBatchOptions,
} from './picture-batch';
export type { SampleStep } from './sample-plan';
export { type VaryOptions, vary } from './vary';
