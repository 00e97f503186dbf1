export type { FloatStorage } from './convert-floats';
export { type OpenFile, openFile, openFolder } from './node-files';
export { type BundleContents, type BundlePart, type WriteBundleOptions, writeBundle } from './write-bundle';
