export { writeFileAtomically } from './atomic-file';
export type { FloatStorage } from './convert-floats';
export { ioError, type OpenFile, openFile, openFolder } from './node-files';
export { readConfig } from './read-config';
export { type BundleContents, type BundlePart, type WriteBundleOptions, writeBundle } from './write-bundle';
