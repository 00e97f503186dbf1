export { type Dropout, feedForwardWidth, gptSizes as presets, type Parameters } from '@detailflow/blocks';
export {
  officialTokenModelConfig,
  type PresetName,
  parseTokenModelConfig,
  presetConfig,
  type TokenModelConfig,
  toOfficialTokenModelConfig,
} from './config';
export { type DrawGraphOptions, drawGraph } from './draw-graph';
export { forwardGraph, stepGraph } from './graphs';
export {
  forward,
  type PlaceInputs,
  type StepOptions,
  step,
  tokenModelWeights,
} from './model';
export { ignoredTokenModelWeights, tokenModelParameters } from './parameters';
export { PlaceKind, placeMask, ropeTables } from './positions';
export { gradualGuidance, groupSchedule } from './schedule';
export { createTokenModel, GroupTokenModel, type TokenModelOptions } from './token-model';
