export { editMask, type PlaceMask, type Region, regionMask } from './edit-mask';
export { flexvarFamily, varFamily } from './family';
export { generateSmooth, type SmoothOptions, type SmoothStep } from './generate-smooth';
export {
  mapDecoderGraph,
  plainDecoderGraph,
  residualDecoderGraph,
  scaleEncoderGraph,
  scaleInputsGraph,
  scaleStepGraph,
} from './graphs';
export { latentMap, mapPixels, scaleCodes, scaleInputs, summedMap } from './scale-coding';
export { allPlaces, positionAverages, ScaleStepper, type ScaleStepperOptions } from './scale-stepper';
export { createScaleTokenModel, ScaleTokenModel, type ScaleTokenModelOptions } from './scale-token-model';
export { createScaleTokenizer, ScaleTokenizer, type ScaleTokenizerOptions } from './scale-tokenizer';
export {
  droppedLabels,
  type ScaleForwardInputs,
  type ScaleForwardOptions,
  type ScaleLossOptions,
  type ScaleTokenizerLosses,
  scaleForward,
  scaleLoss,
  scaleTokenizerLosses,
} from './scale-training';
export {
  ignoredScaleWeights,
  maskedScales,
  type ScaleDropPath,
  type ScaleTransformerConfig,
  scaleTransformer,
  scaleTransformerParameters,
} from './scale-transformer';
export { parseScales, type Scale, type ScaleLike } from './scales';
export { type ScaleTransformerSettings, scaleTransformerConfigOf } from './var-config';
export { varByte, varPicture } from './var-picture';
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
