export { keptFeatures } from './run/feature-shards';
export { fileStamp } from './run/file-stamp';
export { openExtractor } from './run/open-extractor';
