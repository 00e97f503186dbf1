export {
  placeKinds,
  sequenceIds,
  type TrainableDrawingModel,
  type TrainableFamily,
  type TrainableTokenizer,
  type TrainableTokenModel,
} from '@detailflow/blocks';
export {
  type ClassifierRecipe,
  ClassifierTrainer,
  type ClassifierTrainerOptions,
} from './classifier-trainer';
export type { DiscriminatorConfig } from './discriminator-settings';
export {
  type FamilyTrainingConfig,
  parseRunSettings,
  type RunConfig,
  type RunSettings,
  type RunSettingsOptions,
} from './family-config';
export { type Arrays, initialClassifier, initialTokenizer, initialTokenModel } from './initialise';
export { Learner, type LearnerOptions, type ParameterGroup, type ReplicatedExecutable } from './learner';
export {
  type AdversarialRecipe,
  adaptiveWeight,
  type DiscriminatorGraphOptions,
  discriminatorStepGraph,
  generatorLoss,
} from './losses/adversarial';
export type { AdversaryReport } from './losses/adversary';
export {
  type AlignmentRecipe,
  type AlignmentTarget,
  alignmentLoss,
  alignmentSpecs,
} from './losses/alignment';
export {
  type Augmentation,
  type AugmentationStrength,
  augment,
  augmentationInputs,
  type DrawAugmentation,
  drawAugmentation,
  strongAugmentation,
  weakAugmentation,
} from './losses/augmentation';
export {
  blurGan,
  type Discriminator,
  type DiscriminatorReading,
  dinoGan,
  discriminatorSpecs,
  discriminatorWeights,
  patchGan,
  readDiscriminator,
  styleGan,
} from './losses/discriminator';
export { type LossNetworks, lossTerms } from './losses/loss-networks';
export type { LossTerm, StepMoment, StepPart } from './losses/loss-term';
export {
  classifierNetwork,
  lpipsNetwork,
  type PerceptualNetwork,
  type PerceptualRecipe,
  perceptualLoss,
  perceptualSpecs,
  siglipNetwork,
  vitNetwork,
} from './losses/perceptual';
export {
  type PatchFeatures,
  type RepaRecipe,
  repaFeeds,
  repaLoss,
  repaSpecs,
} from './losses/repa';
export {
  accumulateGradients,
  Buffer,
  type BufferKind,
  type OptimiserOptions,
  type OptimiserStep,
  optimiserFeeds,
  optimiserGraph,
  sharedParameters,
} from './optimiser';
export { type PlainTokenizerGraphOptions, plainTokenizerStepGraph } from './plain-tokenizer-graph';
export type { PlainTokenizerRecipe, PlainTokenizerStepReport } from './plain-tokenizer-recipe';
export { PlainTokenizerTrainer, type PlainTokenizerTrainerOptions } from './plain-tokenizer-trainer';
export { trainingPresets } from './presets';
export { Purpose } from './purpose';
export { CodeRevival, type RevivalOptions } from './revival';
export { type ScheduleOptions, tokenizerSchedule, tokenModelSchedule } from './schedule';
export { drawStepImages, keptImages, nearestSize, type SizeRecipe, type StepImages } from './step-size';
export {
  dropoutMasks,
  dropPathMasks,
  dropPathRate,
  sequenceStepGraph,
  type TokenModelDropping,
  type TokenModelGraphOptions,
  tokenModelLossGraph,
  tokenModelStepGraph,
} from './token-model-graph';
export {
  type CodeBatch,
  type TokenModelRecipe,
  type TokenModelStepReport,
  TokenModelTrainer,
  type TokenModelTrainerOptions,
} from './token-model-trainer';
export {
  type ImageLossContext,
  type LossContext,
  type PixelLoss,
  pixelDistance,
  type TokenizerGraphOptions,
  tokenizerStepGraph,
} from './tokenizer-graph';
export { frozenBy, type TokenizerRecipe, type TokenizerStepReport } from './tokenizer-recipe';
export { TokenizerTrainer, type TokenizerTrainerOptions } from './tokenizer-trainer';
export {
  drawRanks,
  drawVariant,
  noiseEnd,
  type StepVariant,
  type VariantOptions,
  variantFeeds,
  variantTarget,
} from './tokenizer-variant';
export {
  type CommonConfig,
  type DataConfig,
  mergeSettings,
  parseTrainingConfig,
  type TrainingConfig,
} from './training-config';
