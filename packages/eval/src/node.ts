export { keptFeatures } from './run/feature-shards';
export { openExtractor } from './run/open-extractor';
