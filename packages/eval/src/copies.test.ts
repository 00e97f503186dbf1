import { RandomStream } from '@detailflow/core';
import { expect, test } from 'vitest';
import { copies, nearestDistances } from './copies';

const width = 4;
const rows = (count: number, seed: number) => {
  const random = new RandomStream({ seed, purpose: 1, position: 0 });
  return Float32Array.from({ length: count * width }, () => random.normal());
};

test('distances are those to the nearest row', () => {
  const among = Float32Array.of(0, 0, 0, 0, 3, 4, 0, 0);
  expect([...nearestDistances(Float32Array.of(0, 0, 0, 2, 3, 4, 1, 0), among, width)]).toEqual([2, 1]);
});

test('fresh pictures are as near as held-out ones, copies all nearer', () => {
  const [train, heldOut] = [rows(400, 1), rows(400, 2)];
  const fresh = copies({ drawn: rows(400, 3), heldOut, train }, width);
  expect(fresh.share).toBeGreaterThan(0.02);
  expect(fresh.share).toBeLessThan(0.09);
  expect(fresh.drawn / fresh.heldOut).toBeCloseTo(1, 0);
  const itself = copies({ drawn: heldOut, heldOut, train }, width);
  expect(itself.share).toBeCloseTo(0.05, 2);
  const stolen = train.slice(0, 100 * width).map((x) => x + 0.001);
  expect(copies({ drawn: stolen, heldOut, train }, width)).toMatchObject({ share: 1 });
  const far = rows(50, 4).map((x) => x + 50);
  expect(copies({ drawn: far, heldOut, train }, width).share).toBe(0);
});

test('nothing to compare with is refused by name', () => {
  const some = rows(3, 1);
  expect(() => copies({ drawn: some, heldOut: new Float32Array(0), train: some }, width)).toThrow(/heldOut/);
});
