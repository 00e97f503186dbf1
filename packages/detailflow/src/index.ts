export { createNodeBackend, type NodeBackendOptions } from '@detailflow/backend-node';
export type { Family, FamilyModel, GeneratorGraphs } from '@detailflow/checkpoint';
export {
  type Backend,
  DetailFlowError,
  Picture,
  pictureFromPixels,
  Tensor,
  type TensorData,
  type TensorType,
} from '@detailflow/core';
export {
  type Colour,
  centerCrop,
  gridPicture,
  type NpyArray,
  type NpyDType,
  type RgbImage,
  readNpy,
  type SheetOptions,
  stripPicture,
  upscaleNearest,
  writeNpy,
} from '@detailflow/data';
export { type ImageFile, readImage, readImages } from '@detailflow/data/node';
export { psnr } from '@detailflow/eval';
export type { GenerateOptions, GenerationStep } from '@detailflow/sampler';
export type { ClassLabel } from './class-numbers';
export { type ConvertOptions, convert } from './convert';
export { type DetailFlowModel, detailflowFamily, type ModelPart } from './detailflow-family';
export { type ExportedModel, type ExportedPort, type ExportOptions, exportOnnx } from './export-onnx';
export type { FolderSource, ModelSource } from './folder-source';
export { generatorGraphs } from './generator-graph';
export {
  type DetailFlowParts,
  type DrawOptions,
  type LoadOptions,
  load,
  Model,
  type Reconstruction,
  type VariationOptions,
} from './load';
export { type OpenedModel, openModel } from './model-source';
export { families, type OpenFamilyOptions, openFamilyModel } from './open-family';
export { convertToReleased, type ReleasedLayoutOptions } from './released-layout';
export {
  type Verification,
  type VerifiedFile,
  type VerifiedTensors,
  type VerifyOptions,
  verifyModel,
} from './verify-model';
