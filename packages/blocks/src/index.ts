export {
  type ConvTowerConfig,
  convDecoder,
  convEncoder,
  convTowerParameters,
  strideOf,
} from './conv-autoencoder';
export { feedForwardWidth, gptSizes } from './gpt-sizes';
export { type Cell, gridRotation } from './grid-rotation';
export { convolution, groupNorm, nearestTwice } from './image-layers';
export { type Parameters, parameterAccess } from './parameters';
export {
  type Attend,
  type CachedAttendOptions,
  cachedAttend,
  type Dropout,
  maskedAttend,
  type RopeTransformerConfig,
  type RopeTransformerInputs,
  ropeTransformer,
  ropeTransformerParameters,
} from './rope-transformer';
