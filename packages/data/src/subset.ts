import type { ImageDataset } from './dataset';

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
