export {
  mapDecoderGraph,
  plainDecoderGraph,
  residualDecoderGraph,
  scaleEncoderGraph,
  scaleInputsGraph,
  scaleStepGraph,
} from './graphs';
export { createScaleTokenModel, ScaleTokenModel, type ScaleTokenModelOptions } from './scale-token-model';
export { createScaleTokenizer, ScaleTokenizer, type ScaleTokenizerOptions } from './scale-tokenizer';
export {
  ignoredScaleWeights,
  maskedScales,
  type ScaleTransformerConfig,
  scaleTransformer,
  scaleTransformerParameters,
} from './scale-transformer';
export { parseScales, type Scale, type ScaleLike } from './scales';
export { type ScaleTransformerSettings, scaleTransformerConfigOf } from './var-config';
export {
  FLEXVAR_SCALES,
  type RefinementConfig,
  refinementIndex,
  renamedVarWeights,
  SCALES_256,
  SCALES_512,
  type ScaleTokenizerConfig,
  type ScaleTokenizerSettings,
  scaleTokenizerConfigOf,
  scaleTokenizerParameters,
} from './var-tokenizer-config';
