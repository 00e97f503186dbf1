import { DetailFlowError } from '@detailflow/core';
import { evenlySpaced } from '@detailflow/data';

/** How near pictures lie to their nearest training images, and how near unseen real images lie to theirs. */
export interface Copies {
  /** Median distance of the features of pictures to their nearest training images. */
  readonly drawn: number;
  /** The same of held-out images. */
  readonly heldOut: number;
  /**
   * Share of the pictures that lie nearer to a training image than all but {@link COPY_QUANTILE} of the held-out images do:
   * as many as that would be no more than chance.
   */
  readonly share: number;
  /** Pictures and held-out images that were looked at, evenly spaced among all. */
  readonly looked: { readonly drawn: number; readonly heldOut: number };
}

/** Of held-out images so many lie nearer than the limit, by its definition. */
export const COPY_QUANTILE = 0.05;

/** Differences of features that are looked at: a minute or so. Never fewer pictures than the second number. */
const [MOST_WORK, FEWEST] = [1e10, 40];

/**
 * Tells memory from novelty, by features.
 * `drawn`, `heldOut`, `train`: features [n, width].
 * @param width of a row of features
 * @throws DetailFlowError `invalid-argument` where one of them is empty
 */
export function copies(
  { drawn, heldOut, train }: { drawn: Float32Array; heldOut: Float32Array; train: Float32Array },
  width: number,
): Copies {
  for (const [name, { length }] of Object.entries({ drawn, heldOut, train })) {
    if (length >= width) continue;
    throw new DetailFlowError('invalid-argument', `there are no features of ${name} images`);
  }
  const most = Math.max(FEWEST, Math.floor(MOST_WORK / train.length));
  const own = nearestDistances(someRows(drawn, width, most), train, width);
  const others = nearestDistances(someRows(heldOut, width, most), train, width).sort();
  const limit = others[Math.floor(COPY_QUANTILE * others.length)];
  const near = own.reduce((count, distance) => count + Number(distance < limit), 0);
  return {
    ...{ share: near / own.length, drawn: median(own.sort()), heldOut: median(others) },
    looked: { drawn: own.length, heldOut: others.length },
  };
}

/** Of every row the distance to the nearest of others. */
export function nearestDistances(of: Float32Array, among: Float32Array, width: number): Float64Array {
  const [n, m] = [of.length / width, among.length / width];
  return Float64Array.from({ length: n }, (_, i) => {
    let least = Number.POSITIVE_INFINITY;
    for (let j = 0; j < m; j++) {
      let sum = 0;
      for (let k = 0; k < width && sum < least; k++) sum += (of[i * width + k] - among[j * width + k]) ** 2;
      least = Math.min(least, sum);
    }
    return Math.sqrt(least);
  });
}

function someRows(features: Float32Array, width: number, most: number): Float32Array {
  const chosen = evenlySpaced(features.length / width, most);
  if (chosen.length * width === features.length) return features;
  const some = new Float32Array(chosen.length * width);
  for (const [to, from] of chosen.entries()) {
    some.set(features.subarray(from * width, (from + 1) * width), to * width);
  }
  return some;
}

function median(sorted: Float64Array): number {
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
