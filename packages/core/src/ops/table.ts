import type { OpDefinition } from '../op';
import { geluExactOp, geluOp, siluOp } from './activation';
import { attentionOp, cachedAttentionOp, ropeOp } from './attention';
import { averagePool2dOp, conv2dOp, maxPool2dOp } from './convolution';
import {
  addOp,
  cosOp,
  divOp,
  equalOp,
  erfOp,
  expOp,
  lessOp,
  logOp,
  maximumOp,
  mulOp,
  negOp,
  selectOp,
  sigmoidOp,
  sinOp,
  sqrtOp,
  stopGradientOp,
  straightThroughOp,
  subOp,
  tanhOp,
} from './elementwise';
import { gatherOp, scatterRowsOp, takeAlongOp, topKOp, writeRowsOp } from './indexing';
import { broadcastToOp, concatOp, reshapeOp, sliceOp, transposeOp } from './layout';
import { matmulOp } from './matmul';
import {
  inverseDeviationOp,
  l2NormaliseOp,
  layerNormOp,
  logSoftmaxOp,
  rmsNormOp,
  softmaxOp,
  standardiseOp,
} from './normalisation';
import { maxOp, sumOp } from './reduce';
import { writeRowsAtOp } from './write-rows-at';

const definitions: readonly { readonly name: string }[] = [
  negOp,
  expOp,
  logOp,
  sqrtOp,
  tanhOp,
  erfOp,
  sinOp,
  cosOp,
  sigmoidOp,
  addOp,
  subOp,
  mulOp,
  divOp,
  maximumOp,
  lessOp,
  equalOp,
  selectOp,
  stopGradientOp,
  straightThroughOp,
  matmulOp,
  conv2dOp,
  maxPool2dOp,
  averagePool2dOp,
  reshapeOp,
  transposeOp,
  broadcastToOp,
  sliceOp,
  concatOp,
  gatherOp,
  scatterRowsOp,
  takeAlongOp,
  writeRowsOp,
  writeRowsAtOp,
  topKOp,
  sumOp,
  maxOp,
  softmaxOp,
  logSoftmaxOp,
  inverseDeviationOp,
  standardiseOp,
  layerNormOp,
  rmsNormOp,
  l2NormaliseOp,
  geluOp,
  geluExactOp,
  siluOp,
  ropeOp,
  attentionOp,
  cachedAttentionOp,
];

/** Every operation by name. Primitives have `evaluate`, composites `decompose`. */
export const operations: ReadonlyMap<string, OpDefinition> = new Map(
  definitions.map((definition) => [definition.name, definition as OpDefinition]),
);
