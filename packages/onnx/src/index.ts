export type {
  BytesPlacement,
  FilePlacement,
  LoweringOptions,
  PlacedMatrix,
  WeightPlacement,
} from './lower-graph';
export { matrixFormats, type Quantisation } from './matrix-formats';
export { type MatrixFormat, type QuantisedMatrix, quantise } from './quantise';
export type { Dialect } from './rules';
export { type OnnxModel, type OnnxOptions, type OnnxState, toOnnx } from './to-onnx';
export { type OnnxLoopOptions, toOnnxLoop } from './to-onnx-loop';
