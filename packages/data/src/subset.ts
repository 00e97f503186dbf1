import { checkOptions, DetailFlowError, RandomStream } from '@detailflow/core';
import type { ImageDataset } from './dataset';
import { Purpose } from './purpose';

/** Some images of a data set, in the order given, under a name of their own. Closing it closes the data set. */
export function subset(dataset: ImageDataset, indices: ArrayLike<number>, name = dataset.name): ImageDataset {
  const { names } = dataset;
  return {
    name,
    classNames: dataset.classNames,
    labels: Int32Array.from({ length: indices.length }, (_, i) => dataset.labels[indices[i]]),
    ...(names && { names: Array.from({ length: indices.length }, (_, i) => names[indices[i]]) }),
    image: (index) => dataset.image(indices[index]),
    ...(dataset.digest && { digest: (index: number) => digestOf(dataset, indices[index]) }),
    close: () => dataset.close?.() ?? Promise.resolve(),
  };
}

const digestOf = (dataset: ImageDataset, index: number) =>
  (dataset.digest as NonNullable<ImageDataset['digest']>)(index);

/**
 * Divides the images of a data set: each is held out with probability `share`, by its number and the seed alone.
 * @throws DetailFlowError `invalid-argument` when one side would be empty
 */
export function holdOut(
  dataset: ImageDataset,
  options: { readonly share: number; readonly seed: number },
): { train: ImageDataset; heldOut: ImageDataset } {
  checkOptions('holdOut', options, { share: true, seed: true });
  const { share, seed } = options;
  const random = new RandomStream({ seed, purpose: Purpose.heldOut, position: 0 });
  const train: number[] = [];
  const heldOut: number[] = [];
  for (let i = 0; i < dataset.labels.length; i++) (random.uniform() < share ? heldOut : train).push(i);
  if (heldOut.length === 0) heldOut.push(...train.splice(-1));
  if (train.length === 0) {
    throw new DetailFlowError(
      'invalid-argument',
      `${dataset.labels.length} images are too few to hold ${share} of them out`,
      { file: dataset.name },
    );
  }
  const { name } = dataset;
  const part = `${share} by seed ${seed}`;
  return {
    train: subset(dataset, train, `${name} without ${part}`),
    heldOut: subset(dataset, heldOut, `${name}, ${part}`),
  };
}
