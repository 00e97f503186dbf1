export { differentClass } from './class-names';
export {
  type CompareOptions,
  type Comparison,
  classAgreement,
  compareFeatures,
  nearestNeighbours,
  type Reference,
} from './comparison';
export { COPY_QUANTILE, type Copies, copies } from './copies';
export { type KeptImages, keptImages, type RestoringTokenizer } from './correcting-tokenizer';
export {
  type DrawnBatch,
  type DrawnElsewhere,
  type DrawnPictures,
  evaluateGeneration,
  type GenerationOptions,
  type GenerationRow,
  type SamplingOptions,
  type ScaleSummary,
  type Spread,
  summariseScales,
} from './evaluate-generation';
export { classifierExtractor, type Extractor, type Features, inceptionExtractor } from './extractor';
export { type CollectOptions, collectFeatures, type FeatureSet, type FeatureStatistics } from './feature-set';
export { frechetDistance, traceOfRoot } from './frechet-distance';
export { type Gaussian, GaussianStatistics } from './gaussian-statistics';
export { writeImageArchive } from './image-archive';
export {
  type ByteImages,
  bytesOf,
  datasetSource,
  firstImages,
  type GeneratedOptions,
  generatedSource,
  type ImageSource,
  imageTensor,
  keptSource,
  type NamedGuidance,
  type PictureLabels,
  reconstructionSource,
} from './image-source';
export { InceptionScore, type InceptionScoreOptions, inceptionScore } from './inception-score';
export { type KernelDistanceOptions, kernelDistance } from './kernel-distance';
export { type PerceptualDistance, perceptualDistance } from './perceptual-distance';
export { firstPictureSeeds, PICTURES_PER_SEED } from './picture-seeds';
export { type PrecisionRecall, type PrecisionRecallOptions, precisionRecall } from './precision-recall';
export { type EvaluationPreset, evaluationPresets } from './presets';
export { psnr } from './psnr';
export { type ReadableOptions, readableImages } from './readable-images';
export {
  comparisonRows,
  type GenerationReport,
  generationReport,
  type ImagesReport,
  imagesReport,
  type ReportPicture,
  type TokenizerReport,
  tokenizerReport,
} from './report/evaluation-report';
export { addSection, escapeHtml, htmlPage, htmlPicture, htmlTable } from './report/html-page';
export { type Curve, type LineChartOptions, lineChart } from './report/line-chart';
export { sourceSection } from './report/source-section';
export { resizedBicubic } from './resized-bicubic';
export { resizedSource } from './resized-images';
export {
  BATCH,
  type Column,
  noStore,
  type Shard,
  type ShardIdentity,
  type ShardJob,
  type ShardStore,
} from './shard-store';
export { SiglipNetwork, type SiglipOptions, siglipExtractor } from './siglip';
export { type SsimOptions, ssim } from './ssim';
export { findStatistics, formatStatistics, readStatistics } from './statistics-arrays';
export { symmetricEigenvalues } from './symmetric-eigenvalues';
export { type TokenWorth, tokenWorth, worthTarget } from './token-worth';
export {
  noisyIndices,
  previewCounts,
  type Restoration,
  type RestorationFigures,
  type TokenizerFigureOptions,
  type TokenizerFigures,
  tokenizerFigures,
} from './tokenizer-figures';
