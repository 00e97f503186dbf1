/** What random numbers of this package are for. */
export const Purpose = {
  order: 110,
  crop: 201,
  heldOut: 202,
  shape: 203,
  heldOutGroup: 204,
  classOrder: 205,
  augment: 206,
} as const;
