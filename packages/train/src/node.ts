export { type BundledRun, type BundleRunOptions, bundleRun } from './run/bundle-run';
export { readSnapshot, type Snapshot, writeSnapshot } from './run/checkpoint-file';
export { type CodeRows, CodeStore, type CodeStoreHeader } from './run/code-store';
export {
  type CodesWork,
  type OpenCodesWorkOptions,
  type OpenedCodesWork,
  openCodesWork,
} from './run/codes-work';
export type { EarlierTraining } from './run/earlier-training';
export { type CodesElsewhere, type CodesPart, type ExtractOptions, extractCodes } from './run/extract-codes';
export type { ImagesIdentity } from './run/images-identity';
export { type LossNetworkFiles, openLossNetworks } from './run/loss-networks';
export { isNumbered, numberedFolder } from './run/numbered-folder';
export { type CodesOf, OfficialCodes, writeOfficialCodes } from './run/official-codes';
export { readTraining } from './run/read-training';
export { type LogLine, type LogWriter, RunFolder, type Stage } from './run/run-folder';
export {
  runStage,
  type SavedCheckpoint,
  type StageOptions,
  type StageProgress,
  type Trainable,
} from './run/run-stage';
export { train } from './run/train';
export {
  type ClassifierProgress,
  type TrainClassifierOptions,
  type TrainedClassifier,
  trainClassifier,
} from './run/train-classifier';
export type {
  CodesProgress,
  InitialParameters,
  InitialPart,
  TrainingPart,
  TrainOptions,
  TrainResult,
} from './run/train-options';
export type { TrainedTokenizer } from './run/trained-tokenizer';
