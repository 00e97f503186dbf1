import type { Guidance, SamplingDefaults, ScheduleStep, TokenChoice } from '@detailflow/core';
import type { Scale } from './scales';

/** VAR: none at the first scale, growing to 1 + cfg at the last. Source: docs/family/var.md section 3. */
export const growingGuidance: Guidance = ({ index, steps }, cfg) =>
  1 + (steps > 1 ? (cfg * index) / (steps - 1) : 0);

/** What a limit of FlexVAR's sampler is compared with; its own lists are square. */
const longSide = ({ rows, columns }: Scale): number => Math.max(rows, columns);

/** FlexVAR: growing up to the tenth scale, and beyond 1 after it; full at scales larger than `largest`. */
export const flexGuidance =
  (scales: readonly Scale[], largest: number): Guidance =>
  ({ index, steps }, cfg) => {
    const ratio = steps > 1 ? index / Math.min(steps - 1, 9) : 0;
    return 1 + (longSide(scales[index]) <= largest ? cfg * ratio : cfg);
  };

/** Scales at which FlexVAR draws; it takes the most likely token at others. */
const DRAWN_SCALES: readonly number[] = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 23, 24, 32];

/** FlexVAR takes the most likely token at scales that it was not tuned for, and at those above `largest`. */
export const flexChoice =
  (scales: readonly Scale[], largest: number) =>
  ({ index }: ScheduleStep, choice: TokenChoice): TokenChoice => {
    const { rows, columns } = scales[index];
    const isDrawn = longSide(scales[index]) <= largest && (rows !== columns || DRAWN_SCALES.includes(rows));
    return isDrawn ? choice : { ...choice, topK: 1 };
  };

/** Settings of the official evaluations. */
export const VAR_SAMPLING: Partial<SamplingDefaults> = {
  cfg: 1.5,
  guidance: 'growing',
  topK: 900,
  topP: 0.96,
};
export const FLEXVAR_SAMPLING: Partial<SamplingDefaults> = {
  cfg: 2.5,
  guidance: 'growing',
  topK: 900,
  topP: 0.95,
};
