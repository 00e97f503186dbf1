export type {
  Backend,
  CompileOptions,
  Executable,
  RunOptions,
  State,
  StateEntries,
  Tensors,
  WeightDType,
} from './backend';
export { type ByteSource, bytesSource, checkRange } from './byte-source';
export { checkOptions, type OptionNames } from './check-options';
export { ConfigFields } from './config-fields';
export { decodeInSlices } from './decode-in-slices';
export { describe } from './describe';
export {
  addDims,
  type Bindings,
  type Dim,
  dimTerms,
  evaluateDim,
  evaluateShape,
  formatShape,
  multiplyDims,
  plainSymbol,
  type Shape,
  SymbolicDim,
  sameDim,
  sameShape,
  sizeOf,
  subtractDims,
  symbol,
} from './dim';
export { DetailFlowError, type ErrorCode, type ErrorDetails } from './errors';
export { expandComposites } from './expand';
export { bindFeeds, requireBuffer, requireEntries, requireLike, requireWeights, tensorTypes } from './feeds';
export { fileLimits } from './file-limits';
export { float16Values } from './float16-values';
export { extent, type Graph, GraphBuilder, type StatePair, trace, type Value } from './graph';
export { LazyExecutable } from './lazy-executable';
export type {
  CallOptions,
  Condition,
  DrawingOptions,
  DrawingSession,
  DrawingStep,
  Guidance,
  ImageTokenizer,
  LatentTokenizer,
  PoolMember,
  PoolStep,
  PreviewKind,
  SamplingDefaults,
  ScheduleStep,
  TextCondition,
  TokenChoice,
  TokenModel,
  TokenPool,
  TokenPoolOptions,
  TokenSession,
} from './models';
export { type Attributes, type DType, type OpDefinition, stridesOf, type TypedData } from './op';
export { gelu, geluExact, silu } from './ops/activation';
export { attention, cachedAttention, HIDDEN, rope, swapHeads } from './ops/attention';
export {
  averagePool2d,
  type ConvOptions,
  conv2d,
  maxPool2d,
  type Padding,
  type Pair,
  type PoolOptions,
} from './ops/convolution';
export {
  add,
  cos,
  div,
  equal,
  erf,
  exp,
  less,
  log,
  maximum,
  mul,
  neg,
  type Operand,
  select,
  sigmoid,
  sin,
  sqrt,
  stopGradient,
  straightThrough,
  sub,
  tanh,
} from './ops/elementwise';
export { gather, scatterRows, takeAlong, topK, writeRows } from './ops/indexing';
export { broadcastTo, concat, reshape, slice, transpose } from './ops/layout';
export { linear, matmul } from './ops/matmul';
export {
  inverseDeviation,
  l2Normalise,
  layerNorm,
  logSoftmax,
  rmsNorm,
  softmax,
  standardise,
} from './ops/normalisation';
export { max, mean, sum } from './ops/reduce';
export { operations } from './ops/table';
export { writeRowsAt } from './ops/write-rows-at';
export {
  type DrawOptions,
  exponentialNoise,
  type PhiloxBlock,
  philox4x32,
  philoxWords,
  randomRanks,
} from './philox';
export { Picture, pictureFromPixels, pixelToByte } from './picture';
export { RandomStream, type StreamOptions } from './random-stream';
export { degradationResize, type ResizeKind, resizeImages, resizeMatrix } from './resize';
export {
  openSafetensors,
  readSafetensors,
  type SafetensorsFile,
} from './safetensors';
export { scheduleSteps, stepAt } from './schedule';
export { suggestion } from './suggestion';
export {
  isTensor,
  ofType,
  requireTensor,
  Tensor,
  type TensorData,
  type TensorType,
} from './tensor';
export {
  type ParameterSpec,
  type RoundedMatrix,
  readFloat32,
  type StorageDType,
  storageBytes,
  validateWeights,
  type Weight,
  type WeightLocation,
  type Weights,
  weightFromArray,
} from './weights';
