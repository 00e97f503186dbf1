export { type AdamMoments, type AdamPlace, type AdamSettings, type AdamState, adamState } from './adam-state';
export { type Bundle, readBundle } from './bundle';
export { type BundleCard, parseBundleCard, type SamplingRecipe } from './bundle-card';
export { type ConfigObject, configObject, readJsonConfig, readYamlConfig } from './config-files';
export { crc32 } from './crc32';
export { decoderDType } from './decoder-dtype';
export type {
  Family,
  FamilyModel,
  GeneratorGraphs,
  ModelFiles,
  ModelGraph,
  ModelHalf,
  ReleasedFile,
  TextSizes,
  TokenizerHalf,
  TokenModelHalf,
} from './family';
export { bundleFamily, openFamilyBundle } from './family-bundle';
export {
  type FamilyHalves,
  type FoundHalf,
  type HalfRule,
  openHalves,
  recogniseHalves,
} from './family-halves';
export { familyOfHalves, type HalvesFamilyOptions, type ModelHalves } from './family-of-halves';
export { type HalfSettingsRule, requireStated } from './family-settings';
export { checkTreePath, type FileTree, fileTree, oneFileTree } from './file-tree';
export {
  type OfficialCheckpoint,
  type OfficialKind,
  type ReadOfficialOptions,
  readOfficialFolder,
} from './official-folder';
export { blobSource, droppedTree, type UrlTreeOptions, urlTree } from './page-files';
export { unsafePath } from './paths';
export { unpickle } from './pickle';
export {
  type PickleDict,
  PickleGlobal,
  PickleObject,
  PickleRecord,
  type PickleRules,
  type PickleSet,
  type PickleValue,
} from './pickle-value';
export { ForeignValue, plainValue } from './plain-value';
export { stateDict } from './state-dict';
export { openStateDicts, type StateDicts } from './state-dicts';
export { type ReadTorchOptions, readTorchCheckpoint, type TorchCheckpoint } from './torch-checkpoint';
export type { TorchValue } from './torch-globals';
export { TorchStorage, TorchTensor } from './torch-tensor';
export {
  newestCheckpoint,
  openTrainingCheckpoint,
  stepsMade,
  type TrainingCheckpoint,
} from './training-checkpoint';
export { isWeightsPath, openWeightFiles, type WeightFiles } from './weight-files';
export { withoutPrefixes } from './weight-names';
export { readZip, type ZipEntry } from './zip';
export { openMember, ZipMember } from './zip-member';
