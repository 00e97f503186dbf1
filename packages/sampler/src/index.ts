export {
  type ChoiceOptions,
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
  type SampleStep,
  sampleTokens,
} from './generate';
export { type GuidanceOptions, guidanceScale, guide, needsGuidance } from './guidance';
export { type VaryOptions, vary } from './vary';
