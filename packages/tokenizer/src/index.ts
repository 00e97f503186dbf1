export { attentionMask, type MaskOptions } from './attention-mask';
export { CodebookUsage } from './codebook-usage';
export {
  type OfficialTokenizerFiles,
  officialTokenizerConfig,
  parseTokenizerConfig,
  resolutionSettings,
  type TokenizerConfig,
  type TowerConfig,
  toOfficialTokenizerConfig,
} from './config';
export { decoderGraph, encoderGraph } from './graphs';
export { createMixtureTokenizer, MixtureTokenizer } from './mixture-tokenizer';
export {
  codebookEntries,
  decoderTower,
  embedPatches,
  encoderTower,
  groupSimilarity,
  initialLatents,
  isNormalised,
  NEAREST_CODES,
  nearestCodes,
  type Parameters,
  patchify,
  placedEmbedding,
  positionEmbedding,
  postQuantise,
  preQuantise,
  refinedLatents,
  tokenizerWeights,
  toPixels,
  tower,
  unpatchify,
} from './model';
export { ignoredTokenizerWeights, isOfDecoder, tokenizerParameters } from './parameters';
export { placementMatrix } from './placement';
export {
  createResolutionMap,
  type Degradation,
  type ResolutionMap,
  type ResolutionMapOptions,
} from './resolution-map';
export { encodedSizes, tokensOfSize } from './size-tokens';
export {
  type CorrectedCodes,
  type CorrectionOptions,
  createTokenizer,
  type SizedTokenizer,
  Tokenizer,
  type TokenizerOptions,
} from './tokenizer';
