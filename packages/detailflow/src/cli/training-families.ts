import { llamagenTraining, parTraining } from '@detailflow/llamagen/trainable';
import { type TrainableFamily, trainingPresets } from '@detailflow/train';
import { varTraining } from '@detailflow/var/trainable';

/** The families beside DetailFlow that `train` knows. */
export const trainingFamilies: readonly TrainableFamily[] = [llamagenTraining, parTraining, varTraining];

/** Names of the presets of all. */
export const presetNames: readonly string[] = [
  ...Object.keys(trainingPresets),
  ...trainingFamilies.flatMap(({ presets }) => Object.keys(presets)),
];
