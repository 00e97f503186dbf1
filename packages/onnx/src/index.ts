export { type InputMoments, type MomentsOutput, withInputMoments } from './input-moments';
export type {
  BytesPlacement,
  FilePlacement,
  LoweringOptions,
  PlacedMatrix,
  WeightPlacement,
} from './lower-graph';
export { fineInputs, linearProducts, matrixFormats, type Quantisation } from './matrix-formats';
export {
  type MatrixFormat,
  type QuantisedMatrix,
  type QuantiseOptions,
  quantise,
  suitableFormat,
} from './quantise';
export { quantiseForInputs } from './quantise-for-inputs';
export type { Dialect, Target } from './rules';
export { type OnnxModel, type OnnxOptions, type OnnxState, toOnnx } from './to-onnx';
export { type OnnxLoopOptions, toOnnxLoop } from './to-onnx-loop';
