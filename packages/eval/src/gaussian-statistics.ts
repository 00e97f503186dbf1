import { DetailFlowError, describe } from '@detailflow/core';
import { requireFinite } from './finite-features';
import { addRowSums } from './row-sums';

/** Mean and covariance of features, as the Frechet distance compares them. */
export interface Gaussian {
  /** [D] */
  readonly mean: Float64Array;
  /** [D, D], symmetric; divided by count - 1. */
  readonly covariance: Float64Array;
}

/** Rows that are taken in at once. */
const BLOCK = 256;

/**
 * Mean and covariance of features that come bit by bit, in float64. The order and the division into parts change
 * nothing beyond rounding.
 * Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
 */
export class GaussianStatistics {
  readonly width: number;
  #count = 0;
  readonly #mean: Float64Array;
  /** Sum of the products of deviations from the mean; the lower triangle, row by row in a full matrix. */
  readonly #scatter: Float64Array;

  /** @param width features of a row, D: 1 .. 16384 */
  constructor(width: number) {
    if (!Number.isInteger(width) || width < 1 || width > 16384) {
      throw new DetailFlowError(
        'invalid-argument',
        `the width is ${describe(width)}; give a whole number from 1 to 16384`,
      );
    }
    this.width = width;
    this.#mean = new Float64Array(width);
    this.#scatter = new Float64Array(width * width);
  }

  /** Rows taken in. */
  get count(): number {
    return this.#count;
  }

  /**
   * Takes rows in.
   * @param features [n, D]
   * @throws DetailFlowError `shape`, or `invalid-argument` when a feature is no finite number; nothing is taken in then
   */
  add(features: ArrayLike<number>): void {
    const { width } = this;
    requireFinite(features, width);
    const rows = features.length / width;
    for (let first = 0; first < rows; first += BLOCK) {
      this.#addBlock(features, first, Math.min(BLOCK, rows - first));
    }
  }

  /** Takes in what another one has taken in. @throws DetailFlowError `shape` when its width differs */
  merge(other: GaussianStatistics): void {
    if (other.width !== this.width) {
      throw new DetailFlowError(
        'shape',
        `statistics of ${other.width} features do not fit those of ${this.width}`,
      );
    }
    this.#combine(other.#count, other.#mean, other.#scatter);
  }

  /** @throws DetailFlowError `invalid-argument` with fewer than two rows */
  finish(): Gaussian {
    const { width } = this;
    if (this.#count < 2) {
      throw new DetailFlowError(
        'invalid-argument',
        `${this.#count} rows have no covariance; give at least two`,
      );
    }
    const covariance = new Float64Array(width * width);
    for (let i = 0; i < width; i++) {
      for (let j = 0; j <= i; j++) {
        const value = this.#scatter[i * width + j] / (this.#count - 1);
        covariance[i * width + j] = value;
        covariance[j * width + i] = value;
      }
    }
    return { mean: this.#mean.slice(), covariance };
  }

  #addBlock(features: ArrayLike<number>, first: number, count: number): void {
    const { width } = this;
    const mean = new Float64Array(width);
    for (let r = 0; r < count; r++) {
      for (let i = 0; i < width; i++) mean[i] += features[(first + r) * width + i];
    }
    for (let i = 0; i < width; i++) mean[i] /= count;
    // One row a feature, so that products run along rows.
    const deviations = new Float64Array(width * count);
    for (let r = 0; r < count; r++) {
      for (let i = 0; i < width; i++) deviations[i * count + r] = features[(first + r) * width + i] - mean[i];
    }
    this.#shift(count, mean);
    addRowSums(this.#scatter, deviations, deviations, {
      ...{ rows: width, columns: width, depth: count, lowerOnly: true },
    });
  }

  #combine(count: number, mean: Float64Array, scatter: Float64Array): void {
    this.#shift(count, mean);
    for (let i = 0; i < scatter.length; i++) this.#scatter[i] += scatter[i];
  }

  /** Moves the mean, and adds what the distance of the two means contributes. */
  #shift(count: number, mean: Float64Array): void {
    const { width } = this;
    const total = this.#count + count;
    if (total === 0) return;
    const weight = (this.#count * count) / total;
    const between = mean.map((value, i) => value - this.#mean[i]);
    if (weight > 0) {
      for (let i = 0; i < width; i++) {
        const scaled = weight * between[i];
        for (let j = 0; j <= i; j++) this.#scatter[i * width + j] += scaled * between[j];
      }
    }
    for (let i = 0; i < width; i++) this.#mean[i] += (between[i] * count) / total;
    this.#count = total;
  }
}
