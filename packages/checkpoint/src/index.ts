export { type Bundle, readBundle } from './bundle';
export { type BundleCard, parseBundleCard } from './bundle-card';
export { type ConfigObject, configObject } from './config-files';
export { crc32 } from './crc32';
export type { Family, FamilyModel, ModelFiles, ModelHalf } from './family';
export { checkTreePath, type FileTree, fileTree } from './file-tree';
export {
  type OfficialCheckpoint,
  type OfficialKind,
  type ReadOfficialOptions,
  readOfficialFolder,
} from './official-folder';
export { blobSource, droppedTree, type UrlTreeOptions, urlTree } from './page-files';
export { unsafePath } from './paths';
export { PickleGlobal, PickleObject, type PickleValue } from './pickle';
export {
  plainValue,
  type ReadTorchOptions,
  readTorchCheckpoint,
  stateDict,
  type TorchCheckpoint,
} from './torch-checkpoint';
export type { TorchValue } from './torch-globals';
export { TorchStorage, TorchTensor } from './torch-tensor';
export { isWeightsPath, openWeightFiles, type WeightFiles } from './weight-files';
export { readZip, type ZipEntry } from './zip';
export { openMember, ZipMember } from './zip-member';
