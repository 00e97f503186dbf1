export { writeFileAtomically } from './atomic-file';
export type { FloatStorage } from './convert-floats';
export { digestFile } from './digest-file';
export { ioError, type OpenFile, openFile, openFolder } from './node-files';
export { openWeightsPath } from './open-weights-path';
export { readConfig } from './read-config';
export { type BundleContents, type BundlePart, type WriteBundleOptions, writeBundle } from './write-bundle';
export { type OfficialContents, writeOfficialFolder } from './write-official';
export { type TorchContents, writeTorchCheckpoint } from './write-torch';
