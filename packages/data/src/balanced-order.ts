import { DetailFlowError, RandomStream } from '@detailflow/core';
import { EpochOrder } from './epoch-order';
import { Purpose } from './purpose';

/** In which order images are visited, by position alone. */
export interface VisitOrder {
  /** The images of a step, each batch following on the one before. */
  batch(step: number, size: number): number[];
}

/**
 * An order in which small classes come more often: of an epoch of as many visits as there are images, a class of n
 * images gets a share that grows as n^(1 - balance); with 1 all classes come as often, with 0 all images do.
 * Within a class all images come once before any comes again.
 */
export class BalancedOrder implements VisitOrder {
  /** Visits of an epoch by class. */
  readonly visits: readonly number[];
  readonly #classes: readonly { readonly images: readonly number[]; readonly order: EpochOrder }[];
  readonly #length: number;
  readonly #seed: number;
  #epoch = -1;
  /** Of every visit of the epoch its class, and how many of that class come before it. */
  #label = new Uint32Array(0);
  #rank = new Uint32Array(0);

  /** `balance`: from 0 to 1. */
  constructor({ labels, balance, seed }: { labels: Int32Array; balance: number; seed: number }) {
    if (labels.length === 0) throw new DetailFlowError('invalid-argument', 'there are no images');
    if (!(balance >= 0 && balance <= 1)) {
      throw new DetailFlowError('invalid-argument', `balance is ${balance}; give a number from 0 to 1`);
    }
    const images = new Map<number, number[]>();
    for (const [i, label] of labels.entries()) {
      const known = images.get(label);
      if (known) known.push(i);
      else images.set(label, [i]);
    }
    this.#classes = [...images]
      .sort(([a], [b]) => a - b)
      .map(([label, of]) => ({
        images: of,
        order: new EpochOrder({ length: of.length, seed: seed + 7919 * (label + 1) }),
      }));
    const weights = this.#classes.map(({ images: of }) => of.length ** (1 - balance));
    this.visits = apportion(weights, labels.length);
    this.#length = this.visits.reduce((a, b) => a + b, 0);
    this.#seed = seed;
  }

  /** The image of a visit; visits are counted from 0 through all epochs. */
  at(position: number): number {
    const epoch = Math.floor(position / this.#length);
    if (epoch !== this.#epoch) this.#begin(epoch);
    const place = position % this.#length;
    const label = this.#label[place];
    const { images, order } = this.#classes[label];
    return images[order.at(epoch * this.visits[label] + this.#rank[place])];
  }

  batch(step: number, size: number): number[] {
    return Array.from({ length: size }, (_, i) => this.at(step * size + i));
  }

  #begin(epoch: number): void {
    const label = Uint32Array.from(this.visits.flatMap((count, i) => new Array<number>(count).fill(i)));
    const random = new RandomStream({ seed: this.#seed, purpose: Purpose.classOrder, position: epoch });
    for (let i = label.length - 1; i > 0; i--) {
      const j = random.integer(i + 1);
      [label[i], label[j]] = [label[j], label[i]];
    }
    const seen = this.visits.map(() => 0);
    this.#rank = Uint32Array.from(label, (one) => seen[one]++);
    this.#label = label;
    this.#epoch = epoch;
  }
}

/** Whole numbers as near to the weights as can be, each at least 1, by the largest remainders. */
function apportion(weights: readonly number[], total: number): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const exact = weights.map((weight) => (weight / sum) * total);
  const counts = exact.map((share) => Math.max(1, Math.floor(share)));
  const byRemainder = exact.map((share, i) => [share - Math.floor(share), i]).sort(([a], [b]) => b - a);
  let spare = total - counts.reduce((a, b) => a + b, 0);
  for (const [, i] of byRemainder) {
    if (spare <= 0) break;
    counts[i]++;
    spare--;
  }
  return counts;
}
