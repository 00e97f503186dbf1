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
export type { SampleStep } from './sample-plan';
export { type VaryOptions, vary } from './vary';
