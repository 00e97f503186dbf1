import { DetailFlowError } from '@detailflow/core';
import type { ScaleTransformerConfig } from './scale-transformer';
import { places, sides } from './scales';

/** Of one sequence, 2 of which make a guided picture; the largest released model, of 512 pixels, needs 0.3 GiB. */
const MOST_SCORES = 2 ** 29;

/**
 * Every place of a scale attends to all places so far, so memory grows with the square of their number.
 * @throws DetailFlowError `config` naming the first scale whose scores take more than 0.5 GiB a sequence
 */
export function requireStepMemory({ scales, heads }: ScaleTransformerConfig, file?: string): void {
  let known = 0;
  for (const scale of scales) {
    known += places(scale);
    const bytes = 4 * heads * places(scale) * known;
    if (bytes <= MOST_SCORES) continue;
    throw new DetailFlowError(
      'config',
      `the scale ${sides(scale)} is too large: attention of its ${places(scale)} places to ${known} takes ${(bytes / 2 ** 30).toFixed(1)} GiB ` +
        `for each sequence (two a guided picture), several times over; the limit is ${MOST_SCORES / 2 ** 30} GiB. Give a smaller scale`,
      { file, entry: 'scales' },
    );
  }
}
