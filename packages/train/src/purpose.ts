/** What random numbers are for. `@detailflow/data` has purposes of its own: 110, and from 200. */
export const Purpose = {
  initialise: 101,
  variant: 102,
  ranks: 103,
  revival: 104,
  labelDropout: 105,
  correction: 106,
  cropChoice: 107,
  dropout: 108,
  augmentation: 109,
  noiseIndex: 111,
  size: 112,
  perceptualDropout: 113,
  dropPath: 114,
  singular: 115,
} as const;
