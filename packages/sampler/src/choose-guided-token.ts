import type { TokenChoice } from '@detailflow/core';
import { checkLogits, drawToken, filterLogits, mostLikelyToken, softmax } from './choose-token';
import { guide } from './guidance';

export interface GuidedChoice {
  /** Logits [V] of the sequence, and of the one without condition where it is guided. */
  readonly own: Float32Array;
  readonly other?: Float32Array;
  /** 1 for no guidance. */
  readonly scale: number;
  readonly choice: TokenChoice;
  /** Exp(1) draws [V]; without them the most likely token is taken. */
  readonly noise?: () => Float32Array;
  /** Place of the token, for messages. */
  readonly place: number;
  /** Working space [V]. */
  readonly row: Float32Array;
}

/** The token of one place. @throws DetailFlowError `runtime` when its logits are not all finite */
export function chooseToken({ own, other, scale, choice, noise, place, row }: GuidedChoice): number {
  if (other && scale !== 1) guide(own, other, scale, row);
  else row.set(own);
  checkLogits(row, place);
  return noise ? drawToken(softmax(filterLogits(row, choice)), noise()) : mostLikelyToken(row);
}
