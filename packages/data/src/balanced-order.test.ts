import { expect, test } from 'vitest';
import { BalancedOrder } from './balanced-order';
import { acrossClasses, evenlySpaced } from './some-images';

const labels = Int32Array.from([...Array(3).fill(0), ...Array(81).fill(1), ...Array(16).fill(4)]);
const visited = (balance: number, epochs = 1) => {
  const order = new BalancedOrder({ labels, balance, seed: 3 });
  return Array.from({ length: epochs * labels.length }, (_, i) => order.at(i));
};
const countsOf = (images: readonly number[]) =>
  [0, 1, 4].map((label) => images.filter((image) => labels[image] === label).length);

test('classes come as often as the balance says', () => {
  expect(countsOf(visited(0))).toEqual([3, 81, 16]);
  expect(countsOf(visited(1))).toEqual([34, 33, 33]);
  // square roots of 3, 81 and 16 are 1.73, 9 and 4
  expect(countsOf(visited(0.5))).toEqual([12, 61, 27]);
});

test('within a class all images come before any comes again', () => {
  for (const balance of [0, 0.5, 1]) {
    const images = visited(balance, 10);
    for (const label of [0, 1, 4]) {
      const own = images.filter((image) => labels[image] === label);
      const size = labels.filter((other) => other === label).length;
      for (let at = 0; at + size <= own.length; at += size) {
        expect(new Set(own.slice(at, at + size)).size).toBe(size);
      }
    }
  }
});

test('a position is all there is to save', () => {
  const [one, other] = [0, 1].map(() => new BalancedOrder({ labels, balance: 0.7, seed: 9 }));
  const later = other.batch(31, 7);
  expect(one.batch(0, 7)).not.toEqual(one.batch(1, 7));
  expect(one.batch(31, 7)).toEqual(later);
  expect(new BalancedOrder({ labels, balance: 0.7, seed: 10 }).batch(31, 7)).not.toEqual(later);
});

test('a class of one image and a data set of one class', () => {
  const order = new BalancedOrder({ labels: Int32Array.of(0, 1, 1, 1, 1, 1, 1, 1), balance: 0, seed: 0 });
  expect(new Set(order.batch(0, 8)).size).toBe(8);
  expect(new BalancedOrder({ labels: Int32Array.of(2, 2), balance: 1, seed: 0 }).batch(0, 2).sort()).toEqual([
    0, 1,
  ]);
  for (const balance of [-0.1, 1.1, Number.NaN]) {
    expect(() => new BalancedOrder({ labels, balance, seed: 0 })).toThrow(/balance/);
  }
});

test('a few images are of as many classes as can be', () => {
  const many = Int32Array.from({ length: 200 }, (_, i) => Math.floor(i / 10));
  for (const count of [1, 5, 8, 20, 57, 200, 300]) {
    const chosen = acrossClasses(many, count);
    expect(new Set(chosen).size).toBe(Math.min(count, 200));
    expect(new Set(chosen.map((image) => many[image])).size).toBe(Math.min(count, 20));
  }
  const classes = acrossClasses(many, 4).map((image) => many[image]);
  expect(Math.max(...classes) - Math.min(...classes)).toBeGreaterThan(10);
  expect(acrossClasses(labels, 100)).toHaveLength(100);
  expect(acrossClasses(new Int32Array(0), 3)).toEqual([]);
});

test('images in equal distances keep the shares of classes', () => {
  expect(evenlySpaced(10, 4)).toEqual([0, 2, 5, 7]);
  expect(evenlySpaced(3, 7)).toEqual([0, 1, 2]);
  expect(countsOf(evenlySpaced(100, 50))).toEqual([2, 40, 8]);
});
