import type { WeightDType } from '@detailflow/core';

/** How a decoder is held where a transformer is held in `dtype`: pictures show the errors of 4 bits, so it keeps 8. */
export const decoderDType = (dtype: WeightDType | undefined): WeightDType | undefined =>
  dtype === 'q4' ? 'q8' : dtype;
