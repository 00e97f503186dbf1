export type { Dialect } from './rules';
export { type OnnxModel, type OnnxOptions, type OnnxState, toOnnx, type WeightPlacement } from './to-onnx';
