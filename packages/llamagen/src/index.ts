export { type GptSettings, gptConfigOf, gptSettings } from './gpt-config';
export { intervalGuidance } from './interval-guidance';
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
