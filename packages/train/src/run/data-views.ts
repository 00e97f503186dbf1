import type { OpenDatasetOptions } from '@detailflow/data/node';
import type { CommonConfig, DataConfig } from '../training-config';

/** What opens and divides the data set of a run. */
export const openingOf = ({ data, seed }: Pick<CommonConfig, 'data' | 'seed'>): OpenDatasetOptions => {
  const { heldOut, groupBy, background, classNames, splitSeed = seed } = data;
  return { heldOut, groupBy, background, classNames, seed: splitSeed };
};

/** What decides how an image is seen in training. */
export const viewOf = ({ fit, background, zoom, flip, augment }: DataConfig) => ({
  ...{ fit, background, zoom, flip, augment },
});

/** What decides how it is seen when the model is measured. */
export const centerOf = ({ fit, background }: DataConfig) => ({ fit, background });
