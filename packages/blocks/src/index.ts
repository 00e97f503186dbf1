export { biasedLinear, weightAndBias } from './biased-linear';
export { checkChosenTokens } from './chosen-tokens';
export { chosenWeights } from './chosen-weights';
export { classLabels } from './class-labels';
export {
  type ConvTowerConfig,
  convDecoder,
  convEncoder,
  convTowerConfig,
  convTowerParameters,
  parseConvTower,
  strideOf,
  type WeightShapes,
} from './conv-autoencoder';
export { convInitialValues, uniform, unitRows } from './conv-initial';
export { type DrawGraphOptions, drawGraph } from './draw-graph';
export { feedForwardWidth, gptSizes } from './gpt-sizes';
export { type Cell, gridRotation } from './grid-rotation';
export { type Arrangement, type GroupTransformerConfig, parseGroupConfig } from './group-config';
export { type GroupGenerator, groupGenerator } from './group-generator';
export { forwardGraph, stepGraph } from './group-graphs';
export { groupParameters, ignoredGroupWeights } from './group-parameters';
export { gradualGuidance, groupSchedule } from './group-schedule';
export { createGroupTokenModel, GroupTokenModel, type GroupTokenModelOptions } from './group-token-model';
export { groupTraining, placeKinds, sequenceIds } from './group-training';
export { forward, groupWeights, type PlaceInputs, type StepOptions, step } from './group-transformer';
export { growingCache } from './growing-cache';
export { convolution, groupNorm, nearestTwice } from './image-layers';
export { type Parameters, parameterAccess } from './parameters';
export { requirePictureSide } from './picture-side';
export { PlaceKind, placeMask, regionOrder, ropeTables } from './places';
export {
  assignmentEntropy,
  type QuantisedForTraining,
  type QuantiserLossOptions,
  quantise,
} from './quantiser-training';
export {
  type Attend,
  biasedAttend,
  type CachedAttendOptions,
  cachedAttend,
  type Dropout,
  type DropoutPlace,
  maskedAttend,
  type RopeTransformerConfig,
  type RopeTransformerInputs,
  ropeTransformer,
  ropeTransformerParameters,
} from './rope-transformer';
export {
  patchify,
  positionEmbedding,
  type SiglipTowerConfig,
  siglipPatches,
  siglipPostNorm,
  siglipTower,
  siglipTowerParameters,
  siglipVisionParameters,
} from './siglip-tower';
export { type CodeMixture, mixtureEntropy, mixtureOfCodes, shareEntropy } from './soft-quantiser';
export type {
  CodeRowsFed,
  InitialValues,
  TrainableDrawingModel,
  TrainableFamily,
  TrainableNetwork,
  TrainableQuantiser,
  TrainableTokenizer,
  TrainableTokenModel,
  TrainableWeights,
} from './trainable';
export { type CodebookOptions, codeVectors, nearestCodes } from './vector-quantiser';
export {
  type LayerRotation,
  mixedRotation,
  vitBlock,
  vitBlocks,
  vitFeatures,
  vitPatches,
  vitPatchPlaces,
  vitSequence,
} from './vit';
export {
  patchesPerSide,
  prefixTokens,
  type VitConfig,
  type VitSettings,
  vitConfigOf,
  vitParameters,
} from './vit-config';
export { type VqFile, vqOwner } from './vq-owner';
