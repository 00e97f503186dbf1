export { llamagenFamily, parFamily } from './family';
export { type GptSettings, gptConfigOf, gptSettings } from './gpt-config';
export { intervalGuidance } from './interval-guidance';
export { leftPaddedText, type NoText, type TextFeeds, textFeeds } from './text-condition';
export {
  isTextGpt,
  parseTextGptConfig,
  type TextGptConfig,
  textGptConfigOf,
  textGptParameters,
  trainedTextParameters,
} from './text-config';
export { type TextForwardInputs, textEmbedding, textForward, textStepGraph } from './text-graphs';
export { createTextTokenModel, TextTokenModel, type TextTokenModelOptions } from './text-token-model';
export { textGptLoss, type VqLosses, vqLosses } from './training';
export {
  gridOf,
  ignoredVqWeights,
  parseVqConfig,
  type VqConfig,
  vqConfigOf,
  vqParameters,
} from './vq-config';
export { type Grid, vqDecoderGraph, vqEncoderGraph, vqLatents, vqPixels } from './vq-graphs';
export { createVqTokenizer, VqTokenizer, type VqTokenizerOptions } from './vq-tokenizer';
