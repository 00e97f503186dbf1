export { classifierExtractor, type Extractor, type Features, inceptionExtractor } from './extractor';
export {
  type CollectOptions,
  type CompareOptions,
  type Comparison,
  classAgreement,
  collectFeatures,
  compareFeatures,
  type FeatureSet,
  featureGaussian,
  nearestNeighbours,
} from './feature-set';
export { frechetDistance, traceOfRoot } from './frechet-distance';
export { type Gaussian, GaussianStatistics } from './gaussian-statistics';
export {
  type ByteImages,
  bytesOf,
  datasetSource,
  type GeneratedOptions,
  generatedSource,
  type ImageSource,
  reconstructionSource,
} from './image-source';
export { inceptionScore } from './inception-score';
export { type KernelDistanceOptions, kernelDistance } from './kernel-distance';
export { type PrecisionRecallOptions, precisionRecall } from './precision-recall';
export { psnr } from './psnr';
export { ssim } from './ssim';
export { formatStatistics, parseStatistics, type ReferenceStatistics } from './statistics-arrays';
export { symmetricEigenvalues } from './symmetric-eigenvalues';
export {
  previewCounts,
  type TokenizerFigureOptions,
  type TokenizerFigures,
  tokenizerFigures,
} from './tokenizer-figures';
